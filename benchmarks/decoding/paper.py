"""The configuration and the decoders of the LDM paper for its hippocampal recording (Mikulasch & Zenke 2026, Fig. 4).

The covariance of the filter becomes the interval of the behavior. The linear decoder propagates it analytically, and
the perceptron by samples of the state. Neither has a residual error or a calibration.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from measure import Stopwatch
from scipy.special import ndtri

from decoding.baselines.ridge import embed, unembed
from decoding.predictions import SamplePrediction
from decoding.tasks import Data, Task
from kalmanssl.data import Latents, join_bins

__all__ = ["Readout", "decode_paper", "fit_paper"]

SAMPLES = 1000  # of the state per bin, as in the paper
HIDDEN = (100, 100)  # of the perceptron, which the paper does not state
BINS = 2000  # decoded at a time

Readout = Literal["MLP", "linear"]


def fit_paper(data: Data, seed: int, settings: dict[str, Any], running: bool) -> tuple[Any, float]:
    """Fit the model on all bins of the training part, or on its joined running bins; return it and the CPU seconds."""
    import kalmanssl as ks

    def fit() -> tuple[Any, float]:
        recording = join_bins(data.train, data.running_train) if running else data.train
        arguments = ks.recipes.hippocampus() | settings
        with Stopwatch() as stopwatch:
            model = ks.KalmanSSL(**arguments, random_state=seed, progress=False).fit(recording)
        return model, stopwatch.cpu

    return data.cache.get(("paper", seed, running), fit)


def decode_paper(
    task: Task, seed: int, readout: Readout, settings: dict[str, Any]
) -> tuple[SamplePrediction, float, float]:
    """Decode the test part with the filter; return the prediction, and the CPU seconds of the fits and of decoding."""
    data, period = task.data, task.target.period
    running = task.fitted_on == "running"
    model, model_cpu_s = fit_paper(data, seed, settings, running)
    with Stopwatch() as fitting:
        latents, behavior = model.transform(data.train), embed(task.train, period)
        if running:
            latents = model.transform(join_bins(data.train, data.running_train))
            behavior = behavior[data.running_train]
        known = np.isfinite(behavior).all(axis=1)
        decoder = (MLPDecoder if readout == "MLP" else LinearDecoder)(latents.mean[known], behavior[known], seed)
    with Stopwatch() as decoding:
        latents = model.transform(data.test)
        parts = [slice(first, first + BINS) for first in range(0, len(latents), BINS)]
        samples = np.concatenate([unembed(decoder.samples(latents[part]), period) for part in parts])
    return SamplePrediction(samples, period), model_cpu_s + fitting.cpu, decoding.cpu


class LinearDecoder:
    """Least squares on posterior means; the covariance of the behavior is that of the state, W P W'."""

    def __init__(self, mean: np.ndarray, behavior: np.ndarray, seed: int) -> None:
        self.center, self.offset = mean.mean(axis=0), behavior.mean(axis=0)
        self.weight = np.linalg.lstsq(mean - self.center, behavior - self.offset, rcond=None)[0]
        # Evenly spaced quantiles of a Gaussian, so that marginals of the samples are exact.
        quantiles = ndtri((np.arange(SAMPLES) + 0.5) / SAMPLES)
        rng = np.random.default_rng(seed)
        self.normal = np.stack([rng.permutation(quantiles) for _ in range(behavior.shape[1])], axis=1)

    def samples(self, latents: Latents) -> np.ndarray:
        """Return samples of the behavior, (time, samples, dims)."""
        means = (latents.mean - self.center) @ self.weight + self.offset
        used = latents.covariances.used()
        covs = self.weight.T @ used.table.astype(float) @ self.weight
        roots = np.linalg.cholesky(
            covs + 1e-12 * np.trace(covs, axis1=1, axis2=2)[:, None, None] * np.eye(len(covs[0]))
        )
        return means[:, None] + np.einsum("tde,se->tsd", roots[used.index], self.normal)


class MLPDecoder:
    """Perceptron on posterior means; the behavior is its output for samples of the state."""

    def __init__(self, mean: np.ndarray, behavior: np.ndarray, seed: int) -> None:
        from sklearn.neural_network import MLPRegressor

        self.center, self.scale = mean.mean(axis=0), mean.std(axis=0) + 1e-9
        self.offset, self.size = behavior.mean(axis=0), behavior.std(axis=0) + 1e-9
        self.network = MLPRegressor(
            hidden_layer_sizes=HIDDEN, max_iter=100, n_iter_no_change=5, early_stopping=True, random_state=seed
        )
        target = (behavior - self.offset) / self.size
        self.network.fit(((mean - self.center) / self.scale).astype(np.float32), target.astype(np.float32).squeeze())
        self.normal = np.random.default_rng(seed).standard_normal((SAMPLES, mean.shape[1])).astype(np.float32)

    def samples(self, latents: Latents) -> np.ndarray:
        """Return samples of the behavior, (time, samples, dims)."""
        used = latents.covariances.used()
        roots = used.scaled(self.scale).square_roots().astype(np.float32)
        means = ((latents.mean - self.center) / self.scale).astype(np.float32)
        found = []
        for mean, root in zip(means, roots[used.index], strict=True):
            found.append(self.network.predict(mean + self.normal @ root.T).reshape(SAMPLES, -1))
        return np.stack(found) * self.size + self.offset
