"""Poisson regression with a ridge penalty."""

from __future__ import annotations

import numpy as np

__all__ = ["poisson_regression"]

_MAX_ITER = 30
_MAX_HALVINGS = 20
_TOLERANCE = 1e-7  # relative decrease of the loss at convergence


def poisson_regression(x: np.ndarray, y: np.ndarray, penalty: float, min_rate: float) -> np.ndarray:
    """Fit a Poisson regression with a logarithmic link to each unit by Newton's method.

    The loss of a unit is ``mean(rate - y log rate) + penalty / 2 * |coefficients|^2``, without the last coefficient in
    the norm.

    Parameters
    ----------
    x : (bins, features)
        The last feature is the constant 1.
    y : (bins, units)
        Counts, not negative.
    penalty : float
    min_rate : float
        Events per bin of a unit without any.

    Returns
    -------
    (features, units)
    """
    return np.stack([_fit_unit(x, unit, penalty, min_rate) for unit in y.T], axis=1)


def _fit_unit(x: np.ndarray, y: np.ndarray, penalty: float, min_rate: float) -> np.ndarray:
    """Return the coefficients of one unit, (features,)."""
    weights = np.full(x.shape[1], penalty)
    weights[-1] = 0.0

    def loss(beta: np.ndarray) -> float:
        log_rate = x @ beta
        with np.errstate(over="ignore"):
            return float((np.exp(log_rate) - y * log_rate).mean() + 0.5 * weights @ beta**2)

    beta = np.zeros(x.shape[1])
    beta[-1] = np.log(max(y.mean(), min_rate))
    if not y.any():
        return beta
    value = loss(beta)
    for _ in range(_MAX_ITER):
        rate = np.exp(x @ beta)
        gradient = x.T @ (rate - y) / len(y) + weights * beta
        hessian = (x * rate[:, None]).T @ x / len(y) + np.diag(weights)
        step = np.linalg.solve(hessian, gradient)
        for _ in range(_MAX_HALVINGS):
            new = loss(beta - step)
            if new <= value:
                break
            step = 0.5 * step
        else:
            return beta
        beta, decrease, value = beta - step, value - new, new
        if decrease <= _TOLERANCE * abs(value):
            break
    return beta
