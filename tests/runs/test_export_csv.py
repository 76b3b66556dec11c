"""Decoded behavior as a CSV file."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.decoding import PositionDecoder
from kalmanssl.runs._export import _around_means


@pytest.mark.parametrize("period", [2 * np.pi, 360.0])
def test_the_interval_of_an_angle_lies_around_its_mean(period):
    rng = np.random.default_rng(0)
    angle = (period * np.cumsum(0.01 * rng.standard_normal(3000))) % period
    turn = 2 * np.pi * angle / period
    latents = np.stack([np.cos(turn), np.sin(turn)], axis=1) + 0.5 * rng.standard_normal((3000, 2))
    decoder = PositionDecoder(period=period, regressor="linear", random_state=0).fit(latents[:2000], angle[:2000])
    decoded = decoder.predict(latents[2000:])
    before, after = decoded.columns(), _around_means(decoded)
    assert list(after) == list(before)
    middle = (after["lower"] + after["upper"]) / 2
    assert np.abs(after["mean"] - middle).max() <= period / 2 * (1 + 1e-9)
    outside = {
        k: (t["mean"] < t["lower"]) | (t["mean"] > t["upper"]) for k, t in (("before", before), ("after", after))
    }
    assert outside["before"].any()
    assert not outside["after"].any()
    for name, values in after.items():
        turns = (values.astype(float) - before[name].astype(float)) / period
        np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)


def test_behavior_without_a_period_stays_as_it_is():
    rng = np.random.default_rng(0)
    place = np.cumsum(rng.standard_normal((1000, 2)), axis=0)
    latents = place + rng.standard_normal((1000, 2))
    decoded = PositionDecoder(regressor="linear", random_state=0).fit(latents, place).predict(latents)
    for name, values in decoded.columns().items():
        np.testing.assert_array_equal(_around_means(decoded)[name], values)
