"""Which assumptions of the identifiability theorem hold on given data? A verdict on each, with the number behind it.

Theorem 1 of the LDM paper: if latents follow N(m(past), Σ) with a constant invertible Σ, the predictor covers the
latent space, the model matches this distribution, and the encoder is injective on the data, then the learned latents
are the true ones up to an affine map. All of it but the existence of true latents can be looked at in a fitted model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.identifiability import _residual_statistics as statistics
from kalmanssl.identifiability import _verdicts as rows
from kalmanssl.identifiability._injectivity import folding_entropy, neighbor_violation
from kalmanssl.identifiability._report import Assumption, AssumptionReport
from kalmanssl.models import SequenceModel

__all__ = ["Assumption", "AssumptionReport", "check_assumptions", "check_latents"]

MIN_FRAMES = 200
_WINDOWS = 64
_PAST = 12

Predictor = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Frames:
    """Frames of all sequences one after the other, without the first steps of each.

    covs are (distinct, dims, dims) with `cov_index` (frames,) into them; `place` (frames,) is the step in the sequence.
    """

    latents: np.ndarray
    means: np.ndarray
    place: np.ndarray
    covs: np.ndarray | None
    cov_index: np.ndarray
    data: np.ndarray | None
    true: np.ndarray | None


def check_assumptions(
    model: Any, data: Any, *, true: Any = None, burn_in: int = 10, lags: int = 10, random_state: int = 0
) -> AssumptionReport:
    """Check the assumptions of identifiability of a fitted model, best on data that it was not fitted on.

    Parameters
    ----------
    model : KalmanSSL or SequenceModel
        With a Gaussian predictor.
    data : Recording, or array (time, features); for a SequenceModel also (batch, time, features)
        What `KalmanSSL.transform` takes, or what the module takes. Of sequences that a KalmanSSL interleaves, only the
        last is looked at: steps of different ones share bins and so their noise, which would be taken for folds.
    true : (time, dims) or (batch, time, dims), optional
        True positions of the frames of `data`, where they are known: then folds are sought in their space.
    burn_in : int
        Steps at the start of each sequence to leave out, while the filter settles.
    lags : int
        How far back residuals are compared.
    random_state : int
        Seed of the choice of frames where not all are looked at.

    Returns
    -------
    AssumptionReport
        ``print(report.summary())`` shows it.

    Raises
    ------
    InputError
        If the model is of another kind or its predictions not Gaussian, or the data do not fit it or are too few.

    Notes
    -----
    Verdicts go by the size of a deviation, less what chance explains; p-values are in `numbers`. "Holds" means that
    nothing was found by this statistic, see the limits of each in `kalmanssl.identifiability` and
    `kalmanssl.identifiability`.
    """
    from kalmanssl.estimator import KalmanSSL
    from kalmanssl.training import interleave

    if isinstance(model, KalmanSSL):
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(model, "model_")
        stretches, _ = model._stretches(data, fitting=False)
        module = model._inference()
        features = [model._sequences(stretch)[-1].double() for stretch in stretches]
        labels: list[np.ndarray] | None = None
        if true is not None:
            rows_of_data, given = sum(map(len, stretches)), np.asarray(true, dtype=float)
            if given.ndim != 2 or len(given) != rows_of_data or not np.isfinite(given).all():
                raise InputError(
                    f"true: expected ({rows_of_data}, dims) finite, a row per bin of the data, got shape {given.shape}"
                )
            parts = np.split(given, np.cumsum([len(s) for s in stretches])[:-1])
            labels = [interleave(part, model.bins_per_step)[-1] for part in parts]
        # The first step may be padded in part.
        burn_in = max(burn_in, 1)
    elif isinstance(model, SequenceModel):
        module = copy.deepcopy(model).double().eval()
        features = [torch.from_numpy(x) for x in _sequences("data", _plain(data))]
        labels = None if true is None else _sequences("true", true)
    else:
        raise InputError(
            f"model: expected a KalmanSSL or a SequenceModel, got {type(model).__name__}; see check_latents"
        )
    latents, means, covs = [], [], []
    for group in _of_one_length(features):
        latent, mean, cov = _predict(module, group)
        latents += list(latent)
        means += list(mean)
        covs += cov
    windows = _windows(features, latents, random_state)
    jacobians = None
    if windows is not None:
        seen, past = windows
        jacobians = _jacobians(lambda z: _gaussian(module.predictor(z, seen)).mean[:, -1], past)[:, :, :-1]
    return _check(
        _flatten(latents, means, covs, [f.numpy() for f in features], labels, burn_in), jacobians, lags, random_state
    )


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
    """Check the assumptions of identifiability on latents and their one-step predictions, from whatever model.

    Parameters
    ----------
    latents, predicted_mean : (batch, time, dim), or sequences of (time, dim)
        Latents and their means given the past.
    predicted_cov : (dim, dim), (batch, time, dim, dim), or sequence of (time, dim, dim), optional
        Without it, whether the model predicts the right covariance is not checked.
    data : (batch, time, features), or sequence of (time, features), optional
        What was encoded; without it, and without `true`, the encoder is not checked.
    true : (batch, time, dims), or sequence of (time, dims), optional
        True positions.
    predictor : callable, optional
        Takes past latents (samples, past, dim) as a float64 tensor, oldest first, and returns the means (samples, dim)
        of what comes next, differentiably.
    jacobians : (samples, dim, past, dim) or (samples, dim, dim), optional
        Derivatives of the predicted mean by the past latents, instead of `predictor`.
    burn_in, lags, random_state
        As for `check_assumptions`.

    Returns
    -------
    AssumptionReport

    Raises
    ------
    InputError
        If shapes do not fit, values are not finite, or frames are too few.
    """
    z, m = _sequences("latents", latents), _sequences("predicted_mean", predicted_mean)
    _same_frames("latents", z, "predicted_mean", m, dims_too=True)
    covs = None if predicted_cov is None else _covariances(predicted_cov, z)
    x = None if data is None else _sequences("data", data)
    s = None if true is None else _sequences("true", true)
    for name, other in (("data", x), ("true", s)):
        if other is not None:
            _same_frames("latents", z, name, other)
    dim = z[0].shape[1]
    if jacobians is not None:
        jacobians = np.asarray(jacobians, dtype=float)
        jacobians = jacobians[:, :, None] if jacobians.ndim == 3 else jacobians
        if jacobians.ndim != 4 or jacobians.shape[1] != dim or jacobians.shape[3] != dim:
            raise InputError(f"jacobians: expected (samples, {dim}, past, {dim}), got {jacobians.shape}")
        if not np.isfinite(jacobians).all():
            raise InputError("jacobians: values are NaN or infinite")
    elif predictor is not None:
        windows = _windows([torch.from_numpy(v) for v in z], z, random_state)
        if windows is None:
            raise InputError("predictor: sequences are too short to give it a past")
        jacobians = _jacobians(predictor, windows[1][:, :-1])
    return _check(_flatten(z, m, covs, x, s, burn_in), jacobians, lags, random_state)


def _check(frames: _Frames, jacobians: np.ndarray | None, lags: int, random_state: int) -> AssumptionReport:
    z, residuals = frames.latents, frames.latents - frames.means
    own = statistics.whiten(residuals)
    predicted = None if frames.covs is None else statistics.whiten_by(residuals, frames.covs, frames.cov_index)
    standard = own if predicted is None else statistics.whiten(predicted)
    follows = np.concatenate([[False], np.diff(frames.place) == 1])
    table = [
        rows.gaussian(statistics.non_gaussian(standard)),
        rows.constant_covariance(statistics.changing_covariance(own, frames.means, follows), _range_of_model(frames)),
        rows.white(statistics.autocorrelation(standard, frames.place, lags)),
    ]
    if predicted is not None:
        table.append(rows.covariance(statistics.mean_square(predicted)))
    table.append(rows.coverage(statistics.rank_of_means(frames.means, z)))
    if jacobians is not None:
        table.append(rows.jacobian(statistics.rank_of_jacobians(jacobians, z)))
    skipped = {}
    # Some data do not let folds be told: positions on a curve, latents that are mostly noise, a single feature.
    if frames.true is not None and frames.true.shape == z.shape:
        try:
            table.append(rows.folding(folding_entropy(frames.true, z, random_state=random_state)))
        except InputError as error:
            skipped["folding"] = str(error)
    if frames.data is not None:
        metric = np.atleast_2d(np.cov(residuals.T))
        try:
            violation = neighbor_violation(z, frames.data, frames.place, metric=metric, random_state=random_state)
            table.append(rows.injective(violation))
        except InputError as error:
            skipped["injective"] = str(error)
    scale = z.std(0)
    table.append(rows.degenerate("residual_rank", "residual", statistics.smallest_ratio(residuals, scale)))
    table.append(rows.degenerate("latent_rank", "latent", statistics.smallest_ratio(z, scale)))
    return AssumptionReport(tuple(table), len(z), z.shape[1], skipped)


def _range_of_model(frames: _Frames) -> float:
    """By how much the predicted variances vary between frames: standard deviation over mean, where it is largest."""
    if frames.covs is None or len(frames.covs) == 1:
        return 0.0
    variances = np.diagonal(frames.covs, axis1=1, axis2=2)
    weight = np.bincount(frames.cov_index, minlength=len(variances)) / len(frames.cov_index)
    mean = weight @ variances
    return float(np.sqrt(np.maximum(weight @ (variances - mean) ** 2, 0) / mean**2).max())


def _gaussian(prediction: Any) -> Any:
    """The Gaussian predictive distribution of a predictor's output, with `mean` and `cov`."""
    conditional = getattr(prediction, "conditional", prediction)
    if not hasattr(conditional, "mean") or not hasattr(conditional, "cov"):
        raise InputError(
            f"model: its predictor gives a {type(conditional).__name__}, not a Gaussian with mean and cov, which "
            "Theorem 1 is about"
        )
    return conditional


@torch.no_grad()
def _predict(module: SequenceModel, features: Tensor) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Latents and predicted means (batch, time, dim), and each sequence's covariances, one array if they share them."""
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
    """Stretches (windows, past + 1, …) of features and latents from random places; None if sequences have one step."""
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
    """Derivatives (samples, dim, past, dim) of the predicted mean by every past latent."""
    past = past.detach().clone().requires_grad_(True)
    mean = predict(past)
    if mean.shape != (len(past), past.shape[-1]):
        raise InputError(f"predictor: expected means ({len(past)}, {past.shape[-1]}), got {tuple(mean.shape)}")
    if not mean.requires_grad:  # constant: it does not even look at the past
        return np.zeros((len(past), past.shape[-1], *past.shape[1:]))
    rows_of = [
        torch.autograd.grad(mean[:, i].sum(), past, retain_graph=True, materialize_grads=True)[0]
        for i in range(mean.shape[1])
    ]
    return torch.stack(rows_of, 1).numpy()


def _flatten(
    latents: Sequence[np.ndarray],
    means: Sequence[np.ndarray],
    covs: Sequence[np.ndarray] | None,
    data: Sequence[np.ndarray] | None,
    true: Sequence[np.ndarray] | None,
    burn_in: int,
) -> _Frames:
    def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([part[burn_in:] for part in parts])

    if not isinstance(burn_in, int) or burn_in < 0:
        raise InputError(f"burn_in: expected a number of steps, 0 or more, got {burn_in!r}")
    z = joined(latents)
    least = max(MIN_FRAMES, 20 * z.shape[1])
    if len(z) < least:
        raise InputError(
            f"{len(z)} frames of {z.shape[1]} latents after burn_in={burn_in} steps of each sequence are too few to "
            f"judge by: give {least} or more"
        )
    place = np.concatenate([np.arange(len(part))[burn_in:] for part in latents])
    table, index, known, size = [], [], {}, 0
    for part, cov in zip(latents, covs or (), strict=covs is not None):
        if id(cov) not in known:
            kept = cov[burn_in:] if len(cov) > 1 else cov
            # Covariances of a filter settle; then only those before are different.
            moving = np.flatnonzero(
                np.abs(kept - kept[-1:]).max((1, 2), initial=0) > 1e-9 * np.abs(kept[-1:]).max(initial=0)
            )
            distinct = kept[: moving[-1] + 2] if len(moving) else kept[:1]
            known[id(cov)] = (size, len(distinct))
            table.append(distinct)
            size += len(distinct)
        first, count = known[id(cov)]
        index.append(first + np.minimum(np.arange(max(len(part) - burn_in, 0)), count - 1))
    return _Frames(
        latents=z,
        means=joined(means),
        place=place,
        covs=np.concatenate(table) if table else None,
        cov_index=np.concatenate(index) if index else np.zeros(len(z), dtype=int),
        data=None if data is None else joined(data),
        true=None if true is None else joined(true),
    )


def _plain(data: Any) -> Any:
    """A recording as its contiguous stretches, tensors as arrays."""
    if isinstance(data, Recording):
        return [data.activity[segment] for segment in data.segments()]
    if isinstance(data, Tensor):
        data = data.detach().cpu().numpy()
    return data[None] if isinstance(data, np.ndarray) and data.ndim == 2 else data


def _sequences(name: str, values: Any) -> list[np.ndarray]:
    """Check (batch, time, dim), or sequences of (time, dim), and return the latter in float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.ndim != 3:
        raise InputError(f"{name}: expected (batch, time, dim) or a list of (time, dim), got {values.shape}")
    parts = [np.asarray(part, dtype=float) for part in values]
    if not parts or any(part.ndim != 2 or 0 in part.shape for part in parts):
        raise InputError(
            f"{name}: expected (batch, time, dim) or a list of (time, dim), got shapes {[p.shape for p in parts[:3]]}"
        )
    if len({part.shape[1] for part in parts}) > 1:
        raise InputError(f"{name}: sequences have different dimensions, {sorted({p.shape[1] for p in parts})}")
    for i, part in enumerate(parts):
        if not np.isfinite(part).all():
            raise InputError(f"{name}: NaN or infinite values in sequence {i}; leave those frames out")
    return parts


def _same_frames(
    name: str, parts: Sequence[np.ndarray], other_name: str, others: Sequence[np.ndarray], dims_too: bool = False
) -> None:
    shapes = [[p.shape if dims_too else p.shape[:1] for p in group] for group in (parts, others)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{other_name}: expected {len(parts)} sequences like {name}, the first of {shapes[0][0]}, "
            f"got {len(others)}, the first of {shapes[1][0]}"
        )


def _covariances(cov: Any, latents: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Covariances (1 or time, dim, dim) of every sequence."""
    dim = latents[0].shape[1]
    cov = cov.detach().cpu().numpy() if isinstance(cov, Tensor) else cov
    if isinstance(cov, np.ndarray) and cov.shape == (dim, dim):
        parts = [np.asarray(cov, dtype=float)[None]] * len(latents)
    else:
        parts = [np.asarray(part, dtype=float) for part in cov]
        if [part.shape for part in parts] != [(len(z), dim, dim) for z in latents]:
            raise InputError(
                f"predicted_cov: expected ({dim}, {dim}), or (time, {dim}, {dim}) for each of all sequences, "
                f"got {getattr(cov, 'shape', [p.shape for p in parts[:3]])}"
            )
    if not all(np.isfinite(part).all() for part in parts):
        raise InputError("predicted_cov: values are NaN or infinite")
    return parts


def _of_one_length(features: Sequence[Tensor]) -> list[Tensor]:
    """Batches of the neighboring sequences that are equally long."""
    lengths = [len(f) for f in features]
    cuts = [0, *(i for i in range(1, len(lengths)) if lengths[i] != lengths[i - 1]), len(lengths)]
    return [torch.stack(list(features[a:b])) for a, b in pairwise(cuts)]
