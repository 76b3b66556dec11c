"""Entropy from distances to nearest neighbors, without a parametric model of the density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from kalmanssl.distributions import check_unit_length
from kalmanssl.entropy._base import EntropyEstimator, identical_error, rescale, split_latents
from kalmanssl.errors import InputError
from kalmanssl.kalman.kernels import has_compiler, run_blocks
from kalmanssl.utils.validation import check_integer, check_number

__all__ = ["KNNEntropy"]

_MAX_COMPILED_DIM = 32  # with more dimensions the search with matrix products is faster
_ROWS_PER_BLOCK = 128  # rows that a thread searches at once
_CHUNK = 1024  # rows of the distance matrix that are computed at once in the search for neighbors
_SPARE = 5  # additional neighbors in the first search, so that its rounding errors rarely miss the k-th
_ROUNDING = 16  # bound on the error of squared distances in that search, in eps times squared lengths; measured: 8
_DUPLICATE = 1e-6  # samples are duplicates if their distance is below this fraction of the median distance


@dataclass(frozen=True)
class KNNEntropy(EntropyEstimator):
    """Kozachenko-Leonenko estimator, from the distance r_i of each sample to its k-th nearest neighbor.

    H = ψ(N) − ψ(k) + log V_D + (D/N) Σ_i log r_i, with V_D the volume of the unit ball (LDM paper, Eq. 33). It assumes
    only that the density is constant up to the k-th neighbor.

    For training, distances above the quantile `clip_quantile` are clipped, so that outliers are not pushed away
    further. The gradient treats clipped distances as proportional to the geometric mean of the others. With a
    constant clip level, a tenth of the distances would have no gradient, and the gradient with respect to the scale
    would be 0.9 D instead of D. Duplicates (distance below 1e-6 of the median) are given a distance of 1e-6 of the
    median and treated in the same way. The true entropy of a distribution with duplicates is minus infinity.

    Bias in nats at N = 2000, k = 3, without clipping:

    ==================================  ======  ======  ======  ======  ======
    D                                   1       2       4       8       16
    ==================================  ======  ======  ======  ======  ======
    standard normal                     −0.01   −0.01   −0.06   −0.04   +0.52
    normal, all correlations 0.5        −0.01   −0.01   −0.06   +0.01   +0.75
    uniform on the cube                 −0.01   +0.02   +0.22   +1.10   +3.45
    ==================================  ======  ======  ======  ======  ======

    The bias on the cube is large because the balls around samples near the boundary extend beyond the cube. The bias
    decreases only as N^(−2/D). Clipping at 0.9 lowers the estimate by a further 0.08 to 0.11 nats for a normal (0.02 to
    0.06 for a uniform) distribution: use `clip_quantile=None` to measure an entropy.

    For unit vectors, D is the number of coordinates minus one per vector. The bias for 2000 uniform samples on the
    sphere in 3 dimensions is 0.00.

    Parameters
    ----------
    k : int
        Number of the neighbor. A larger k has less variance and more bias.
    clip_quantile : float or None
        Quantile of the distances above which they are clipped, in (0, 1]. None does not clip; use it to measure.
    sphere_dim : int or None
        Number of coordinates of a unit vector, for samples that are one unit vector or several concatenated. The
        entropy is then that of the density with respect to the area of the sphere.
    """

    k: int = 3
    clip_quantile: float | None = 0.9
    sphere_dim: int | None = None

    spaces: ClassVar[tuple[str, ...]] = ("euclidean", "sphere")
    dim_setting: ClassVar[str | None] = "sphere_dim"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("k", self.k, 1)
        if self.clip_quantile is not None:
            check_number("clip_quantile", self.clip_quantile)
            if not 0 < self.clip_quantile <= 1:
                message = f"clip_quantile must lie in (0, 1] or be None, got {self.clip_quantile}"
                raise InputError(message, parameter="clip_quantile")
        if self.sphere_dim is not None:
            check_integer("sphere_dim", self.sphere_dim, 2)

    def _check_space(self, v: Tensor) -> None:
        if self.sphere_dim is not None:
            check_unit_length(split_latents(v, self.sphere_dim, "sphere_dim"), "v")

    def _entropy(self, v: Tensor) -> Tensor:
        n, dim = v.shape
        if self.sphere_dim is not None:
            dim -= dim // self.sphere_dim
        if n <= self.k:
            raise InputError(
                f"v has {n} samples, but the k={self.k} nearest neighbor needs more than {self.k}: "
                "give more samples or a smaller k",
                parameter="v",
            )
        v, log_scale = rescale(v)
        # The search has no gradient; only the N distances that it finds are differentiated, not all N².
        squared = (v - v[_kth_neighbor(v.detach(), self.k)]).square().sum(1)
        radius = squared.detach().sqrt()
        if not (radius > 0).any():
            raise identical_error(n)
        median = radius[radius > 0].median()
        upper = radius.max() if self.clip_quantile is None else radius.sort().values[self._clip_index(n)]
        upper = torch.maximum(upper, median)
        floor = _DUPLICATE * median
        unclipped = (radius > floor) & (radius <= upper)
        anchor = 0.5 * squared[unclipped].log().mean()
        mean_log = anchor + (radius.clamp(floor, upper).log().mean() - anchor).detach()
        return _digamma(n) - _digamma(self.k) + _log_ball_volume(dim) + dim * (mean_log + log_scale)

    def _clip_index(self, n: int) -> int:
        return max(math.ceil((self.clip_quantile or 1.0) * n) - 1, 0)


def _kth_neighbor(v: Tensor, k: int) -> Tensor:
    """Find the index (samples,) of the k-th nearest neighbor of each row of centered samples `v`."""
    if v.device.type == "cpu" and v.shape[1] <= _MAX_COMPILED_DIM and has_compiler():
        return _compiled_search(v, k)
    return _torch_search(v, k)


def _compiled_search(v: Tensor, k: int) -> Tensor:
    from kalmanssl.entropy._knn_kernel import kth_neighbor_rows  # imports numba

    n, dim = v.shape
    columns, index = np.ascontiguousarray(v.detach().numpy().T), np.empty(n, dtype=np.int64)
    n_blocks = -(-n // _ROWS_PER_BLOCK)

    def work(first: int, last: int) -> None:
        kth_neighbor_rows(columns, k, first * _ROWS_PER_BLOCK, min(last * _ROWS_PER_BLOCK, n), index)

    run_blocks(work, n_blocks, operations=3 * n * n * dim)
    return torch.from_numpy(index)


@torch.no_grad()
def _torch_search(v: Tensor, k: int) -> Tensor:
    """Search with matrix products, in blocks of rows."""
    n = len(v)
    count = min(k + _SPARE, n - 1)
    rounding = _ROUNDING * torch.finfo(v.dtype).eps
    found = []
    for start in range(0, n, _CHUNK):
        rows = v[start : start + _CHUNK]
        here = torch.arange(start, start + len(rows), device=v.device)
        searched, near = _other_distances(rows, v, here, "use_mm_for_euclid_dist").topk(count, largest=False)
        exact, order = v[near].sub_(rows[:, None]).square_().sum(2).sort(1)
        index = near.gather(1, order[:, k - 1 : k])[:, 0]
        # The first search computes distances from matrix products, which have rounding errors. All other rows are at
        # least as far as the last row that it found, up to these errors. If this bound is below the k-th distance, as
        # in narrow clusters that are far apart, the search is repeated with distances computed from differences.
        bound = searched[:, -1].square() * (1 - rounding) - rounding * rows.square().sum(1)
        doubtful = (exact[:, k - 1] > bound).nonzero()[:, 0]
        if count < n - 1 and len(doubtful):
            direct = _other_distances(rows[doubtful], v, here[doubtful], "donot_use_mm_for_euclid_dist")
            index[doubtful] = direct.kthvalue(k).indices
        found.append(index)
    return torch.cat(found)


def _other_distances(rows: Tensor, v: Tensor, own: Tensor, mode: str) -> Tensor:
    """Compute distances (rows, samples) of some rows to all of `v`; infinite to the row itself, of index `own`."""
    distance = torch.cdist(rows, v, compute_mode=mode)
    distance[torch.arange(len(rows), device=v.device), own] = math.inf
    return distance


def _digamma(x: int) -> float:
    return float(torch.digamma(torch.tensor(float(x), dtype=torch.float64)))


def _log_ball_volume(dim: int) -> float:
    return 0.5 * dim * math.log(math.pi) - math.lgamma(1 + dim / 2)
