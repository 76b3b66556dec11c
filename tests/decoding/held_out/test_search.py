"""Search for settings, one at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from kalmanssl.decoding.held_out import closest, vary_one_at_a_time


@dataclass(frozen=True)
class Point:
    x: float
    y: float


def test_the_search_finds_the_minimum_of_a_sum_and_returns_all_scores() -> None:
    calls: list[Point] = []

    def score(point: Point) -> np.ndarray:
        calls.append(point)
        return np.full(4, (point.x - 3) ** 2 + (point.y - 2) ** 2) / 4

    values = {"x": (1.0, 2.0, 3.0, 4.0), "y": (1.0, 2.0, 3.0)}
    found = vary_one_at_a_time(Point(1.0, 1.0), values, score, 3, 0.5)
    assert found.best == Point(3.0, 2.0)
    assert len(set(calls)) == len(calls) == len(found.tried)  # no point is scored twice
    assert list(found.tried) == calls
    for point, scored in zip(found.tried, found.scores, strict=True):
        np.testing.assert_array_equal(scored, score(point))
    np.testing.assert_array_equal(found.score, np.zeros(4))


def test_an_improvement_within_the_standard_error_is_not_taken() -> None:
    noise = np.array([1.0, -1.0, 1.0, -1.05])
    found = vary_one_at_a_time(Point(0.0, 0.0), {"x": (0.0, 1.0)}, lambda point: point.x * noise, 2, 0.5)
    assert found.best == Point(0.0, 0.0)
    assert len(found.tried) == 2


@pytest.mark.parametrize(("value", "expected"), [(1.9, 2.0), (0.01, 1.0), (5.0, 4.0), (5.7, 8.0)])
def test_the_closest_candidate_has_the_smallest_ratio(value: float, expected: float) -> None:
    assert closest((1.0, 2.0, 4.0, 8.0), value) == expected
