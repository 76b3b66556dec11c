"""NWB files of recordings follow the best practices of NWB."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest
from nwb_checks import SUBJECT, complaints
from nwb_sessions import session, spikes_of, tracked

from kalmanssl.data import Recording
from kalmanssl.data.nwb import time_fields
from kalmanssl.errors import InputError

FACTS = {"session_start_time": datetime(2020, 1, 1, tzinfo=UTC), "subject": SUBJECT}


def arrays(gap: float = 0.0, **options: Any) -> Recording:
    rng = np.random.default_rng(0)
    n_bins = 100
    time = 50 + 0.05 * np.arange(n_bins) + np.repeat([0.0, gap], n_bins // 2)
    side = np.where(np.arange(n_bins) % 20 < 10, "left", "right").astype(object)
    side[3] = None
    behavior = {
        "position": rng.normal(size=(n_bins, 2)),
        "angle": rng.uniform(0, 2 * np.pi, n_bins),
        "turns": np.linspace(0, 50, n_bins),
        "speed": rng.normal(size=n_bins),
        "side": side,
        "licking": (rng.random(n_bins) < 0.5).astype(object),
    }
    unit = {"position": "cm", "angle": "rad", "turns": "rad"}
    activity = rng.poisson(1.0, (n_bins, 4))
    return Recording.from_arrays(activity, time, behavior=behavior, behavior_unit=unit, **options)


@pytest.mark.parametrize("recording", [arrays(gap=3.0), arrays(kind="signal", cell_type=["a", "b", "a", "a"])])
def test_binned_recordings_follow_best_practices(recording: Recording, tmp_path: Path) -> None:
    recording.to_nwb(tmp_path / "a.nwb", metadata=FACTS)
    assert complaints(tmp_path / "a.nwb") == []
    read = Recording.from_nwb(tmp_path / "a.nwb", behavior=list(recording.behavior))
    for name, values in recording.behavior.items():
        known = np.array([v is not None for v in values]) if values.dtype == object else slice(None)
        np.testing.assert_array_equal(read.behavior[name][known], values[known])
    np.testing.assert_array_equal(read.activity, recording.activity)
    np.testing.assert_allclose(read.time, recording.time, rtol=0, atol=1e-9)


def test_spikes_follow_best_practices(tmp_path: Path) -> None:
    source = session(tmp_path / "source.nwb", spikes_of(tick=1 / 30000), position=[tracked()])
    Recording.from_nwb(source).to_nwb(tmp_path / "a.nwb", metadata=FACTS)
    assert complaints(tmp_path / "a.nwb") == []


def test_units_get_their_names_in_nwb_and_angles_are_compass_directions(tmp_path: Path) -> None:
    arrays().to_nwb(tmp_path / "a.nwb")
    with pynwb.NWBHDF5IO(str(tmp_path / "a.nwb"), "r") as io:
        module = io.read().processing["behavior"]
        assert module["Position"]["SpatialSeries"].unit == "centimeters"
        assert module["CompassDirection"]["angle"].unit == "radians"
        others = module["BehavioralTimeSeries"].time_series
        assert {name: series.unit for name, series in others.items()} == {
            "turns": "rad",
            "speed": "unknown",
            "side": "n.a.",
            "licking": "n.a.",
        }


def test_a_position_with_many_dimensions_or_another_unit_is_read_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 5))
    for name, unit in (("a.nwb", "m"), ("b.nwb", "pixels of the screen")):
        rec = Recording.from_arrays(np.ones((50, 2)), behavior=values, behavior_unit={"position": unit})
        rec.to_nwb(tmp_path / name)
        np.testing.assert_array_equal(Recording.from_nwb(tmp_path / name).behavior["position"], values)


def test_metadata_are_copied_from_another_file(tmp_path: Path) -> None:
    arrays().to_nwb(tmp_path / "a.nwb", metadata=FACTS | {"institution": "University"})
    arrays().to_nwb(tmp_path / "b.nwb", metadata=tmp_path / "a.nwb")
    with pynwb.NWBHDF5IO(str(tmp_path / "b.nwb"), "r") as io:
        file = io.read()
        assert (file.subject.subject_id, file.institution) == ("rat1", "University")
        assert file.session_start_time == FACTS["session_start_time"]
    with pytest.raises(InputError, match="path is the file of the metadata"):
        arrays().to_nwb(tmp_path / "a.nwb", overwrite=True, metadata=tmp_path / "a.nwb")


def test_metadata_and_names_that_nwb_does_not_have_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metadata cannot be written.*animal"):
        arrays().to_nwb(tmp_path / "a.nwb", metadata={"animal": "rat"})
    rec = Recording.from_arrays(np.ones((50, 2)), behavior={"a/b": np.ones(50)})
    with pytest.raises(InputError, match="'a/b' cannot be a name in an NWB file"):
        rec.to_nwb(tmp_path / "a.nwb")
    assert not list(tmp_path.iterdir())


def test_regular_times_are_a_start_and_a_rate() -> None:
    time = 3600.0125 + 0.025 * np.arange(400_000)
    assert time_fields(time) == {"starting_time": 3600.0125, "rate": 40.0}
    late = time.copy()
    late[200_000:] += 2e-6
    assert list(time_fields(late)) == ["timestamps"]
    assert list(time_fields(time[:1])) == ["timestamps"]
