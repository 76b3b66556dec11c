"""Candidate correspondences between the states of two Markov chains."""

from __future__ import annotations

import numpy as np
from scipy.optimize import quadratic_assignment

from kalmanssl.alignment._distances import agreement
from kalmanssl.alignment._reference import StateChain

__all__ = ["match_chains"]

_MAX_ITERATIONS = 40
_SAME = 0.8  # candidates whose centers agree better than this are the same


def match_chains(
    a: StateChain, b: StateChain, centers: np.ndarray, discount: float, n_starts: int, count: int, seed: int
) -> np.ndarray:
    """Find permutations of the states of `b` with which its transitions resemble those of `a`.

    It is a quadratic assignment problem between the log-lifts of both chains, solved from random starts by the
    Frank-Wolfe algorithm (Vogelstein et al. 2015, PLoS ONE 10:e0121002).

    Parameters
    ----------
    a, b : StateChain
        With the same number of states.
    centers : (states, dims)
        Centers of the states of `b`; of correspondences with similar centers, only the best one is returned.
    discount : float
        Discount of the successor representation, 0 to below 1; larger values compare later times.
    n_starts, count : int
        Random starts, and largest number of different permutations to return.
    seed : int

    Returns
    -------
    (at most count, states) int
        State of `b` for each state of `a`, best first.
    """
    first, second = a.log_lift(discount), b.log_lift(discount)
    found = []
    for start in range(n_starts):
        options = {
            "maximize": True,
            "P0": "randomized",
            "rng": np.random.default_rng([seed, start]),
            "maxiter": _MAX_ITERATIONS,
        }
        result = quadratic_assignment(first, second, method="faq", options=options)
        found.append((-float(result.fun), start, result.col_ind))
    kept: list[np.ndarray] = []
    for _, _, states in sorted(found, key=lambda one: one[:2]):
        if all(agreement(centers[states], centers[other], a.occupancy) <= _SAME for other in kept):
            kept.append(states)
        if len(kept) == count:
            break
    return np.array(kept)
