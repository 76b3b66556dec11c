"""Tests of the assumptions of the identifiability theorem on data, with a verdict and an effect size for each.

Theorem 1 of the LDM paper: if the latents follow N(m(past), Σ) with a constant invertible Σ, the predicted means span
the latent space, the model matches this distribution, and the encoder is injective on the data, then the learned
latents equal the true ones up to an affine map. All of these conditions, except the existence of true latents, can be
tested on a fitted model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kalmanssl.data import Recording, Trials, as_recording, is_pynapple
from kalmanssl.errors import InputError
from kalmanssl.identifiability import _assumption_rows as rows
from kalmanssl.identifiability import _residual_statistics as statistics
from kalmanssl.identifiability._covariance import covariance
from kalmanssl.identifiability._frames import (
    Frames,
    as_segments,
    as_sequences,
    check_same_frames,
    covariance_sequences,
    flatten,
)
from kalmanssl.identifiability._injectivity import folding_entropy, neighbor_violation
from kalmanssl.identifiability._report import AssumptionReport
from kalmanssl.kalman import whiten
from kalmanssl.models import SequenceModel

__all__ = ["check_assumptions", "check_latents"]

_WINDOWS = 64
_PAST = 12

Predictor = Callable[[Tensor], Tensor]


def check_assumptions(
    model: Any, data: Any, *, true: Any = None, burn_in: int = 10, lags: int = 10, random_state: int = 0
) -> AssumptionReport:
    """Test the assumptions of the identifiability theorem for a fitted model, preferably on held-out data.

    Parameters
    ----------
    model : KalmanSSL or SequenceModel
        Its predictor must be Gaussian.
    data : Recording, object of pynapple, array (time, features), or a list of trials
        Input of `KalmanSSL.transform`; for a SequenceModel also (batch, time, features). If a KalmanSSL interleaves
        several sequences, only the last one is used: steps of different sequences share bins and therefore noise, which
        would look like non-injectivity.
    true : (time, dims) or (batch, time, dims), optional
        True latents of the frames of `data`, if they are known. Injectivity is then also tested on them.
    burn_in : int
        Number of steps to discard at the start of each sequence, while the filter converges.
    lags : int
        Maximum lag of the autocorrelation of the residuals, steps.
    random_state : int
        Seed for random subsets of frames.

    Returns
    -------
    AssumptionReport
        ``print(report.summary())`` shows it.

    Raises
    ------
    InputError
        If the model has another type or its predictions are not Gaussian, or the data do not match it or are too short.

    Notes
    -----
    A verdict is based on the effect size minus what chance explains; p-values are in `numbers`. "Holds" means that this
    statistic found no violation. The docstrings of the statistics state what they cannot detect.
    """
    from kalmanssl.estimator import KalmanSSL
    from kalmanssl.training import interleave

    if isinstance(model, KalmanSSL):
        data = as_recording("data", data, model.bin_size_) if is_pynapple(data) else data
        features = [sequences[-1].double() for sequences in model.encoder_input(data)]
        module = copy.deepcopy(model.model_).double().eval()
        lengths = _segment_lengths(data)
        labels: list[np.ndarray] | None = None
        if true is not None:
            rows_of_data, given = sum(lengths), np.asarray(true, dtype=float)
            if given.ndim != 2 or len(given) != rows_of_data or not np.isfinite(given).all():
                raise InputError(
                    f"true must be finite with shape ({rows_of_data}, dims), one row per bin; got shape {given.shape}",
                    parameter="true",
                )
            parts = np.split(given, np.cumsum(lengths)[:-1])
            labels = [interleave(part, model.bins_per_step_)[-1] for part in parts]
        # The first step can contain padding.
        burn_in = max(burn_in, 1)
    elif isinstance(model, SequenceModel):
        module = copy.deepcopy(model).double().eval()
        features = [torch.from_numpy(x) for x in as_sequences("data", as_segments(data))]
        labels = None if true is None else as_sequences("true", true)
    else:
        raise InputError(
            f"model must be a KalmanSSL or a SequenceModel, got {type(model).__name__}; use check_latents for others",
            parameter="model",
        )
    latents, means, covs = [], [], []
    for group in _batches_of_equal_length(features):
        latent, mean, cov = _predict(module, group)
        latents += list(latent)
        means += list(mean)
        covs += cov
    windows = _windows(features, latents, random_state)
    jacobians = None
    if windows is not None:
        inputs, past = windows
        jacobians = _jacobians(lambda z: _gaussian(module.predictor(z, inputs)).mean[:, -1], past)[:, :, :-1]
    return _check(
        flatten(latents, means, covs, [f.numpy() for f in features], labels, burn_in), jacobians, lags, random_state
    )


def _segment_lengths(data: Any) -> list[int]:
    """Return the number of bins of each segment of a recording, an array or a list of trials."""
    if isinstance(data, Recording):
        return [s.stop - s.start for s in data.segments()]
    if isinstance(data, list | tuple | Trials) and all(hasattr(one, "shape") and len(one.shape) == 2 for one in data):
        return [length for one in data for length in _segment_lengths(one)]
    return [len(data)]


def check_latents(
    latents: Any,
    predicted_mean: Any,
    predicted_cov: Any = None,
    *,
    data: Any = None,
    true: Any = None,
    predictor: Predictor | None = None,
    jacobians: np.ndarray | None = None,
    burn_in: int = 0,
    lags: int = 10,
    random_state: int = 0,
) -> AssumptionReport:
    """Test the assumptions of the identifiability theorem on latents and one-step predictions of any model.

    Parameters
    ----------
    latents, predicted_mean : (batch, time, dim), or list of (time, dim)
        Latents, and their predicted means given the past.
    predicted_cov : (dim, dim), (batch, time, dim, dim), or list of (time, dim, dim), optional
        Predicted covariances. Without them, the predicted covariance is not tested.
    data : (batch, time, features), or list of (time, features), optional
        Input of the encoder. Without it and without `true`, injectivity is not tested.
    true : (batch, time, dims), or list of (time, dims), optional
        True latents.
    predictor : callable, optional
        Differentiable function from past latents (samples, past, dim), a float64 tensor with the oldest first, to the
        predicted means (samples, dim) of the next step.
    jacobians : (samples, dim, past, dim) or (samples, dim, dim), optional
        Derivatives of the predicted mean with respect to the past latents, instead of `predictor`.
    burn_in, lags, random_state
        As for `check_assumptions`.

    Returns
    -------
    AssumptionReport

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, or there are too few frames.
    """
    z, m = as_sequences("latents", latents), as_sequences("predicted_mean", predicted_mean)
    check_same_frames("latents", z, "predicted_mean", m, dims_too=True)
    covs = None if predicted_cov is None else covariance_sequences(predicted_cov, z)
    x = None if data is None else as_sequences("data", data)
    s = None if true is None else as_sequences("true", true)
    for name, other in (("data", x), ("true", s)):
        if other is not None:
            check_same_frames("latents", z, name, other)
    dim = z[0].shape[1]
    if jacobians is not None:
        jacobians = np.asarray(jacobians, dtype=float)
        jacobians = jacobians[:, :, None] if jacobians.ndim == 3 else jacobians
        if jacobians.ndim != 4 or jacobians.shape[1] != dim or jacobians.shape[3] != dim:
            message = f"jacobians must be (samples, {dim}, past, {dim}), got {jacobians.shape}"
            raise InputError(message, parameter="jacobians")
        if not np.isfinite(jacobians).all():
            raise InputError("jacobians has NaN or infinite values", parameter="jacobians")
    elif predictor is not None:
        windows = _windows([torch.from_numpy(v) for v in z], z, random_state)
        if windows is None:
            raise InputError("latents must have at least two steps per sequence to use predictor", parameter="latents")
        jacobians = _jacobians(predictor, windows[1][:, :-1])
    return _check(flatten(z, m, covs, x, s, burn_in), jacobians, lags, random_state)


def _check(frames: Frames, jacobians: np.ndarray | None, lags: int, random_state: int) -> AssumptionReport:
    """Compute all statistics that the given data allow, and judge them."""
    z, residuals = frames.latents, frames.latents - frames.means
    own = statistics.whiten(residuals)
    predicted = (
        None if frames.covs is None else whiten(residuals, frames.covs, index=frames.cov_index, name="predicted_cov")
    )
    standard = own if predicted is None else statistics.whiten(predicted)
    follows = np.concatenate([[False], np.diff(frames.step) == 1])
    table = [
        rows.gaussian(statistics.non_gaussian(standard)),
        rows.constant_covariance(statistics.changing_covariance(own, frames.means, follows), _range_of_model(frames)),
        rows.white(statistics.autocorrelation(standard, frames.step, lags)),
    ]
    if predicted is not None:
        table.append(rows.covariance(statistics.mean_square(predicted)))
    table.append(rows.coverage(statistics.rank_of_means(frames.means, z)))
    if jacobians is not None:
        table.append(rows.jacobian(statistics.rank_of_jacobians(jacobians, z)))
    skipped = {}
    # Injectivity cannot be tested on some data: true latents on a curve, very noisy latents, a single feature.
    if frames.true is not None and frames.true.shape == z.shape:
        try:
            table.append(rows.folding(folding_entropy(frames.true, z, random_state=random_state)))
        except InputError as error:
            skipped["folding"] = str(error)
    if frames.data is not None:
        metric = covariance(residuals)
        try:
            violation = neighbor_violation(z, frames.data, frames.step, metric=metric, random_state=random_state)
            table.append(rows.injective(violation))
        except InputError as error:
            skipped["injective"] = str(error)
    scale = z.std(0)
    table.append(rows.degenerate("residual_rank", "residual", statistics.smallest_ratio(residuals, scale)))
    table.append(rows.degenerate("latent_rank", "latent", statistics.smallest_ratio(z, scale)))
    return AssumptionReport(tuple(table), len(z), z.shape[1], skipped)


def _range_of_model(frames: Frames) -> float:
    """Return the largest coefficient of variation over frames of the predicted variances."""
    if frames.covs is None or len(frames.covs) == 1:
        return 0.0
    variances = np.diagonal(frames.covs, axis1=1, axis2=2)
    weight = np.bincount(frames.cov_index, minlength=len(variances)) / len(frames.cov_index)
    mean = weight @ variances
    return float(np.sqrt(np.maximum(weight @ (variances - mean) ** 2, 0) / mean**2).max())


def _gaussian(prediction: Any) -> Any:
    """Return the Gaussian predictive distribution of a predictor's output."""
    conditional = getattr(prediction, "conditional", prediction)
    if not hasattr(conditional, "mean") or not hasattr(conditional, "cov"):
        raise InputError(
            f"model predicts a {type(conditional).__name__}, but Theorem 1 is about Gaussians with mean and cov",
            parameter="model",
        )
    return conditional


@torch.no_grad()
def _predict(module: SequenceModel, features: Tensor) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return latents and predicted means (batch, time, dim), and the predicted covariances of each sequence.

    Sequences with equal covariances share one array.
    """
    output = module(features)
    conditional = _gaussian(output.prediction)
    mean = conditional.mean.expand(output.latent.shape)
    cov = conditional.cov.expand(*mean.shape, mean.shape[-1])
    shared = cov.stride(0) == 0 or bool((cov == cov[:1]).all())
    first = cov[0].numpy()
    return output.latent.numpy(), mean.numpy(), [first if shared else c.numpy() for c in cov]


def _windows(
    features: Sequence[Tensor], latents: Sequence[np.ndarray], random_state: int
) -> tuple[Tensor, Tensor] | None:
    """Return random windows (windows, past + 1, ...) of features and latents; None if all sequences have one step."""
    past = min(_PAST, max(len(z) for z in latents) - 1)
    if past < 1:
        return None
    rng = np.random.default_rng(random_state)
    usable = [i for i, z in enumerate(latents) if len(z) > past]
    chosen = [(i, int(rng.integers(len(latents[i]) - past))) for i in rng.choice(usable, size=_WINDOWS)]
    return (
        torch.stack([features[i][start : start + past + 1] for i, start in chosen]),
        torch.stack([torch.from_numpy(latents[i][start : start + past + 1]) for i, start in chosen]),
    )


def _jacobians(predict: Predictor, past: Tensor) -> np.ndarray:
    """Compute the derivatives (samples, dim, past, dim) of the predicted mean with respect to past latents."""
    past = past.detach().clone().requires_grad_(True)
    mean = predict(past)
    if mean.shape != (len(past), past.shape[-1]):
        message = f"predictor must return means ({len(past)}, {past.shape[-1]}), got {tuple(mean.shape)}"
        raise InputError(message, parameter="predictor")
    if not mean.requires_grad:  # the prediction does not depend on the past
        return np.zeros((len(past), past.shape[-1], *past.shape[1:]))
    rows_of = [
        torch.autograd.grad(mean[:, i].sum(), past, retain_graph=True, materialize_grads=True)[0]
        for i in range(mean.shape[1])
    ]
    return torch.stack(rows_of, 1).numpy()


def _batches_of_equal_length(features: Sequence[Tensor]) -> list[Tensor]:
    """Stack consecutive sequences of equal length into batches."""
    lengths = [len(f) for f in features]
    cuts = [0, *(i for i in range(1, len(lengths)) if lengths[i] != lengths[i - 1]), len(lengths)]
    return [torch.stack(list(features[a:b])) for a, b in pairwise(cuts)]
