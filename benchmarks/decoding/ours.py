"""Our model and decoder with default settings, through the public interface.

This is the only module that uses the decoder of the library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from measure import Stopwatch

from decoding.baselines.neighbors import Features
from decoding.predictions import wrap
from decoding.tasks import Data, Task

__all__ = ["DecodedPrediction", "FittedModel", "decode_latents", "decode_ours", "infer_latents", "latent_features"]


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model and what decoders are fitted on.

    Attributes
    ----------
    model : KalmanSSL
    latents : dict
        Latents of "train" and "test", filtered (False) and smoothed (True), by (part, smoothed).
    held_out_fits : sequence
        Of `kalmanssl.cross_fit`.
    fit_cpu_s : float
        CPU seconds of the model and the held-out fits, without the latents of the test part.
    """

    model: Any
    latents: dict[tuple[str, bool], Any]
    held_out_fits: Any
    fit_cpu_s: float


def fit_model(data: Data, seed: int, settings: dict[str, Any]) -> FittedModel:
    """Fit the model on the activity of the training part, once for all behaviors of a recording."""
    return data.cache.get(("ours", seed), lambda: _fit_model(data, seed, settings))


def _fit_model(data: Data, seed: int, settings: dict[str, Any]) -> FittedModel:
    import kalmanssl as ks

    with Stopwatch() as stopwatch:
        model = ks.KalmanSSL(random_state=seed, progress=False, **settings).fit(data.train)
    return infer_latents(model, data, stopwatch.cpu)


def infer_latents(model: Any, data: Data, fit_cpu_s: float) -> FittedModel:
    """Infer the latents of both parts, and those of held-out fits; `fit_cpu_s` are the CPU seconds of the model."""
    import kalmanssl as ks

    with Stopwatch() as stopwatch:
        held_out_fits = ks.cross_fit(model, data.train)
        latents = {("train", smooth): model.transform(data.train, smooth=smooth) for smooth in (False, True)}
    latents |= {("test", smooth): model.transform(data.test, smooth=smooth) for smooth in (False, True)}
    return FittedModel(model, latents, held_out_fits, fit_cpu_s + stopwatch.cpu)


def decode_ours(
    task: Task, seed: int, smooth: bool, settings: dict[str, Any], decoder_settings: dict[str, Any]
) -> tuple[DecodedPrediction, float, float]:
    """Fit the model and decode the test part; see `decode_latents`."""
    return decode_latents(fit_model(task.data, seed, settings), task, seed, smooth, decoder_settings)


def decode_latents(
    fitted: FittedModel, task: Task, seed: int, smooth: bool, decoder_settings: dict[str, Any]
) -> tuple[DecodedPrediction, float, float]:
    """Decode the test part; return the prediction, and the CPU seconds of the fits and of decoding.

    One decoder is fitted for filtered and smoothed latents; its time counts for both.
    """
    import kalmanssl as ks

    data = task.data

    def fit() -> tuple[Any, float]:
        with Stopwatch() as stopwatch:
            decoder = ks.PositionDecoder(period=task.target.period, random_state=seed, **decoder_settings).fit(
                fitted.latents["train", False],
                data.train.behavior[task.target.behavior],
                smoothed=fitted.latents["train", True],
                held_out_fits=fitted.held_out_fits,
            )
        return decoder, stopwatch.cpu

    decoder, fit_cpu_s = data.cache.get(("our decoder", fitted, seed, task.target.name), fit)
    with Stopwatch() as decoding:
        decoded = decoder.predict(fitted.model.transform(data.test, smooth=smooth))
    return DecodedPrediction(decoded, task.target.period), fitted.fit_cpu_s + fit_cpu_s, decoding.cpu


def latent_features(seed: int, settings: dict[str, Any]) -> Features:
    """Return the means of the filtered latents, which depend on past and present activity alone."""

    def make(data: Data, part: str) -> np.ndarray:
        return np.asarray(fit_model(data, seed, settings).latents[part, False].mean, dtype=np.float32)

    return Features(f"latents {seed}", make)


class DecodedPrediction:
    """A `kalmanssl.decoding.DecodedPosition` as a `decoding.predictions.Prediction`."""

    def __init__(self, decoded: Any, period: float | None) -> None:
        self.decoded, self.period = decoded, period

    @staticmethod
    def _columns(values: np.ndarray) -> np.ndarray:
        return np.asarray(values, dtype=float).reshape(len(values), -1)

    @property
    def mean(self) -> np.ndarray:
        """Point estimate."""
        return self._columns(self.decoded.mean)

    def quantile(self, q: float) -> np.ndarray:
        """Return the marginal quantiles, from the ends of the central intervals; near the point estimate on circles."""
        level = max(abs(2 * q - 1), 1e-6)
        lower, upper = (self._columns(bound) for bound in self.decoded.interval(level))
        if self.period is not None:  # one turn for both ends
            middle = (lower + upper) / 2
            turn = self.mean + wrap(middle - self.mean, self.period) - middle
            lower, upper = lower + turn, upper + turn
        return lower if q < 0.5 else upper

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Return the continuous ranked probability scores of the marginals."""
        shape = np.shape(self.decoded.mean)
        return self._columns(self.decoded.crps(truth.reshape(shape)))

    def draw(self, count: int, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray | None:
        """Return joint samples, if the decoder has a joint distribution."""
        if not hasattr(self.decoded, "sample"):
            return None
        drawn = self.decoded[rows].sample(count, rng)
        return np.moveaxis(drawn.reshape(count, len(rows), -1), 0, 1)
