from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nwb_sessions import RATE, START, STOP, one_line, session, spikes_of, track, tracked

from kalmanssl.data import Recording
from kalmanssl.errors import InputError, RecordingWarning


@pytest.fixture(scope="module")
def two_mazes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    times = START + np.arange(2400) / RATE
    return session(
        tmp_path_factory.mktemp("nwb") / "two.nwb",
        spikes_of(),
        position=[
            tracked(maze="2mLinearMaze", data=np.stack([track(times), track(times + 1)], axis=1)),
            tracked(maze="2mLinearMazeLinearized"),
        ],
        series=[{"name": "speed", "data": times - START, "unit": "cm/s", "timestamps": times}],
    )


def test_ambiguous_behavior_lists_the_candidates(two_mazes: Path) -> None:
    with pytest.raises(InputError, match=r"ambiguous; name one of: 2mLinearMaze.*, 2mLinearMaze.*") as error:
        Recording.from_nwb(two_mazes)
    assert "2mLinearMazeLinearizedPosition" in one_line(error)


@pytest.mark.parametrize(
    ("behavior", "keys"),
    [
        ("2mLinearMazeLinearizedPosition", ["position"]),
        ("2mLinearMazeLinearizedSpatialSeries", ["position"]),
        ("processing/behavior/2mLinearMazePosition/2mLinearMazeSpatialSeries", ["position"]),
        ("speed", ["speed"]),
        (["2mLinearMazePosition", "speed"], ["position", "speed"]),
        (["2mLinearMazePosition", "2mLinearMazeLinearizedPosition"], None),
        ({"xy": "2mLinearMazePosition", "v": "speed"}, ["xy", "v"]),
    ],
)
def test_behavior_by_name(two_mazes: Path, behavior: Any, keys: list[str] | None) -> None:
    rec = Recording.from_nwb(two_mazes, behavior=behavior)
    assert list(rec.behavior) == (behavior if keys is None else keys)


def test_two_dimensional_position(two_mazes: Path) -> None:
    rec = Recording.from_nwb(two_mazes, behavior="2mLinearMazePosition")
    np.testing.assert_allclose(rec.behavior["position"][:, 1], track(rec.time + 1), atol=1e-3)


def test_a_position_goes_before_other_series(tmp_path: Path) -> None:
    times = START + np.arange(100) / RATE
    speed = {"name": "speed", "data": times, "unit": "m/s", "timestamps": times}
    path = session(tmp_path / "a.nwb", spikes_of(), position=[tracked()], series=[speed])
    assert list(Recording.from_nwb(path).behavior) == ["position"]
    alone = session(tmp_path / "b.nwb", spikes_of(), series=[speed])
    assert list(Recording.from_nwb(alone).behavior) == ["speed"]


def test_no_behavior_in_the_file(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", spikes_of())
    with pytest.raises(InputError, match="no SpatialSeries or TimeSeries; give 'none'"):
        Recording.from_nwb(path)
    for nothing in (False, "none"):
        assert Recording.from_nwb(path, behavior=nothing).behavior == {}


def test_conversion_and_offset(tmp_path: Path) -> None:
    pixels = tracked(conversion=0.01, offset=0.5)
    pixels["data"] = 100 * (pixels["data"] - 0.5)
    rec = Recording.from_nwb(session(tmp_path / "a.nwb", spikes_of(), position=[pixels]))
    np.testing.assert_allclose(rec.behavior["position"], track(rec.time), atol=1e-3)


@pytest.mark.parametrize("stored", [39.0625, 0.0256])
def test_rate_or_period(tmp_path: Path, stored: float) -> None:
    n = int(60 * 39.0625)
    values = track(START + 0.0256 * np.arange(n))
    series = {"data": values, "starting_time": START, "rate": stored}
    path = session(tmp_path / "a.nwb", spikes_of(), position=[series], epochs=[(START - 10, STOP + 10, "MazeEpoch")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rec = Recording.from_nwb(path)
    np.testing.assert_allclose(rec.behavior["position"], track(rec.time), atol=2e-3)
    assert rec.duration == pytest.approx(60.0, abs=0.1)
    said = [str(w.message) for w in caught if issubclass(w.category, RecordingWarning)]
    if stored < 1:
        assert len(said) == 1
        assert caught[0].filename == __file__
        assert "rate 0.0256 is a sampling period and was read as 39.06 Hz" in said[0]
        assert said[0] in rec.notes
    else:
        assert said == []


def test_a_slow_series_is_not_taken_for_a_period(tmp_path: Path) -> None:
    series = {"data": np.arange(60.0), "starting_time": START, "rate": 0.9}
    path = session(tmp_path / "a.nwb", spikes_of(), position=[series], epochs=[(START, STOP, "run")])
    rec = Recording.from_nwb(path)
    np.testing.assert_allclose(np.interp(rec.time, START + np.arange(60) / 0.9, np.arange(60.0))[50:-50],
                               rec.behavior["position"][50:-50], atol=1e-6)  # fmt: skip


def test_gaps_stay_unknown_and_short_ones_are_bridged(tmp_path: Path) -> None:
    position = tracked()
    position["data"][:40] = np.nan
    position["data"][800:803] = np.nan
    position["data"][1200:1240] = np.nan
    rec = Recording.from_nwb(session(tmp_path / "a.nwb", spikes_of(), position=[position]))
    unknown = rec.time[np.isnan(rec.behavior["position"])]
    assert rec.time[0] == pytest.approx(START + 1.0)
    assert unknown.min() == pytest.approx(START + 30.0)
    assert unknown.max() == pytest.approx(START + 31.0 - 0.025)
    assert len(unknown) == 40
    assert len(rec.segments()) == 1
    known = ~np.isnan(rec.behavior["position"])
    np.testing.assert_allclose(rec.behavior["position"][known], track(rec.time[known]), atol=2e-3)


def test_angles_are_not_averaged_where_they_wrap(tmp_path: Path) -> None:
    angle = tracked(unit="radians")
    angle["data"] = np.mod(3.0 * angle["timestamps"], 2 * np.pi)
    rec = Recording.from_nwb(session(tmp_path / "a.nwb", spikes_of(), position=[angle]), bin_size=0.01)
    error = np.angle(np.exp(1j * (rec.behavior["position"] - 3.0 * rec.time)))
    assert np.abs(error).max() <= 3.0 * 0.5 / RATE + 1e-6


def test_time_that_goes_back(tmp_path: Path) -> None:
    position = tracked()
    position["timestamps"][500] = START
    path = session(tmp_path / "a.nwb", spikes_of(), position=[position])
    with pytest.raises(InputError, match="mazeSpatialSeries: time does not increase at sample 500") as error:
        Recording.from_nwb(path)
    one_line(error)
