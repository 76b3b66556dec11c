"""Is the encoder injective on the data? Two estimates of where it folds the data onto itself.

With true positions, the entropy that folding costs is estimated outright. Without them only the data can tell: frames
with the same latent should look the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kalmanssl.entropy import KNNEntropy
from kalmanssl.errors import InputError

__all__ = ["FoldingEntropy", "NeighborViolation", "folding_entropy", "neighbor_violation"]

_ANCHORS, _CANDIDATES, _CHUNK = 3000, 20_000, 250
_NEIGHBORS = 15
_APART = 20  # frames of a sequence that are neighbors in time, not in space
_FOLD_FRAMES = 4000
_SLOPE_ERROR = 0.1  # at which linear fits to neighboring positions are taken to be exact


@dataclass(frozen=True)
class FoldingEntropy:
    """Entropy that folding costs.

    Attributes
    ----------
    nats : float
        0 for an injective map, log 2 if two positions share every latent; errors may bring it slightly below 0.
    slope_error : float
        Median over the frames of the standard error of the map's slope, relative to its smallest singular value: where
        this is not small, `nats` is noise.
    """

    nats: float
    slope_error: float


def folding_entropy(positions: np.ndarray, latents: np.ndarray, *, random_state: int = 0) -> FoldingEntropy:
    """Entropy that the map from true positions to latents loses by folding.

    H_fold = H[s] + ⟨log |det J|⟩ - H[z] (LDM paper, Eq. 72). The map z(s) and its Jacobian are had from linear fits to
    the nearest positions, as many as it takes to see it through the noise of the latents, which so does not count; the
    entropies are Kozachenko-Leonenko estimates, whose errors largely cancel.

    Parameters
    ----------
    positions, latents : (frames, dims)
        As many true dimensions as learned ones. Some thousands of frames, and more in more than three dimensions:
        a fold is seen if it is wider than the neighborhoods of the fits.
    random_state : int
        Seed of the choice of the frames that are looked at.

    Raises
    ------
    InputError
        If shapes differ, frames are too few, or latents do not change with the positions.
    """
    from scipy.spatial import cKDTree

    s, z = np.asarray(positions, dtype=float), np.asarray(latents, dtype=float)
    if s.ndim != 2 or s.shape != z.shape:
        raise InputError(
            f"positions, latents: expected two arrays (frames, dims) of one shape, got {s.shape}, {z.shape}"
        )
    dims = s.shape[1]
    k = 4 * (dims + 2)
    if len(s) < 10 * k:
        raise InputError(f"positions: {len(s)} frames are too few in {dims} dimensions, give {10 * k} or more")
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
        raise InputError("latents: they do not change with the positions in most places, so that no fold can be sought")
    entropy = KNNEntropy(clip_quantile=None)
    h_s, h_z = (float(entropy(torch.from_numpy(v[usable]))) for v in (s[some], smooth))
    return FoldingEntropy(h_s + float(log_det[usable].mean()) - h_z, slope_error)


def _local_fits(
    s: np.ndarray, z: np.ndarray, some: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value (points, dims) and slope (points, dims, dims) of z(s) at some frames, and the slope's relative error."""
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
    """How unlike each other in the data the frames are that are neighbors by latent.

    Attributes
    ----------
    share : float
        Squared covariance of the two halves of the features among latent neighbors, over that among random frames: 0
        if the latent holds all that the halves have in common, about 1 if it holds nothing of it. A fold can exceed 1:
        it leaves neighbors either alike or far apart.
    chance : float
        Three standard errors of `share`; both are 0 where `contrast` is not above 0, so that nothing is to be compared.
    contrast : float
        Standard errors by which the covariance among random frames exceeds 0: how well the data can tell at all.
    """

    share: float
    chance: float
    contrast: float


def neighbor_violation(
    latents: np.ndarray,
    data: np.ndarray,
    place: np.ndarray,
    *,
    metric: np.ndarray | None = None,
    random_state: int = 0,
) -> NeighborViolation:
    """Look for frames whose latents are neighbors while their data are apart, beyond what noise explains.

    Noise makes all frames differ, so that the distance of two frames in the data says little. But noise that is
    independent between features and frames is independent between two halves of the features, and where a fold has put
    unlike frames on one latent, both halves see it. So the statistic is the squared covariance between one half and the
    other among the frames nearest to a latent, whose unbiased estimate has the expectation 0 under an injective encoder
    whatever the noise, and however it changes; it is compared with that among random frames. Since neighbors in many
    dimensions are not near, what a linear regression expects of the data given the latent is taken off first. Frames
    near in time to the one that neighbors are sought for do not count as its neighbors.

    The estimate is the Hilbert-Schmidt independence criterion with linear kernels: Song, Smola, Gretton, Bedo &
    Borgwardt, J. Mach. Learn. Res. 13 (2012) 1393-1434, Eq. 5.

    Parameters
    ----------
    latents : (frames, latent)
    data : (frames, features)
        Two features or more; constant ones are left out.
    place : (frames,) int
        Of the frame in its sequence; frames of a sequence follow each other.
    metric : (latent, latent), optional
        Covariance that latent distances are measured by, such as that of the residuals; by default that of the latents.
    random_state : int
        Seed of the choice of frames and of the halves.

    Notes
    -----
    It cannot see a fold that the data hardly show (see `contrast`), or of a small share of the frames. What the data
    hold and latents do not counts as folded, as it is: a nuisance, but also noise that features share. Latents so noisy
    that their neighbors are far apart in truth are blamed as well, if less, since distances enter to the fourth power;
    so are latents of many dimensions from which the data follow by a map that is far from linear.
    """
    rng = np.random.default_rng(random_state)
    spread = data.std(0)
    used = np.flatnonzero(spread > 1e-9 * max(spread.max(), 1e-300))
    if len(used) < 2:
        raise InputError(f"data: {len(used)} features vary, but two are needed, to compare what one and the other see")
    # Not standardized: a feature counts by its variance, as a pixel does.
    x = (data[:, used] - data[:, used].mean(0)).astype(np.float32) / np.float32(spread[used].max())
    order = rng.permutation(len(used))
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(latents.T)) if metric is None else metric)
    # A direction without residuals counts much, but not alone.
    z = ((latents - latents.mean(0)) @ (vectors / np.sqrt(np.maximum(values, 1e-6 * values[-1])))).astype(np.float32)

    sequence = np.cumsum(np.concatenate([[0], np.diff(place) != 1]))
    when = np.arange(len(z)) + sequence * _APART  # frames of different sequences are never near in time
    candidates = np.sort(rng.permutation(len(z))[:_CANDIDATES])
    anchors = np.sort(rng.permutation(candidates)[:_ANCHORS])
    random = _in_common(x, order, _random_groups(rng, candidates, len(anchors)))
    rest = x - _linear(z, x, candidates)
    near = _in_common(rest, order, np.column_stack([anchors, _nearest(z, anchors, candidates, when)]))
    root = np.sqrt(len(anchors))
    contrast = float(random.mean() * root / max(random.std(), 1e-300))
    if contrast <= 0:
        return NeighborViolation(0.0, 0.0, contrast)
    share = float(near.mean() / random.mean())
    return NeighborViolation(share, float(3 * (near - share * random).std() / root / random.mean()), contrast)


def _linear(z: np.ndarray, x: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Data (frames, features) as expected from the latents by a linear regression on some of the frames.

    A nonlinear one would expect more, but from noisy data it learns an error that both halves of the features share.
    """
    features = np.column_stack([np.ones(len(z), np.float32), z])
    return features @ np.linalg.lstsq(features[some], x[some], rcond=None)[0]


def _random_groups(rng: np.random.Generator, candidates: np.ndarray, groups: int) -> np.ndarray:
    """Groups (groups, neighbors + 1) of different frames: one that was in a group twice would be like itself."""
    size = _NEIGHBORS + 1
    each = len(candidates) // size
    drawn = [rng.permutation(candidates)[: each * size].reshape(each, size) for _ in range(-(-groups // each))]
    return np.concatenate(drawn)[:groups]


def _in_common(x: np.ndarray, order: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Squared covariance, estimated without bias, between two halves of the features in each group of frames.

    Parameters
    ----------
    x : (frames, features)
    order : (features,) int
        Every other one of it belongs to the same half.
    groups : (groups, size) int
        Frames.

    Returns
    -------
    (groups,)
    """
    size = groups.shape[1]
    found = []
    for start in range(0, len(groups), _CHUNK):
        values = x[groups[start : start + _CHUNK]].astype(np.float64)
        values -= values.mean(1, keepdims=True)  # no effect on the estimate but its rounding
        K, L = (half @ half.swapaxes(1, 2) for half in (values[..., order[::2]], values[..., order[1::2]]))
        K[:, np.arange(size), np.arange(size)] = L[:, np.arange(size), np.arange(size)] = 0.0
        rows_K, rows_L = K.sum(2), L.sum(2)
        total = rows_K.sum(1) * rows_L.sum(1) / ((size - 1) * (size - 2))
        found.append(((K * L).sum((1, 2)) + total - 2 * (rows_K * rows_L).sum(1) / (size - 2)) / (size * (size - 3)))
    return np.concatenate(found)


def _nearest(points: np.ndarray, anchors: np.ndarray, candidates: np.ndarray, when: np.ndarray) -> np.ndarray:
    """The nearest candidates (anchors, neighbors) of every anchor that are not near it in time."""
    others = points[candidates]
    squares = (others**2).sum(1)
    found = []
    for start in range(0, len(anchors), _CHUNK):
        some = anchors[start : start + _CHUNK]
        distance = squares - 2 * points[some] @ others.T
        distance[np.abs(when[some][:, None] - when[candidates]) <= _APART] = np.inf
        found.append(candidates[np.argpartition(distance, _NEIGHBORS, axis=1)[:, :_NEIGHBORS]])
    return np.concatenate(found)
