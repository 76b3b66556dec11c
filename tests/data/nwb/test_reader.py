from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_sessions import RATE, START, STOP, one_line, session, spikes_of, track, tracked

from kalmanssl.data import Recording
from kalmanssl.errors import InputError


def test_counts_are_the_histogram_of_the_spikes_in_the_tracked_time(plain: Path) -> None:
    rec = Recording.from_nwb(plain, bin_size=0.05)
    half = 0.5 / RATE
    edges = START - half + 0.05 * np.arange(len(rec) + 1)
    assert edges[-1] == pytest.approx(STOP - half, abs=0.051)
    expected = [np.histogram(spikes_of()[u], edges)[0] for u in (0, 2, 3)]
    np.testing.assert_array_equal(rec.activity, np.transpose(expected))
    np.testing.assert_allclose(rec.time, (edges[:-1] + edges[1:]) / 2, atol=1e-9)
    assert rec.unit_ids == ("10", "12", "13")
    assert rec.activity.dtype == np.float32
    assert rec.spike_times is not None
    assert [len(s) for s in rec.spike_times] == rec.activity.sum(axis=0).tolist()
    total = sum(len(spikes_of()[u]) for u in (0, 2, 3))
    outside = int(total - rec.activity.sum())
    assert any(note.startswith(f"{outside} of {total} spikes are in gaps or outside of ") for note in rec.notes)
    assert any("3 excitatory of 4, by column cell_type" in note for note in rec.notes)


def test_behavior_at_bin_centers(plain: Path) -> None:
    rec = Recording.from_nwb(plain, bin_size=0.03)
    assert list(rec.behavior) == ["position"]
    assert rec.behavior_unit == {"position": "meters"}
    np.testing.assert_allclose(rec.behavior["position"], track(rec.time), atol=1e-3)


@pytest.mark.parametrize(
    ("units", "ids"),
    [
        ("auto", ("10", "12", "13")),
        ("all", ("10", "11", "12", "13")),
        ({"location": "rCA1"}, ("12", "13")),
        ({"shank_id": [1, 2, 3], "location": "lCA1"}, ("10", "11")),
        ({"cell_type": "inhibitory"}, ("11",)),
    ],
)
def test_units_by_column(plain: Path, units: Any, ids: tuple[str, ...]) -> None:
    assert Recording.from_nwb(plain, units=units).unit_ids == ids


@pytest.mark.parametrize("spelling", ["Excitatory", "putative pyramidal cell", "pyr", "exc", "E", "Pyramidal Neuron"])
@pytest.mark.parametrize("column", ["cell_type", "putative_cell_type"])
def test_spellings_of_excitatory(tmp_path: Path, spelling: str, column: str) -> None:
    path = session(tmp_path / "a.nwb", spikes_of(2), columns={column: [spelling, "interneuron"]})
    rec = Recording.from_nwb(path, behavior=False)
    assert rec.unit_ids == ("10",)
    assert rec.cell_type == (spelling,)


def test_without_excitatory_units_all_are_taken(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", spikes_of(2), cell_type=["granule", "mossy"])
    assert Recording.from_nwb(path, behavior=False).n_units == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": {"area": "CA1"}}, r"no column 'area'; columns: cell_type, id, location, shank_id"),
        ({"units": {"location": "CA3"}}, r"no unit has 'CA3' in column 'location'; its values: lCA1, rCA1"),
        ({"units": {"location": "lCA1", "shank_id": 4}}, r"no unit matches all of "),
        ({"units": "good"}, r"units must be 'auto', 'all' or a dict"),
        ({"behavior": "speed"}, r"behavior='speed' is not in the file; it has: .*mazePosition/mazeSpatialSeries"),
        ({"epoch": "Maze"}, r"epoch='Maze' is not in .*plain.nwb; its epochs: MazeEpoch, POSTEpoch, PREEpoch"),
        ({"epoch": "POSTEpoch"}, r"no tracked behavior in the epoch"),
        ({"bin_size": 0.0}, r"bin_size must be positive and finite; got 0.0"),
        ({"bin_size": 1e4}, r"no bin of 10000 s fits"),
    ],
)
def test_bad_arguments_name_the_way_out(plain: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Recording.from_nwb(plain, **arguments)
    one_line(error)


def test_epoch_restricts_the_bins(plain: Path) -> None:
    rec = Recording.from_nwb(plain, epoch="MazeEpoch")
    assert START + 30 <= rec.time[0] - 0.0125 < START + 30.001
    assert rec.time[-1] < STOP
    np.testing.assert_array_equal(rec.epochs["POSTEpoch"], [[STOP, STOP + 10]])


def test_an_epoch_of_two_parts_gives_two_segments(tmp_path: Path) -> None:
    epochs = [(START + 5, START + 15, "run"), (START + 30, START + 50, "run")]
    path = session(tmp_path / "a.nwb", spikes_of(), position=[tracked()], epochs=epochs)
    rec = Recording.from_nwb(path, epoch="run")
    parts = rec.segments()
    assert [p.stop - p.start for p in parts] == [400, 800]
    assert rec.time[parts[1].start] == pytest.approx(START + 30.0125)
    assert rec.duration == pytest.approx(30.0)


def test_epochs_that_overlap_or_touch_are_one_segment(tmp_path: Path) -> None:
    spans = [(5, 15.01), (15.01, 20), (18, 30)]
    epochs = [(START + a, START + b, "run") for a, b in spans]
    path = session(tmp_path / "a.nwb", spikes_of(), position=[tracked()], epochs=epochs)
    rec = Recording.from_nwb(path, epoch="run")
    assert len(rec.segments()) == 1
    np.testing.assert_allclose(np.diff(rec.time), 0.025, atol=1e-9)
    assert rec.duration == pytest.approx(25.0)


def test_observed_intervals_bound_the_bins(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", spikes_of(), position=[tracked()], observed=[[START + 10, START + 20]])
    rec = Recording.from_nwb(path)
    assert rec.time[0] - 0.0125 == pytest.approx(START + 10)
    assert rec.duration == pytest.approx(10.0)


def test_without_behavior_the_bins_cover_the_spikes(plain: Path) -> None:
    rec = Recording.from_nwb(plain, behavior=False, units="all")
    times = np.concatenate(spikes_of())
    assert rec.behavior == {}
    assert rec.time[0] - 0.0125 == pytest.approx(times.min())
    assert 0 <= times.max() - (rec.time[-1] + 0.0125) < 0.025


# Rounded spike times


def test_rounded_spikes_are_spread_over_bins_that_the_tick_does_not_divide(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    spikes = [np.round(np.sort(rng.uniform(START, STOP, 6000)), 2) for _ in range(3)]
    path = session(tmp_path / "a.nwb", spikes)
    rec = Recording.from_nwb(path, behavior=False)
    assert any("rounded to 10 ms" in note and "noise of ±5 ms is added" in note for note in rec.notes)
    total = rec.activity.sum(axis=1)
    by_parity = total[: len(total) // 2 * 2].reshape(-1, 2).mean(axis=0)
    # Bins of two and three ticks would differ by a factor of 1.5.
    assert by_parity.max() / by_parity.min() < 1.1
    assert rec.spike_times is not None
    for spread, rounded in zip(rec.spike_times, spikes, strict=True):
        assert np.isin(np.round(100 * spread).astype(int), np.round(100 * rounded).astype(int)).all()
        assert np.abs(spread - np.round(spread, 2)).mean() == pytest.approx(0.0025, rel=0.1)
    np.testing.assert_array_equal(Recording.from_nwb(path, behavior=False).activity, rec.activity)
    other = Recording.from_nwb(path, behavior=False, random_state=1).activity
    assert len(other) != len(rec.activity) or not np.array_equal(other, rec.activity)


def test_spreading_a_unit_does_not_depend_on_the_others(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", spikes_of(3, tick=0.01), columns={"shank": [1, 2, 2]}, position=[tracked()])
    every = Recording.from_nwb(path).activity
    np.testing.assert_array_equal(Recording.from_nwb(path, units={"shank": 2}).activity, every[:, 1:])


def test_bins_of_whole_ticks_are_left_alone(tmp_path: Path) -> None:
    ticks = np.arange(int(START * 100), int(STOP * 100))
    path = session(tmp_path / "a.nwb", [ticks / 100, ticks[::7] / 100], position=[tracked()])
    rec = Recording.from_nwb(path, bin_size=0.02)
    # One spike on every tick: exactly two in every bin, whatever the rounding of floating-point numbers.
    assert set(rec.activity[:, 0]) == {2.0}
    assert not any("noise" in note for note in rec.notes)


def test_fine_clocks_are_not_touched(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", spikes_of(tick=1 / 30000), position=[tracked()])
    assert not any("rounded" in note for note in Recording.from_nwb(path).notes)


# Files that are not what they should be


def test_only_what_is_needed_is_read(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", spikes_of(), position=[tracked()])
    with h5py.File(path, "a") as file:
        raw = file.create_group("acquisition/ElectricalSeries")
        raw.attrs["neurodata_type"] = "ElectricalSeries"
        # 2 TB that are never written: reading them would not end well.
        raw.create_dataset("data", (10**10, 100), "int16", chunks=(10**5, 10))
    assert Recording.from_nwb(path).n_units == 4


@pytest.mark.parametrize("kept", [0.9, 0.3])
def test_truncated_file(plain: Path, tmp_path: Path, kept: float) -> None:
    whole = plain.read_bytes()
    path = tmp_path / "cut.nwb"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=r"cut.nwb is truncated: download or export it again") as error:
        Recording.from_nwb(path)
    one_line(error)


def test_damaged_file(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.nwb"
    path.write_bytes(plain.read_bytes())
    with h5py.File(path, "a") as file:
        del file["units/spike_times_index"]
    with pytest.raises(InputError, match=r"damaged.nwb is damaged") as error:
        Recording.from_nwb(path)
    one_line(error)


def test_files_that_are_no_nwb(tmp_path: Path) -> None:
    text = tmp_path / "notes.nwb"
    text.write_text("no, a text")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = 1
    for path, message in [
        (text, "notes.nwb is not an NWB file"),
        (other, "other.h5 is HDF5 but not an NWB 2 file"),
        (tmp_path / "none.nwb", "none.nwb does not exist"),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            Recording.from_nwb(path)
        one_line(error)


def test_no_units(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", None, position=[tracked()])
    with pytest.raises(InputError, match=r"has no units with spike times.*from_arrays") as error:
        Recording.from_nwb(path)
    one_line(error)


def test_no_spikes_in_the_window(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", [np.array([5.0, 6.0])], position=[tracked()])
    with pytest.raises(InputError, match="the selected units have no spikes in") as error:
        Recording.from_nwb(path)
    one_line(error)


def test_nan_spike_times(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", [np.array([START, np.nan])], position=[tracked()])
    with pytest.raises(InputError, match="row 0 has NaN"):
        Recording.from_nwb(path)


# The real recording


@pytest.mark.data
def test_hc11(hc11_path: Path) -> None:
    rec = Recording.from_nwb(hc11_path, bin_size=0.025)
    assert rec.n_units == 120
    assert 18079.5 < rec.time[0] < 18081
    assert 19319 < rec.time[-1] < 19320
    position = rec.behavior["position"]
    assert np.nanmin(position) >= -0.56
    assert np.nanmax(position) <= 1.38
    assert np.isnan(position).mean() < 0.001
    assert 170_000 < rec.activity.sum() <= 174_721
    parity = rec.activity.sum(axis=1)[:49_000].reshape(-1, 2).mean(axis=0)
    assert parity.max() / parity.min() < 1.02
    assert any("rounded to 10 ms" in note for note in rec.notes)
    train, test = rec.split(at=18960.0)
    assert (train.duration, test.duration) == pytest.approx((879.375, 360.0), abs=0.05)
