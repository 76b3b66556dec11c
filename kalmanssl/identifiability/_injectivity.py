"""Tests of whether the encoder is injective on the data.

If the true latents are known, the entropy lost by non-injectivity is estimated. Otherwise the data are compared: frames
with the same latent should have the same data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kalmanssl.entropy import KNNEntropy
from kalmanssl.errors import InputError
from kalmanssl.identifiability._covariance import covariance

__all__ = ["FoldingEntropy", "NeighborViolation", "folding_entropy", "neighbor_violation"]

_ANCHORS, _CANDIDATES, _CHUNK = 3000, 20_000, 250
_NEIGHBORS = 15
_MIN_TIME_APART = 20  # frames; closer frames of a sequence are neighbors in time and do not count
_FOLD_FRAMES = 4000
_SLOPE_ERROR = 0.1  # relative standard error at which local linear fits are accurate enough


@dataclass(frozen=True)
class FoldingEntropy:
    """Entropy lost by a map that is not injective.

    Attributes
    ----------
    nats : float
        0 for an injective map, log 2 if the map is two to one everywhere. Estimation errors can make it slightly
        negative.
    slope_error : float
        Median over frames of the standard error of the local slope, relative to its smallest singular value. If it is
        not small, `nats` is not reliable.
    """

    nats: float
    slope_error: float


def folding_entropy(positions: np.ndarray, latents: np.ndarray, *, random_state: int = 0) -> FoldingEntropy:
    """Estimate the entropy that the map from true to learned latents loses because it is not injective.

    H_fold = H[s] + ⟨log |det J|⟩ - H[z] (LDM paper, Eq. 72). The map z(s) and its Jacobian J are estimated by linear
    fits to the nearest true latents; the number of neighbors grows until the noise of the latents is averaged out. The
    entropies are Kozachenko-Leonenko estimates, whose errors largely cancel.

    Parameters
    ----------
    positions, latents : (frames, dims)
        True and learned latents of the same dimension. Several thousand frames are needed, and more in more than three
        dimensions. Only folds that are wider than the neighborhoods of the fits are detected.
    random_state : int
        Seed for the random subset of frames.

    Returns
    -------
    FoldingEntropy

    Raises
    ------
    InputError
        If shapes differ, there are too few frames, or the latents do not depend on the positions.
    """
    from scipy.spatial import cKDTree

    s, z = np.asarray(positions, dtype=float), np.asarray(latents, dtype=float)
    if s.ndim != 2 or s.shape != z.shape:
        raise InputError(
            f"positions and latents must be (frames, dims) with the same shape, got {s.shape} and {z.shape}"
        )
    dims = s.shape[1]
    k = 4 * (dims + 2)
    if len(s) < 10 * k:
        raise InputError(f"positions has {len(s)} frames in {dims} dimensions: at least {10 * k} are needed")
    s, z = ((v - v.mean(0)) / np.maximum(v.std(0), 1e-12) for v in (s, z))
    some = np.random.default_rng(random_state).permutation(len(s))[:_FOLD_FRAMES]
    tree = cKDTree(s)
    while True:
        smooth, slope, error = _local_fits(s, z, some, tree.query(s[some], k=k)[1])
        slope_error = float(np.median(error))
        if slope_error <= _SLOPE_ERROR or 4 * k > len(s) // 20:
            break
        k *= 2
    log_det = np.linalg.slogdet(slope)[1]
    usable = np.isfinite(log_det) & (log_det > -30)
    if usable.mean() < 0.5:
        raise InputError("latents do not depend on the positions in most places, so injectivity cannot be tested")
    entropy = KNNEntropy(clip_quantile=None)
    h_s, h_z = (float(entropy(torch.from_numpy(v[usable]))) for v in (s[some], smooth))
    return FoldingEntropy(h_s + float(log_det[usable].mean()) - h_z, slope_error)


def _local_fits(
    s: np.ndarray, z: np.ndarray, some: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit z(s) linearly around some frames; return values (n, dims), slopes (n, dims, dims) and slope errors (n,)."""
    dims, k = s.shape[1], near.shape[1]
    smooth, slope, error = np.empty((len(some), dims)), np.empty((len(some), dims, dims)), np.empty(len(some))
    for start in range(0, len(some), _CHUNK):
        part = slice(start, start + _CHUNK)
        offset = s[near[part]] - s[some[part]][:, None]
        design = np.concatenate([np.ones((*offset.shape[:2], 1)), offset], axis=-1)
        inverse = np.linalg.inv(design.swapaxes(1, 2) @ design + 1e-12 * np.eye(dims + 1))
        fit = inverse @ (design.swapaxes(1, 2) @ z[near[part]])
        left = ((z[near[part]] - design @ fit) ** 2).sum((1, 2)) / (k - dims - 1)
        smooth[part], slope[part] = fit[:, 0], fit[:, 1:]
        size = np.linalg.svd(fit[:, 1:], compute_uv=False)[:, -1]
        variance = np.trace(inverse[:, 1:, 1:], axis1=1, axis2=2) * left / dims
        error[part] = np.sqrt(np.maximum(variance, 0)) / np.maximum(size, 1e-300)
    return smooth, slope, error


@dataclass(frozen=True)
class NeighborViolation:
    """Difference in the data between frames that are neighbors in latent space.

    Attributes
    ----------
    ratio : float
        Squared covariance between two halves of the features among latent neighbors, divided by that among random
        frames. It is 0 if the latents contain everything that the halves have in common, and about 1 if they contain
        nothing of it. A map with folds can exceed 1, because neighbors are either equal or far apart.
    chance : float
        Three standard errors of `ratio`. Both are 0 if `contrast` is not positive.
    contrast : float
        Squared covariance among random frames, in standard errors: the power of the comparison.
    """

    ratio: float
    chance: float
    contrast: float


def neighbor_violation(
    latents: np.ndarray,
    data: np.ndarray,
    step: np.ndarray,
    *,
    metric: np.ndarray | None = None,
    random_state: int = 0,
) -> NeighborViolation:
    """Test whether frames with neighboring latents have different data, beyond what noise explains.

    Noise makes all frames differ, so distances between frames in data space are not informative. But noise that is
    independent between features is independent between two halves of the features, whereas a fold, which maps different
    frames to the same latent, changes both halves together. The statistic is therefore the squared covariance between
    the two halves among the nearest neighbors of a latent. Its unbiased estimate has expectation 0 for an injective
    encoder with any independent noise. It is compared with the same statistic among random frames. Because nearest
    neighbors in many dimensions are not close, the linear regression of the data on the latents is subtracted first.
    Frames that are close in time do not count as neighbors.

    The estimate is the Hilbert-Schmidt independence criterion with linear kernels: Song, Smola, Gretton, Bedo &
    Borgwardt, J. Mach. Learn. Res. 13 (2012) 1393-1434, Eq. 5.

    Parameters
    ----------
    latents : (frames, latent)
    data : (frames, features)
        At least two features; constant ones are ignored.
    step : (frames,) int
        Time step of each frame within its sequence.
    metric : (latent, latent), optional
        Covariance that defines latent distances (Mahalanobis), for example that of the residuals; by default that of
        the latents.
    random_state : int
        Seed for the choice of frames and of the halves.

    Returns
    -------
    NeighborViolation

    Notes
    -----
    The test cannot detect folds that change the data very little (see `contrast`) or that affect few frames. Anything
    that the data contain and the latents do not counts as a violation, including noise that features share. Very noisy
    latents also increase the statistic, because their neighbors are not close, and so do latents of many dimensions
    from which the data depend strongly nonlinearly.
    """
    rng = np.random.default_rng(random_state)
    std = data.std(0)
    used = np.flatnonzero(std > 1e-9 * max(std.max(), 1e-300))
    if len(used) < 2:
        raise InputError(f"data has {len(used)} features that vary: at least two are needed", parameter="data")
    # Features are not standardized: each counts by its variance, for example a pixel.
    x = (data[:, used] - data[:, used].mean(0)).astype(np.float32) / np.float32(std[used].max())
    order = rng.permutation(len(used))
    values, vectors = np.linalg.eigh(covariance(latents) if metric is None else metric)
    # The floor keeps a direction without residual variance from dominating the distance.
    z = ((latents - latents.mean(0)) @ (vectors / np.sqrt(np.maximum(values, 1e-6 * values[-1])))).astype(np.float32)

    sequence = np.cumsum(np.concatenate([[0], np.diff(step) != 1]))
    time = np.arange(len(z)) + sequence * _MIN_TIME_APART  # frames of different sequences are never close in time
    candidates = np.sort(rng.permutation(len(z))[:_CANDIDATES])
    anchors = np.sort(rng.permutation(candidates)[:_ANCHORS])
    random = _squared_covariance(x, order, _random_groups(rng, candidates, len(anchors)))
    rest = x - _linear_prediction(z, x, candidates)
    near = _squared_covariance(rest, order, np.column_stack([anchors, _nearest(z, anchors, candidates, time)]))
    root = np.sqrt(len(anchors))
    contrast = float(random.mean() * root / max(random.std(), 1e-300))
    if contrast <= 0:
        return NeighborViolation(0.0, 0.0, contrast)
    ratio = float(near.mean() / random.mean())
    return NeighborViolation(ratio, float(3 * (near - ratio * random).std() / root / random.mean()), contrast)


def _linear_prediction(z: np.ndarray, x: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Predict the data (frames, features) from the latents by linear regression, fitted on some frames.

    A nonlinear regression would explain more, but its errors on noisy data would be shared by both halves of the
    features.
    """
    features = np.column_stack([np.ones(len(z), np.float32), z])
    return features @ np.linalg.lstsq(features[some], x[some], rcond=None)[0]


def _random_groups(rng: np.random.Generator, candidates: np.ndarray, groups: int) -> np.ndarray:
    """Draw groups (groups, neighbors + 1) of distinct frames."""
    size = _NEIGHBORS + 1
    each = len(candidates) // size
    drawn = [rng.permutation(candidates)[: each * size].reshape(each, size) for _ in range(-(-groups // each))]
    return np.concatenate(drawn)[:groups]


def _squared_covariance(x: np.ndarray, order: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Estimate without bias the squared covariance between two halves of the features in each group of frames.

    This is the Hilbert-Schmidt independence criterion with linear kernels.

    Parameters
    ----------
    x : (frames, features)
    order : (features,) int
        Permutation of the features; even and odd positions form the two halves.
    groups : (groups, size) int
        Indices of frames.

    Returns
    -------
    (groups,)
    """
    size = groups.shape[1]
    found = []
    for start in range(0, len(groups), _CHUNK):
        values = x[groups[start : start + _CHUNK]].astype(np.float64)
        values -= values.mean(1, keepdims=True)  # affects only rounding errors
        K, L = (half @ half.swapaxes(1, 2) for half in (values[..., order[::2]], values[..., order[1::2]]))
        K[:, np.arange(size), np.arange(size)] = L[:, np.arange(size), np.arange(size)] = 0.0
        rows_K, rows_L = K.sum(2), L.sum(2)
        total = rows_K.sum(1) * rows_L.sum(1) / ((size - 1) * (size - 2))
        found.append(((K * L).sum((1, 2)) + total - 2 * (rows_K * rows_L).sum(1) / (size - 2)) / (size * (size - 3)))
    return np.concatenate(found)


def _nearest(points: np.ndarray, anchors: np.ndarray, candidates: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Find the nearest candidates (anchors, neighbors) of each anchor that are not close to it in time."""
    others = points[candidates]
    squares = (others**2).sum(1)
    found = []
    for start in range(0, len(anchors), _CHUNK):
        some = anchors[start : start + _CHUNK]
        distance = squares - 2 * points[some] @ others.T
        distance[np.abs(time[some][:, None] - time[candidates]) <= _MIN_TIME_APART] = np.inf
        found.append(candidates[np.argpartition(distance, _NEIGHBORS, axis=1)[:, :_NEIGHBORS]])
    return np.concatenate(found)
