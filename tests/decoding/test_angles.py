"""Intervals of decoded angles: they lie around the point estimate, in every form in which they are given."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest

from kalmanssl.decoding import DecodedPosition, PositionDecoder
from kalmanssl.decoding.grids import turns_towards
from kalmanssl.decoding.results import QUANTILE_LEVELS, around_points
from kalmanssl.errors import PeriodWarning
from kalmanssl.runs import write_decoded


def decode_angle(period: float) -> tuple[DecodedPosition, np.ndarray]:
    """Return the decoded angle, which crosses the end of the period many times, and the true one."""
    rng = np.random.default_rng(0)
    angle = (period * np.cumsum(0.01 * rng.standard_normal(3000))) % period
    turn = 2 * np.pi * angle / period
    latents = np.stack([np.cos(turn), np.sin(turn)], axis=1) + 0.5 * rng.standard_normal((3000, 2))
    decoder = PositionDecoder(period=period, regressor="linear", random_state=0).fit(latents[:2000], angle[:2000])
    return decoder.predict(latents[2000:]), angle[2000:]


@pytest.mark.parametrize("period", [2 * np.pi, 360.0])
def test_the_interval_of_an_angle_contains_its_mean(period: float) -> None:
    decoded, truth = decode_angle(period)
    assert ((decoded.mean >= 0) & (decoded.mean < period)).all()
    assert ((decoded.lower <= decoded.mean) & (decoded.mean <= decoded.upper)).all()
    assert (decoded.lower < 0).any()  # otherwise the angle never crossed the end of the period
    assert (decoded.upper > period).any()
    assert np.abs(decoded.mean - (decoded.lower + decoded.upper) / 2).max() <= period / 2 * (1 + 1e-6)
    half, wide = decoded.interval(0.5), decoded.interval(0.95)
    assert ((wide[0] <= half[0]) & (half[1] <= wide[1])).all()
    inside = (truth - decoded.lower) % period <= decoded.upper - decoded.lower
    assert 0.9 < inside.mean() < 1.0


def test_the_table_and_the_file_have_the_intervals_of_the_object(tmp_path: Path) -> None:
    decoded, _ = decode_angle(360.0)
    out = tmp_path / "angle.csv"
    write_decoded(
        decoded, out, latents=None, recording=Path("none.nwb"), behavior="angle", unit="deg", made_by="a test",
        overwrite=False,
    )  # type: ignore[arg-type]  # fmt: skip
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in ("mean", "lower", "upper", "lower_50", "upper_50"):
        ends = decoded.interval(0.5) if name.endswith("50") else (decoded.lower, decoded.upper)
        expected = decoded.mean if name == "mean" else ends[name.startswith("upper")]
        np.testing.assert_allclose([float(row[name]) for row in rows], expected, rtol=1e-5, atol=1e-4)


def test_intervals_move_to_their_points_by_whole_periods_of_circular_dimensions_alone() -> None:
    points = np.array([[0.1, 5.0], [0.9, -5.0], [np.nan, 0.0]])
    low, high = points + np.array([[0.8, 7.0]]), points + np.array([[1.1, 9.0]])
    turns = turns_towards(points[:, 0], low[:, 0], high[:, 0], 1.0)
    np.testing.assert_array_equal(turns, [-1.0, -1.0, np.nan])
    assert [turns_towards(*ends, 1.0) for ends in ((0.1, 0.9, 1.2), (0.9, 1.7, 2.0))] == [-1.0, -1.0]
    table = np.repeat((low + high)[:, :, None] / 2, len(QUANTILE_LEVELS), axis=2)
    moved = around_points(table, points, (1.0, None), 0.9)
    expected = np.array([[-1.0, 0.0], [-1.0, 0.0], [np.nan, 0.0]])
    np.testing.assert_allclose(moved - table, np.repeat(expected[:, :, None], len(QUANTILE_LEVELS), axis=2))


@pytest.mark.parametrize(("period", "is_angle"), [(2 * np.pi, True), (360.0, True), (10.0, False)])
def test_an_angle_without_a_period_is_noticed(period: float, is_angle: bool) -> None:
    rng = np.random.default_rng(1)
    angle = (period * np.cumsum(0.02 * rng.standard_normal(3000))) % period
    latents = np.stack([np.cos(2 * np.pi * angle / period), np.sin(2 * np.pi * angle / period)], axis=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        PositionDecoder(regressor="linear", random_state=0).fit(latents, angle)
        PositionDecoder(regressor="linear", random_state=0, period=period).fit(latents, angle)
    found = [str(warning.message) for warning in caught if warning.category is PeriodWarning]
    assert [f"period={period:.6g}" in text for text in found] == [True] * is_angle
