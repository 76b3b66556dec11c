"""DecodedPosition: shapes, intervals, quantiles and probability integral transform."""

from itertools import pairwise

import numpy as np
import pytest

from kalmanssl.decoding import PositionDecoder
from kalmanssl.errors import InputError


def simulate(rng, bins):
    """Random latents, and a position that is linear in them plus noise."""
    mean = rng.normal(size=(bins, 4))
    return mean, mean[:, 0] - 0.5 * mean[:, 1] + 0.3 * rng.normal(size=bins)


def test_results_have_the_shape_of_the_given_position():
    rng = np.random.default_rng(6)
    mean, position = simulate(rng, 400)
    for given, shape in ((position, (50,)), (position[:, None], (50, 1)), (np.stack([position] * 2, 1), (50, 2))):
        decoded = PositionDecoder(regressor="linear").fit(mean, given).predict(mean[:50])
        for values in (decoded.mean, decoded.lower, decoded.upper, decoded.median, decoded.crps(given[:50])):
            assert values.shape == shape
        assert decoded.time.shape == (50,)
        assert (decoded.lower <= decoded.upper).all()
        assert len(decoded[:7]) == 7


def test_intervals_are_nested_and_the_default_has_the_given_level():
    rng = np.random.default_rng(7)
    mean, position = simulate(rng, 600)
    decoded = PositionDecoder(level=0.8, regressor="linear").fit(mean, position).predict(mean)
    assert decoded.level == 0.8
    np.testing.assert_array_equal(decoded.interval(0.8)[0], decoded.lower)
    np.testing.assert_array_equal(decoded.quantile(0.5), decoded.median)
    widths = [np.subtract(*decoded.interval(level)[::-1]) for level in (0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.995)]
    assert all((wider >= narrower).all() for narrower, wider in pairwise(widths))


def test_pit_inverts_the_quantiles_and_unknown_truths_give_nan():
    rng = np.random.default_rng(8)
    mean, position = simulate(rng, 600)
    decoded = PositionDecoder(regressor="linear").fit(mean, position).predict(mean)
    for level in (0.025, 0.3, 0.9):
        np.testing.assert_allclose(decoded.pit(decoded.quantile(level)), level, atol=1e-3)
    assert decoded.pit(np.full(600, -1e9)).max() == 0
    assert decoded.pit(np.full(600, 1e9)).min() == 1
    unknown = position.copy()
    unknown[3] = np.nan
    for values in (decoded.pit(unknown), decoded.crps(unknown), decoded.error(unknown)):
        np.testing.assert_array_equal(np.isnan(values), np.isnan(unknown))


def test_wrong_arguments_of_the_result_raise_an_error():
    rng = np.random.default_rng(17)
    mean, position = simulate(rng, 300)
    decoded = PositionDecoder(regressor="linear").fit(mean, position).predict(mean)
    for level in (0, 1, -0.1, "0.9"):
        with pytest.raises(InputError, match="must be a number between 0 and 1"):
            decoded.interval(level)
    with pytest.raises(InputError, match=r"truth has shape \(3,\), the decoded behavior \(300,\)"):
        decoded.crps(np.zeros(3))
