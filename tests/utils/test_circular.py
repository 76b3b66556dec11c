"""Circular quantities: means and deviations."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.utils.circular import circular_mean, deviations


def test_the_circular_mean_is_found_across_the_end_of_the_period() -> None:
    values = np.array([[350.0, 10.0], [10.0, 30.0], [0.0, 20.0]])
    np.testing.assert_allclose(circular_mean(values, 360.0), [0.0, 20.0], atol=1e-9)
    np.testing.assert_allclose(deviations(values[:, 0], 360.0), [-10.0, 10.0, 0.0], atol=1e-9)


@pytest.mark.parametrize("period", [None, 2.0])
def test_deviations_have_a_mean_of_zero_and_those_of_constant_values_are_exactly_zero(period: float | None) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.7, 1000)
    assert abs(deviations(values, period).mean()) < 1e-3
    np.testing.assert_array_equal(deviations(np.full(7, 0.1), period), 0)
