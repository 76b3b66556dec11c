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

__all__ = ["NeighbourViolation", "folding_entropy", "neighbour_violation"]

_ANCHORS, _CANDIDATES, _CHUNK = 1500, 20_000, 250
_FOLD_FRAMES = 4000
_APART = 20  # frames of a sequence that are neighbours in time, not in space
_SMOOTHING = (0, 1, 2, 4, 8)  # frames to either side that the data are averaged over; less than half of _APART


def folding_entropy(
    positions: np.ndarray, latents: np.ndarray, *, neighbours: int | None = None, random_state: int = 0
) -> float:
    """Entropy that the map from true positions to latents loses by folding, nats.

    H_fold = H[s] + ⟨log |det J|⟩ - H[z] (LDM paper, Eq. 72): 0 for an injective map, log 2 where two positions share
    every latent. The map z(s) and its Jacobian are had from linear fits to the nearest positions, so that noise of the
    latents about it does not count; the entropies are Kozachenko-Leonenko estimates, whose errors largely cancel.

    Parameters
    ----------
    positions, latents : (frames, dims)
        As many true dimensions as learned ones. Some thousands of frames, and more in more than three dimensions:
        a fold is seen if it is wider than the distance between neighbouring positions.
    neighbours : int, optional
        Of each linear fit; by default 4 (dims + 2).
    random_state : int
        Seed of the choice of the frames that are looked at.

    Returns
    -------
    float
        Errors of estimation may bring it slightly below 0.

    Raises
    ------
    InputError
        If shapes differ, frames are too few, or the map is singular nearly everywhere.
    """
    from scipy.spatial import cKDTree

    s, z = np.asarray(positions, dtype=float), np.asarray(latents, dtype=float)
    if s.ndim != 2 or s.shape != z.shape:
        raise InputError(
            f"positions, latents: expected two arrays (frames, dims) of one shape, got {s.shape}, {z.shape}"
        )
    dims = s.shape[1]
    k = 4 * (dims + 2) if neighbours is None else neighbours
    if len(s) < 10 * k:
        raise InputError(f"positions: {len(s)} frames are too few for fits of {k} neighbours, give {10 * k} or more")
    s, z = ((v - v.mean(0)) / np.maximum(v.std(0), 1e-12) for v in (s, z))
    some = np.random.default_rng(random_state).permutation(len(s))[:_FOLD_FRAMES]
    near = cKDTree(s).query(s[some], k=k)[1]
    offset = s[near] - s[some][:, None]
    design = np.concatenate([np.ones((*offset.shape[:2], 1)), offset], axis=-1)
    gram = design.transpose(0, 2, 1) @ design + 1e-12 * np.eye(dims + 1)
    fit = np.linalg.solve(gram, design.transpose(0, 2, 1) @ z[near])
    log_det = np.linalg.slogdet(fit[:, 1:])[1]
    usable = np.isfinite(log_det) & (log_det > -30)
    if usable.mean() < 0.5:
        raise InputError("latents: they do not change with the positions in most places, so that no fold can be sought")
    entropy = KNNEntropy(clip_quantile=None, max_samples=None)
    h_s, h_z = (float(entropy(torch.from_numpy(v[usable]))) for v in (s[some], fit[:, 0]))
    return h_s + float(log_det[usable].mean()) - h_z


@dataclass(frozen=True)
class NeighbourViolation:
    """How much farther apart in the data the neighbours by latent are than the neighbours by data.

    Attributes
    ----------
    share : float
        (D_latent - D_data) / (D_random - D_data) of mean squared data distances: 0 if latents find neighbours as well
        as half of the features do, 1 if no better than chance; below 0 if better.
    chance : float
        Three standard errors of `share`.
    contrast : float
        (D_random - D_data) / D_random: how well the data can tell at all.
    contrast_chance : float
        Three standard errors of `contrast`.
    """

    share: float
    chance: float
    contrast: float
    contrast_chance: float


def neighbour_violation(
    latents: np.ndarray,
    data: np.ndarray,
    place: np.ndarray,
    *,
    neighbours: int = 3,
    metric: np.ndarray | None = None,
    random_state: int = 0,
) -> NeighbourViolation:
    """Look for frames whose latents are neighbours while their data are apart, beyond what noise explains.

    Two frames that share a latent through a fold differ in the data. Noise makes all frames differ, so distances are
    compared with those of the best neighbours that the data themselves offer. To choose neighbours and to measure
    their distance by the same noisy numbers would make them look near; so the features are split in halves, one
    chooses neighbours (averaged over a few frames in time, as many as serves it best), the other measures the distances
    of the neighbours by data, by latents, and of random frames. Neighbours in time are no neighbours here.

    Parameters
    ----------
    latents : (frames, latent)
    data : (frames, features)
        Two features or more; constant ones are left out.
    place : (frames,) int
        Of the frame in its sequence; frames of a sequence follow each other.
    neighbours : int
    metric : (latent, latent), optional
        Covariance that latent distances are measured by, such as that of the residuals; by default that of the latents.
    random_state : int
        Seed of the choice of frames and of the halves.

    Notes
    -----
    It cannot see a fold that the data hardly show (see `contrast`), or of a small share of the frames; latents with
    dimensions that hold mere noise find worse neighbours and are blamed though nothing folds; data that vary in what
    latents are not meant to hold (nuisance) count as folded, as they are. Features must not be copies of each other
    with the same noise.
    """
    rng = np.random.default_rng(random_state)
    spread = data.std(0)
    used = np.flatnonzero(spread > 1e-9 * max(spread.max(), 1e-300))
    if len(used) < 2:
        raise InputError(f"data: {len(used)} features vary, but two are needed, one to choose and one to measure")
    # Not standardised: a feature counts by its variance, as a pixel does.
    x = (data[:, used] - data[:, used].mean(0)).astype(np.float32) / np.float32(spread[used].max())
    order = rng.permutation(len(used))
    choosing, measuring = x[:, order[::2]], x[:, order[1::2]]
    cov = np.atleast_2d(np.cov(latents.T)) if metric is None else metric
    values, vectors = np.linalg.eigh(cov)
    kept = values > 1e-12 * values[-1]
    z = ((latents - latents.mean(0)) @ (vectors[:, kept] / np.sqrt(values[kept]))).astype(np.float32)

    frames = len(latents)
    sequence = np.cumsum(np.concatenate([[0], np.diff(place) != 1]))
    when = np.arange(frames) + sequence * (frames + _APART)  # frames of different sequences are never near in time
    candidates = np.sort(rng.permutation(frames)[:_CANDIDATES])
    anchors = np.sort(rng.permutation(candidates)[:_ANCHORS])
    random = candidates[rng.integers(len(candidates), size=(len(anchors), 20))]

    def apart(chosen: np.ndarray) -> np.ndarray:
        return ((measuring[anchors][:, None] - measuring[chosen]) ** 2).sum(-1).mean(1)

    by_data = min(
        (apart(_nearest(_smooth(choosing, sequence, width), anchors, candidates, when, neighbours)) for width in _SMOOTHING),
        key=lambda distances: float(distances.mean()),
    )
    by_latent = apart(_nearest(z, anchors, candidates, when, neighbours))
    at_random = apart(random)
    room = float((at_random - by_data).mean())
    error = np.sqrt(len(anchors))
    share = float((by_latent - by_data).mean()) / room if room > 0 else 0.0
    spread_of_share = float((by_latent - by_data - share * (at_random - by_data)).std()) / error
    mean_random = max(float(at_random.mean()), 1e-300)
    return NeighbourViolation(
        share,
        3 * spread_of_share / room if room > 0 else float("inf"),
        room / mean_random,
        3 * float((at_random - by_data).std()) / error / mean_random,
    )


def _smooth(values: np.ndarray, sequence: np.ndarray, width: int) -> np.ndarray:
    """Mean over the frames of the same sequence up to `width` before and after."""
    if width == 0:
        return values
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0, dtype=np.float64)])
    index = np.arange(len(values))
    first = np.searchsorted(sequence, sequence)
    last = np.searchsorted(sequence, sequence, side="right")
    low, high = np.maximum(index - width, first), np.minimum(index + width + 1, last)
    return ((total[high] - total[low]) / (high - low)[:, None]).astype(np.float32)


def _nearest(
    points: np.ndarray, anchors: np.ndarray, candidates: np.ndarray, when: np.ndarray, neighbours: int
) -> np.ndarray:
    """The nearest candidates (anchors, neighbours) of every anchor that are not near it in time."""
    others = points[candidates]
    squares = (others**2).sum(1)
    found = []
    for start in range(0, len(anchors), _CHUNK):
        some = anchors[start : start + _CHUNK]
        distance = squares - 2 * points[some] @ others.T
        distance[np.abs(when[some][:, None] - when[candidates]) <= _APART] = np.inf
        found.append(candidates[np.argpartition(distance, neighbours, axis=1)[:, :neighbours]])
    return np.concatenate(found)
