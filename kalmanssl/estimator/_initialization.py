"""Start of the training: linear components of the data that are predictable from the past, and their dynamics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kalmanssl.models import KalmanPredictor, SequenceModel
from kalmanssl.networks import ResidualEncoder
from kalmanssl.utils.torch_ops import evaluating

__all__ = ["initialize", "predictable_components"]

_MAX_ROWS = 60_000  # moments of more rows are no better and take longer
_MAX_FEATURES = 1024  # with more features, the components are found among the principal components
_RIDGE = 3.0  # as a multiple of the mean variance of the features


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
        Untrained. Of an encoder that is not a `ResidualEncoder`, only the last layer is rescaled.
    training : sequence of (time, features)
        Contiguous segments of the input of the encoder at every bin.
    bins_per_step : int
    behavior : sequence of (time, columns), optional
        Behavior in the same bins, whose linear relation to the features matters; NaN where it is unknown.
    behavior_weight : float
        Weight of the behavior in the choice of the components.
    """
    encoder, step = model.encoder, bins_per_step
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


def predictable_components(
    present: torch.Tensor, past: torch.Tensor, count: int, related: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the linear components whose values are best predicted by their own values one step before.

    They maximize w' S w / w' (C + r I) w, where C is the covariance of the features and S the symmetric part of their
    covariance with the step before (time-lagged independent component analysis, Molgedey & Schuster 1994). The ridge r,
    three times the mean variance of the features, keeps the components from fitting noise in short recordings. All
    weight vectors have the same norm. Noise that is alike in all features, such as that of square roots of counts, is
    then alike in all components, and strong components have a large variance. Their mean variance is one.

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
        In the order of predictability, float64. Features that are constant have no component.
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
    weights = weights[:, variances > 1e-6 * variances.max()]
    weights = weights / variances[variances > 1e-6 * variances.max()].mean().sqrt()
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


def _sequences(segment: np.ndarray, step: int) -> torch.Tensor:
    """Return the interleaved sequences of a segment (step, steps, features), without the bins of an incomplete step."""
    whole = segment[len(segment) % step :]
    return torch.from_numpy(whole).float().reshape(-1, step, segment.shape[1]).transpose(0, 1)


def _pairs(sequences: Sequence[torch.Tensor], lag: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows (pairs, dim) of sequences (batch, steps, dim), and the rows `lag` steps before them."""
    later = torch.cat([s[:, lag:].flatten(0, 1) for s in sequences])
    earlier = torch.cat([s[:, : s.shape[1] - lag].flatten(0, 1) for s in sequences])
    stride = -(-len(later) // _MAX_ROWS)
    return later[::stride], earlier[::stride]


def _moment(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the mean product of each coordinate of a and b (samples, dim)."""
    return (a * b).mean(0)
