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
def initialize(model: SequenceModel[KalmanPredictor], training: Sequence[np.ndarray], bins_per_step: int) -> None:
    """Start the model at linear components that the past predicts, with dynamics that fit their autocovariance.

    Parameters
    ----------
    model : SequenceModel
        Untrained. Of an encoder that is not a `ResidualEncoder`, only the last layer is rescaled.
    training : sequence of (time, features)
        Contiguous segments of the input of the encoder at every bin.
    bins_per_step : int
    """
    encoder, step = model.encoder, bins_per_step
    sequences = [_sequences(segment, step) for segment in training if len(segment) >= 3 * step]
    if isinstance(encoder, ResidualEncoder):
        with evaluating(encoder):
            features = [encoder.features(x) for x in sequences]
        present, past = _pairs(features, 1)
        components = predictable_components(present, past, encoder.latent_dim)
        encoder.start_from(torch.cat([present, past])[::2], components)
    else:
        model.standardize_latents(torch.cat([x.flatten(0, 1) for x in sequences])[None, ::7])
    with evaluating(encoder):
        latents = [encoder(x) for x in sequences]
    mean = torch.cat([z.flatten(0, 1) for z in latents]).mean(0)
    lags = [_moment(*_pairs([z - mean for z in latents], lag)) for lag in range(3)]
    model.predictor.match_autocovariance(mean, *lags)


def predictable_components(present: torch.Tensor, past: torch.Tensor, count: int) -> torch.Tensor:
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

    Returns
    -------
    (at most count, features)
        In the order of predictability, float64. Features that are constant have no component.
    """
    mean = present.mean(0)
    present, past = (x.double() - mean.double() for x in (present, past))
    basis = None
    if present.shape[1] > _MAX_FEATURES:
        _, _, basis = torch.svd_lowrank(present, q=_MAX_FEATURES // 2)
        present, past = present @ basis, past @ basis
    covariance, lagged = present.T @ present / len(present), present.T @ past / len(present)
    variance = covariance.trace() / len(covariance)
    if variance <= 0:
        return present.new_zeros(0, len(mean))
    regularized = covariance + _RIDGE * variance * torch.eye(len(covariance), dtype=covariance.dtype)
    root = torch.linalg.cholesky(regularized)
    half = torch.linalg.solve_triangular(root, (lagged + lagged.T) / 2, upper=False)
    whitened = torch.linalg.solve_triangular(root, half.T, upper=False)
    _, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)
    weights = torch.linalg.solve_triangular(root.T, vectors.flip(1)[:, :count], upper=True)
    weights = weights / torch.linalg.vector_norm(weights, dim=0)
    variances = torch.einsum("fc,fg,gc->c", weights, covariance, weights)
    weights = weights[:, variances > 1e-6 * variances.max()]
    weights = weights / variances[variances > 1e-6 * variances.max()].mean().sqrt()
    return (weights if basis is None else basis @ weights).T


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
