"""Weights of a mixture of posteriors that minimize its continuous ranked probability score on held-out bins.

The score of a mixture is a quadratic form in the weights: with the deviations ``d_k = F_k - 1[truth <= .]`` of the
distribution functions it is ``sum_kl w_k w_l sum(d_k d_l)``. Its minimum over all weights that sum to one is "stacking"
(Wolpert 1992, Neural Networks 5:241; Yao, Vehtari, Simpson & Gelman 2018, Bayesian Analysis 13:917). Held-out time is
short, so the weights are averaged over random weights of its blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from kalmanssl.decoding.grids import Grid
from kalmanssl.decoding.held_out._mass import HeldOutMass, mean_crps
from kalmanssl.decoding.held_out._paired_comparison import bootstrap_weights

__all__ = ["crps_products", "stacking_weights"]

_MIN_WEIGHT = 0.1  # every component takes time when it decodes
_DRAWS = 200


def crps_products(posteriors: Sequence[Sequence[np.ndarray]], grid: Grid, held_out: HeldOutMass) -> np.ndarray:
    """Return the sums of products of deviations that make the CRPS of mixtures, (scored bins, n, n).

    The CRPS of a mixture of n posteriors with weights w is ``w @ products @ w`` in each bin. A posterior is given by
    its marginals along each axis of the grid in the scored bins, (scored bins, cells).
    """
    n = len(posteriors)
    products = np.empty((len(held_out.truth), n, n))
    for i, first in enumerate(posteriors):
        products[:, i, i] = mean_crps(first, grid, held_out)
    for i in range(n):
        for j in range(i):
            mean = [(first + second) / 2 for first, second in zip(posteriors[i], posteriors[j], strict=True)]
            both = mean_crps(mean, grid, held_out)
            products[:, i, j] = products[:, j, i] = 2 * both - (products[:, i, i] + products[:, j, j]) / 2
    return products


def stacking_weights(products: np.ndarray) -> np.ndarray:
    """Return the weights of a mixture (n,), which sum to one; those below a tenth are zero.

    Parameters
    ----------
    products : (blocks, n, n)
        What each block of time contributes to `crps_products`.
    """
    found = [_lowest(np.tensordot(weight, products, axes=1)) for weight in bootstrap_weights(len(products), _DRAWS)]
    mean = np.mean(found, axis=0)
    kept = np.where(mean >= min(_MIN_WEIGHT, mean.max()), mean, 0.0)
    return np.asarray(kept / kept.sum())


def _lowest(products: np.ndarray) -> np.ndarray:
    """Return the weights w (n,), at least 0 and with sum 1, that minimize ``w @ products @ w``."""
    value, vector = np.linalg.eigh(products)
    scale = max(value[-1], 1e-300)
    root = np.sqrt(np.maximum(value, 0.0) / scale)[:, None] * vector.T
    # The sum is kept at one by an equation with a large weight, and exactly by the division.
    system = np.vstack([root, np.full(len(products), 1e3)])
    weights, _ = nnls(system, np.append(np.zeros(len(products)), 1e3))
    return np.asarray(weights / weights.sum())
