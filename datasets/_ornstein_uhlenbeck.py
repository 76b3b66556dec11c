"""Ornstein-Uhlenbeck processes: each dimension reverts to zero with its own time constant.

dz = -pull z dt + volatility dW. Sampled at equal steps it is an autoregression of order one, which is drawn here
exactly for any step length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.signal import lfilter

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_integer, check_seed

__all__ = ["ornstein_uhlenbeck", "stationary_variance"]


def ornstein_uhlenbeck(
    steps: int = 50_000,
    pull: float | Sequence[float] = (2.0, 0.2),
    volatility: float | Sequence[float] = 0.3,
    dt: float = 0.1,
    random_state: int | None = 0,
) -> np.ndarray:
    """Draw independent Ornstein-Uhlenbeck processes, stationary from the first step on.

    z[t+1] = exp(-pull dt) z[t] + noise, of variance (1 - exp(-2 pull dt)) volatility² / (2 pull). The defaults are the
    two sources of the LDM paper's Fig. 2, which are drawn there with the Euler-Maruyama method; with pull dt = 0.2 its
    variance comes out too large by a factor 1 / (1 - pull dt / 2) = 1.11.
    Source: Gardiner (2009), Stochastic Methods, section 4.5.4.

    Parameters
    ----------
    steps : int
        Number of time steps.
    pull : float or sequence of float
        Strength of the pull back to zero by dimension, one over the time constant (1 / time).
    volatility : float or sequence of float
        Standard deviation of the noise per square root of time, one for all dimensions or one for each.
    dt : float
        Time between two steps.
    random_state : int or None
        Seed; the same seed gives the same processes, None gives different ones each time.

    Returns
    -------
    ndarray
        The processes, (steps, dims).

    Raises
    ------
    InputError
        If a number is out of its range.
    """
    rates, variance = np.atleast_1d(np.asarray(pull, dtype=float)), np.atleast_1d(stationary_variance(pull, volatility))
    check_integer("steps", steps, 1)
    _check_positive("dt", dt)
    check_seed(random_state)
    rng = np.random.default_rng(random_state)
    keep = np.broadcast_to(np.exp(-rates * dt), variance.shape)
    noise = np.sqrt(variance) * rng.standard_normal((int(steps), len(variance)))
    noise[1:] *= np.sqrt(-np.expm1(-2 * rates * dt))
    paths = [lfilter([1.0], [1.0, -k], column) for k, column in zip(keep, noise.T, strict=True)]
    return np.stack(paths, axis=1)


def stationary_variance(pull: float | Sequence[float], volatility: float | Sequence[float]) -> np.ndarray:
    """Return the stationary variance of Ornstein-Uhlenbeck processes, (dims,): volatility² / (2 pull).

    Parameters
    ----------
    pull, volatility : float or sequence of float
        As of `ornstein_uhlenbeck`.

    Raises
    ------
    InputError
        If one of them is not positive, or their lengths differ.
    """
    rates, noise = _check_positive("pull", pull), _check_positive("volatility", volatility)
    if rates.ndim > 1 or noise.ndim > 1 or (rates.ndim == noise.ndim == 1 and len(rates) != len(noise)):
        raise InputError(
            f"pull has shape {rates.shape} and volatility {noise.shape}: give numbers or sequences of the same length"
        )
    return noise**2 / (2 * rates)


def _check_positive(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=float)
    if array.size == 0 or not (np.isfinite(array) & (array > 0)).all():
        raise InputError(f"{name} must be positive and finite; got {value!r}", parameter=name)
    return array
