"""Ornstein-Uhlenbeck processes against their moments, and against the moments' differential equation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from kalmanssl.datasets import ornstein_uhlenbeck, stationary_variance
from kalmanssl.errors import InputError


def test_variance_and_autocorrelation() -> None:
    z = ornstein_uhlenbeck(steps=400_000, random_state=1)
    assert z.shape == (400_000, 2)
    np.testing.assert_allclose(stationary_variance((2.0, 0.2), 0.3), [0.0225, 0.225])
    # The slow process has 400 000 * 0.01 effective samples of its square, the variance an error of 2 %.
    np.testing.assert_allclose(z.var(axis=0), [0.0225, 0.225], rtol=0.06)
    for lag in (1, 5):
        found = [np.corrcoef(one[lag:], one[:-lag])[0, 1] for one in z.T]
        np.testing.assert_allclose(found, np.exp(-np.array([2.0, 0.2]) * 0.1 * lag), atol=0.01)
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.05


def test_a_step_has_the_law_of_the_moment_equations() -> None:
    pull, volatility, dt = 1.3, 0.7, 0.9  # long enough for Euler's step to be far off
    z = ornstein_uhlenbeck(steps=100_000, pull=pull, volatility=volatility, dt=dt, random_state=2)[:, 0]
    solved = solve_ivp(
        lambda _, m: [-pull * m[0], -2 * pull * m[1] + volatility**2], (0, dt), [1.0, 0.0], rtol=1e-10, atol=1e-12
    )
    keep, variance = solved.y[:, -1]
    innovation = z[1:] - keep * z[:-1]
    assert stats.kstest(innovation / np.sqrt(variance), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(innovation, z[:-1])[0, 1]) < 0.015


def test_stationary_from_the_first_step() -> None:
    first = np.array([ornstein_uhlenbeck(steps=2, random_state=seed) for seed in range(4000)])
    np.testing.assert_allclose(first.var(axis=0), [[0.0225, 0.225]] * 2, rtol=0.1)


def test_seed_and_shapes() -> None:
    same = ornstein_uhlenbeck(steps=50, random_state=3)
    np.testing.assert_array_equal(same, ornstein_uhlenbeck(steps=50, random_state=3))
    assert not np.allclose(same, ornstein_uhlenbeck(steps=50, random_state=4))
    assert ornstein_uhlenbeck(steps=7, pull=1.0).shape == (7, 1)
    assert ornstein_uhlenbeck(steps=7, pull=1.0, volatility=[0.1, 0.2, 0.3]).shape == (7, 3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"pull": 0.0}, "pull must be positive"),
        ({"volatility": np.nan}, "volatility must be positive"),
        ({"dt": -1.0}, "dt must be positive"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"volatility": [1.0, 2.0, 3.0]}, "sequences of the same length"),
        ({"pull": []}, "pull must be positive"),
        ({"random_state": -1}, "random_state must be a whole number"),
    ],
)
def test_refuses(wrong: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ornstein_uhlenbeck(**wrong)
