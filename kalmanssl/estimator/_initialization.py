"""Start of the training: linear components of the data that are predictable from the past, and their dynamics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kalmanssl.models import KalmanPredictor, SequenceModel, TwoViewModel
from kalmanssl.networks import ResidualEncoder
from kalmanssl.utils.torch_ops import evaluating

__all__ = ["initialize", "initialize_two_views", "predictable_components", "shared_components"]

_MAX_ROWS = 60_000  # more rows take longer and do not make moments noticeably more accurate
_MAX_BINS = 200_000  # longer recordings are thinned to pieces with this many bins in total
_STEPS_PER_PIECE = 50
_MAX_FEATURES = 1024  # with more features, the components are found among the principal components
_RIDGE = 3.0  # as a multiple of the mean variance of the features
_SHARED_RIDGE = 0.1  # the same, for components that two views share


@torch.no_grad()
def initialize(
    model: SequenceModel[KalmanPredictor],
    training: Sequence[np.ndarray],
    bins_per_step: int,
    behavior: Sequence[np.ndarray] | None = None,
    behavior_weight: float = 0.0,
) -> None:
    """Start the model at linear components that the past predicts, with dynamics that fit their autocovariance.

    Parameters
    ----------
    model : SequenceModel
        Untrained. If its encoder is not a `ResidualEncoder`, only the last layer of the encoder is rescaled.
    training : sequence of (time, features)
        Contiguous segments of the input of the encoder at every bin.
    bins_per_step : int
    behavior : sequence of (time, columns), optional
        Behavior in the same bins, whose linear relation to the features matters; NaN where it is unknown.
    behavior_weight : float
        Weight of the behavior in the choice of the components.
    """
    encoder, step = model.encoder, bins_per_step
    training, behavior = _thin(training, behavior, step)
    long_enough = [number for number, segment in enumerate(training) if len(segment) >= 3 * step]
    sequences = [_sequences(training[number], step) for number in long_enough]
    if isinstance(encoder, ResidualEncoder):
        with evaluating(encoder):
            features = [encoder.features(x) for x in sequences]
        present, past = _pairs(features, 1)
        related = None
        if behavior is not None:
            columns = [_sequences(behavior[number], step) for number in long_enough]
            related = behavior_weight * _explained_covariance(features, columns)
        components = predictable_components(present, past, encoder.latent_dim, related)
        encoder.start_from(torch.cat([present, past])[::2], components)
    else:
        model.standardize_latents(torch.cat([x.flatten(0, 1) for x in sequences])[None, ::7])
    with evaluating(encoder):
        latents = [encoder(x) for x in sequences]
    mean = torch.cat([z.flatten(0, 1) for z in latents]).mean(0)
    lags = [_moment(*_pairs([z - mean for z in latents], lag)) for lag in range(3)]
    model.predictor.match_autocovariance(mean, *lags)


@torch.no_grad()
def initialize_two_views(model: TwoViewModel, training: Sequence[np.ndarray], bins_per_step: int) -> None:
    """Start both encoders at linear components that predict each other over time, with dynamics that fit them.

    Parameters
    ----------
    model : TwoViewModel
        Untrained, with encoders of the class `ResidualEncoder`.
    training : sequence of (time, features)
        Contiguous segments of the features of both views, side by side.
    bins_per_step : int
    """
    training, _ = _thin(training, None, bins_per_step)
    sequences = [_sequences(segment, bins_per_step) for segment in training if len(segment) >= 3 * bins_per_step]
    inputs = [x[..., : model.n_first] for x in sequences], [x[..., model.n_first :] for x in sequences]
    encoders = model.first.encoder, model.second.encoder
    features = []
    for encoder, part in zip(encoders, inputs, strict=True):
        assert isinstance(encoder, ResidualEncoder)
        with evaluating(encoder):
            features.append([encoder.features(x) for x in part])
    pairs = [_pairs(part, 1) for part in features]
    latents = []
    weights = shared_components(pairs[0], pairs[1], model.first.predictor.latent_dim)
    for encoder, part, x, components in zip(encoders, inputs, pairs, weights, strict=True):
        assert isinstance(encoder, ResidualEncoder)
        encoder.start_from(torch.cat(x)[::2], components)
        with evaluating(encoder):
            latents.append([encoder(x) for x in part])
    means = [torch.cat([z.flatten(0, 1) for z in part]).mean(0) for part in latents]
    first, second = ([z - mean for z in part] for part, mean in zip(latents, means, strict=True))
    variance = (_moment(*_pairs(first, 0)) + _moment(*_pairs(second, 0))) / 2
    lags = []
    for lag in (1, 2):
        (later, earlier), (later_second, earlier_second) = _pairs(first, lag), _pairs(second, lag)
        lags.append((_moment(later, earlier_second) + _moment(later_second, earlier)) / 2)
    model.first.predictor.match_autocovariance((means[0] + means[1]) / 2, variance, *lags)


def shared_components(
    first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor], count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute pairs of linear components, one of each view, each most correlated with the step before of the other.

    They are the components of a canonical correlation analysis (Hotelling 1936) between a step of one view and the step
    before it in the other. The covariance between the views is averaged over both directions of time, and a ridge is
    added to the covariance of each view.

    Parameters
    ----------
    first, second : pairs (present, past) of (pairs, features)
        Features of a step, and of the step before it, for each view.
    count : int
        Largest number of components.

    Returns
    -------
    (count, features) for each view
        With the strongest correlation first. The standard deviation of a component, the same in both views, is
        proportional to its correlation, but at least a fifth of the largest one.
    """
    bases, centered, roots = [], [], []
    for present, past in (first, second):
        mean = present.mean(0).double()
        present, past = present.double() - mean, past.double() - mean
        basis = torch.eye(len(mean), dtype=torch.float64)
        if len(mean) > _MAX_FEATURES:
            basis = torch.svd_lowrank(present, q=_MAX_FEATURES // 2)[2]
        present, past = present @ basis, past @ basis
        covariance = present.T @ present / len(present)
        ridge = _SHARED_RIDGE * covariance.diagonal().mean().clamp_min(1e-12)
        roots.append(torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype)))
        bases.append(basis)
        centered.append((present, past))
    (present, past), (present_second, past_second) = centered
    between = (present.T @ past_second + past.T @ present_second) / (2 * len(present))
    half = torch.linalg.solve_triangular(roots[0], between, upper=False)
    whitened = torch.linalg.solve_triangular(roots[1], half.T, upper=False).T
    left, correlation, right = torch.linalg.svd(whitened, full_matrices=False)
    count = min(count, len(correlation))
    sizes = (correlation[:count] / correlation[0].clamp_min(1e-12)).clamp_min(0.2)
    found = []
    for basis, root, vectors, (rows, _) in zip(bases, roots, (left, right.T), centered, strict=True):
        weights = torch.linalg.solve_triangular(root.T, vectors[:, :count], upper=True)
        sd = (rows @ weights).square().mean(0).sqrt().clamp_min(1e-12)
        found.append((basis @ (weights / sd * sizes)).T)
    return found[0], found[1]


def predictable_components(
    present: torch.Tensor, past: torch.Tensor, count: int, related: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the linear components whose values are best predicted by their own values one step before.

    They maximize w' S w / w' (C + r I) w, where C is the covariance of the features and S the symmetric part of their
    covariance with the step before (time-lagged independent component analysis, Molgedey & Schuster 1994). The ridge r,
    three times the mean variance of the features, keeps the components from fitting noise in short recordings. All
    weight vectors have the same norm. Noise with the same variance in all features, as in square roots of counts, then
    has the same variance in all components, and strong components have a large variance. Their mean variance is one.

    Parameters
    ----------
    present, past : (pairs, features)
        Features of a step, and of the step before it.
    count : int
        Largest number of components.
    related : (features, features), optional
        Covariance that is added to S, to prefer components that are also related to something else.

    Returns
    -------
    (at most count, features)
        Most predictable first, float64. Components that are constant are left out.
    """
    mean = present.mean(0)
    present, past = (x.double() - mean.double() for x in (present, past))
    basis = None
    related = torch.zeros(len(mean), len(mean)) if related is None else related
    related = related.double()
    if present.shape[1] > _MAX_FEATURES:
        _, _, basis = torch.svd_lowrank(present, q=_MAX_FEATURES // 2)
        present, past, related = present @ basis, past @ basis, basis.T @ related @ basis
    covariance, lagged = present.T @ present / len(present), present.T @ past / len(present)
    variance = covariance.trace() / len(covariance)
    if variance <= 0:
        return present.new_zeros(0, len(mean))
    regularized = covariance + _RIDGE * variance * torch.eye(len(covariance), dtype=covariance.dtype)
    root = torch.linalg.cholesky(regularized)
    half = torch.linalg.solve_triangular(root, (lagged + lagged.T) / 2 + related, upper=False)
    whitened = torch.linalg.solve_triangular(root, half.T, upper=False)
    _, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)
    weights = torch.linalg.solve_triangular(root.T, vectors.flip(1)[:, :count], upper=True)
    weights = weights / torch.linalg.vector_norm(weights, dim=0)
    variances = torch.einsum("fc,fg,gc->c", weights, covariance, weights)
    varying = variances > 1e-6 * variances.max()
    weights = weights[:, varying] / variances[varying].mean().sqrt()
    return (weights if basis is None else basis @ weights).T


def _explained_covariance(features: Sequence[torch.Tensor], behavior: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the covariance of the linear predictions of features (batch, steps, features) from behavior."""
    x, b = (torch.cat([s.flatten(0, 1) for s in part]).double() for part in (features, behavior))
    known = b.isfinite().all(1)
    stride = max(1, int(known.sum()) // _MAX_ROWS)
    x, b = x[known][::stride], b[known][::stride]
    if len(b) <= b.shape[1]:
        return x.new_zeros(x.shape[1], x.shape[1])
    x, b = x - x.mean(0), b - b.mean(0)
    predicted = b @ (torch.linalg.pinv(b.T @ b, rtol=1e-6, hermitian=True) @ (b.T @ x))
    return predicted.T @ predicted / len(x)


def _thin(
    training: Sequence[np.ndarray], behavior: Sequence[np.ndarray] | None, step: int
) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray] | None]:
    """Return evenly spaced short pieces of segments (time, columns) if these have more than `_MAX_BINS` in total."""
    share = _MAX_BINS / sum(len(segment) for segment in training)
    if share >= 1:
        return training, behavior
    length = _STEPS_PER_PIECE * step
    places = [
        (number, int(start))
        for number, segment in enumerate(training)
        for start in np.arange(0, max(len(segment) - length, 0) + 1, length / share)
    ]
    parts = [None if part is None else [part[n][a : a + length] for n, a in places] for part in (training, behavior)]
    assert parts[0] is not None
    return parts[0], parts[1]


def _sequences(segment: np.ndarray, step: int) -> torch.Tensor:
    """Return the interleaved sequences of a segment (step, steps, features), without the bins of an incomplete step."""
    whole = segment[len(segment) % step :]
    return torch.from_numpy(whole).float().reshape(-1, step, segment.shape[1]).transpose(0, 1)


def _pairs(sequences: Sequence[torch.Tensor], lag: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows (pairs, dim) of sequences (batch, steps, dim), and the rows `lag` steps before them."""
    counts = [s.shape[0] * (s.shape[1] - lag) for s in sequences]
    stride = -(-sum(counts) // _MAX_ROWS)
    later, earlier, first = [], [], 0
    for s, count in zip(sequences, counts, strict=True):
        row = torch.arange(-first % stride, count, stride)
        sequence, place = row // (s.shape[1] - lag), row % (s.shape[1] - lag)
        later.append(s[sequence, place + lag])
        earlier.append(s[sequence, place])
        first += count
    return torch.cat(later), torch.cat(earlier)


def _moment(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the mean product of each coordinate of a and b (samples, dim)."""
    return (a * b).mean(0)
