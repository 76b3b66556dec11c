"""Entropy from the distances between neighbours, which assumes next to nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kalmanssl.entropy_base import EntropyEstimator, identical_error
from kalmanssl.errors import InputError

__all__ = ["KNNEntropy"]

_CHUNK = 1024  # rows of the distance matrix held at once while neighbours are searched
_SPARE = 5  # neighbours searched beyond k, so that rounding in the search cannot change the k-th distance
_DUPLICATE = 1e-6  # distances below this fraction of the median distance count as a duplicate


@dataclass(frozen=True)
class KNNEntropy(EntropyEstimator):
    """Kozachenko-Leonenko estimator from the distance r_i of each sample to its k-th nearest other sample.

    H = ψ(N) − ψ(k) + log V_D + (D/N) Σ_i log r_i, with V_D the volume of the unit ball (LDM paper, Eq. 33).
    It assumes only that the density is flat over the k-th neighbour's distance.

    In training, distances above the `clip_quantile` quantile are clipped there, so that outliers are not
    pushed out further. The clip level moves with the geometric mean of the other distances; a level held
    constant would take the clipped tenth out of the gradient and leave a change of scale with 0.9 of its
    weight. Duplicates (distance below 1e-6 of the median) count as 1e-6 of the median, tied to the scale of
    the others in the same way; the true entropy of a distribution with atoms is minus infinity.

    Bias at N = 2000, k = 3, unclipped, in nats for D = 1, 2, 4, 8, 16. Standard normal: −0.01, −0.01, −0.06,
    −0.04, +0.52; uniform: −0.01, +0.02, +0.22, +1.10, +3.45 (neighbourhoods that stick out over the edge
    count as full). With correlations of 0.5 the normal gives −0.01, −0.01, −0.06, +0.01, +0.75. It falls with
    N only as N^(−2/D). Clipping at 0.9 lowers the value by a further 0.08 to 0.11 on a normal (0.02 to 0.06
    on a uniform), so measure with `clip_quantile=None`.

    Samples on a sphere fill one dimension less than they have coordinates, and D is then that number. Bias on 2000
    uniform samples of the sphere in 3 dimensions: 0.00.

    Parameters
    ----------
    k : int
        Which neighbour. More neighbours: less variance, more bias.
    clip_quantile : float or None
        Quantile of the distances at which they are clipped, in (0, 1]; None (for measuring) keeps them all.
    sphere_dim : int or None
        For unit vectors of so many coordinates, or several such side by side: the entropy is by area of the sphere.
    """

    k: int = 3
    clip_quantile: float | None = 0.9
    sphere_dim: int | None = None

    spaces: ClassVar[tuple[str, ...]] = ("plane", "sphere")
    dim_setting: ClassVar[str | None] = "sphere_dim"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise InputError(f"k must be at least 1, got {self.k}")
        if self.clip_quantile is not None and not 0 < self.clip_quantile <= 1:
            raise InputError(f"clip_quantile must lie in (0, 1] or be None, got {self.clip_quantile}")
        if self.sphere_dim is not None and self.sphere_dim < 2:
            raise InputError(f"sphere_dim must be at least 2 or None, got {self.sphere_dim}")

    def _entropy(self, v: Tensor) -> Tensor:
        n, dim = v.shape
        if self.sphere_dim is not None:
            if dim % self.sphere_dim:
                raise InputError(f"v has {dim} columns, not a multiple of sphere_dim={self.sphere_dim}")
            dim -= dim // self.sphere_dim
        if n <= self.k:
            raise InputError(
                f"v has {n} samples, but the k={self.k} nearest neighbour needs more than {self.k}: "
                "give more samples or a smaller k"
            )
        # Only the N distances that count are differentiated, not the N² that were searched.
        squared = (v - v[_kth_neighbour(v.detach(), self.k)]).square().sum(1)
        radius = squared.detach().sqrt()
        if not (radius > 0).any():
            raise identical_error(n)
        median = radius[radius > 0].median()
        upper = radius.max() if self.clip_quantile is None else radius.sort().values[self._clip_index(n)]
        upper = torch.maximum(upper, median)
        floor = _DUPLICATE * median
        alive = (radius > floor) & (radius <= upper)
        anchor = 0.5 * squared[alive].log().mean()
        mean_log = anchor + (radius.clamp(floor, upper).log().mean() - anchor).detach()
        return _digamma(n) - _digamma(self.k) + _log_ball_volume(dim) + dim * mean_log

    def _clip_index(self, n: int) -> int:
        return max(math.ceil((self.clip_quantile or 1.0) * n) - 1, 0)


@torch.no_grad()
def _kth_neighbour(v: Tensor, k: int) -> Tensor:
    """Index of the k-th nearest other row of each row of centred samples `v`, searched in blocks of rows."""
    n = len(v)
    count = min(k + _SPARE, n - 1)
    found = []
    for start in range(0, n, _CHUNK):
        rows = v[start : start + _CHUNK]
        here = torch.arange(start, start + len(rows), device=v.device)
        distance = torch.cdist(rows, v, compute_mode="use_mm_for_euclid_dist")
        distance[here - start, here] = math.inf
        near = distance.topk(count, largest=False).indices
        exact = (rows[:, None] - v[near]).square().sum(2)
        found.append(near.gather(1, exact.argsort(1)[:, k - 1 : k])[:, 0])
    return torch.cat(found)


def _digamma(x: int) -> float:
    return float(torch.digamma(torch.tensor(float(x), dtype=torch.float64)))


def _log_ball_volume(dim: int) -> float:
    return 0.5 * dim * math.log(math.pi) - math.lgamma(1 + dim / 2)
