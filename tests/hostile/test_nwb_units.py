"""Malformed units tables, spike times and bins: one line that names the dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_damage import Inside, assert_unreadable, damaged, put, with_entry
from refusals import assert_refused

from kalmanssl import Recording

POSITION = "mazeSpatialSeries"
UNITS = Inside("units/")


def _units_are_data(file: h5py.File) -> None:
    del file["units"]
    file["units"] = np.arange(3)


_COMPOUND = np.zeros(600, dtype=[("a", "f8"), ("b", "i4")])
_RAGGED = np.array([np.arange(3.0), np.arange(2.0), np.arange(4.0)], dtype=object)

SPIKE_TIMES = {
    "missing": UNITS.delete("spike_times"),
    "a group": UNITS.empty_group("spike_times"),
    "text": UNITS.put("spike_times", ["soon"] * 600),
    "text of fixed length": UNITS.put("spike_times", np.array([b"1.5"] * 600)),
    "compound": UNITS.put("spike_times", _COMPOUND),
    "opaque": UNITS.put("spike_times", np.zeros(600, "V8").astype(h5py.opaque_dtype(np.dtype("V8")))),
    "ragged": lambda file: put(file, "units/spike_times", _RAGGED, dtype=h5py.vlen_dtype("f8")),
    "complex": UNITS.change("spike_times", lambda v: v.astype(complex)),
    "bools": UNITS.change("spike_times", lambda v: v > 1020),
    "references": lambda file: put(
        file, "units/spike_times", np.array([file.ref] * 600, dtype=object), dtype=h5py.ref_dtype
    ),
    "empty dataspace": UNITS.put("spike_times", h5py.Empty("f8")),
    "scalar": UNITS.put("spike_times", 3.0),
    "two dimensions": UNITS.change("spike_times", lambda v: v.reshape(-1, 2)),
    "NaN": UNITS.change("spike_times", with_entry(250, np.nan)),
    "infinite": UNITS.change("spike_times", with_entry(250, np.inf)),
    "fewer than the index says": UNITS.change("spike_times", lambda v: v[:500]),
    "none": UNITS.put("spike_times", np.zeros(0)),
}
INDEX = {
    "missing": UNITS.delete("spike_times_index"),
    "a group": UNITS.empty_group("spike_times_index"),
    "shorter than the ids": UNITS.change("spike_times_index", lambda v: v[:2]),
    "longer than the ids": UNITS.change("spike_times_index", lambda v: np.append(v, 600)),
    "empty": UNITS.put("spike_times_index", np.zeros(0, int)),
    "decreasing": UNITS.put("spike_times_index", [400, 200, 600]),
    "beyond the data": UNITS.put("spike_times_index", [200, 400, 601]),
    "far beyond the data": UNITS.put("spike_times_index", np.array([200, 400, 2**64 - 1], np.uint64)),
    "negative": UNITS.put("spike_times_index", [-5, 400, 600]),
    "two dimensions": UNITS.put("spike_times_index", [[200], [400], [600]]),
    "scalar": UNITS.put("spike_times_index", 600),
    "text": UNITS.put("spike_times_index", ["200", "400", "600"]),
    "fractions": UNITS.put("spike_times_index", [200.5, 400.0, 600.0]),
    "NaN": UNITS.put("spike_times_index", [200.0, np.nan, 600.0]),
    "bools": UNITS.put("spike_times_index", [True, True, True]),
    "empty dataspace": UNITS.put("spike_times_index", h5py.Empty("i8")),
}
IDS = {
    "missing": UNITS.delete("id"),
    "a group": UNITS.empty_group("id"),
    "empty dataspace": UNITS.put("id", h5py.Empty("i8")),
    "two dimensions": UNITS.put("id", [[10], [11], [12]]),
    "scalar": UNITS.put("id", 10),
    "none": UNITS.put("id", np.zeros(0, int)),
    "fewer": UNITS.put("id", [10, 11]),
    "compound": UNITS.put("id", _COMPOUND[:3]),
}
OBSERVED = {
    "one dimension": UNITS.put("obs_intervals", np.array([1000.0, 1060.0, 1000.0])),
    "three columns": UNITS.put("obs_intervals", np.full((3, 3), 1000.0)),
    "reversed": UNITS.put("obs_intervals", np.array([[1060.0, 1000.0]] * 3)),
    "NaN": UNITS.put("obs_intervals", np.array([[1000.0, np.nan]] * 3)),
    "text": UNITS.put("obs_intervals", [["a", "b"]] * 3),
    "a group": UNITS.empty_group("obs_intervals"),
    "index is missing": UNITS.delete("obs_intervals_index"),
    "index beyond the data": UNITS.put("obs_intervals_index", [1, 2, 30]),
    "index decreases": UNITS.put("obs_intervals_index", [2, 1, 3]),
    "never together": UNITS.put("obs_intervals", np.array([[1000.0, 1010.0], [1020.0, 1030.0], [1040.0, 1050.0]])),
}


def _enum(values: Any, elements: Any) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        file["units/kinds"] = ["soma", "axon"]
        column = file["units"].create_dataset("part", data=values)
        column.attrs["neurodata_type"] = "EnumData"
        column.attrs["elements"] = file["units/kinds"].ref if elements is None else elements(file)

    return damage


COLUMNS = {
    "labels that are not UTF-8": ("cell_type", UNITS.put("cell_type", np.array([b"exc", b"\xff\xfe", b"exc"]))),
    "labels of variable length that are not UTF-8": (
        "cell_type",
        UNITS.put("cell_type", np.array([b"exc", b"\xff\xfe", b"exc"], dtype=object), dtype=h5py.string_dtype("ascii")),
    ),
    "enumeration out of range": ("part", _enum(np.array([0, 1, 2], np.uint8), None)),
    "enumeration below zero": ("part", _enum(np.array([0, -1, 1], np.int8), None)),
    "enumeration of fractions": ("part", _enum(np.array([0.0, 0.5, 1.0]), None)),
    "enumeration without reference": ("part", _enum([0, 1, 0], lambda file: "kinds")),
    "enumeration of a group": ("part", _enum([0, 1, 0], lambda file: file["units"].ref)),
    "enumeration of an empty reference": ("part", _enum([0, 1, 0], lambda file: h5py.Reference())),
}
TABLE = {
    "data instead of a group": _units_are_data,
    "empty group": lambda file: (file.__delitem__("units"), file.create_group("units")),
}


@pytest.mark.parametrize("damage", SPIKE_TIMES.values(), ids=SPIKE_TIMES)
def test_malformed_spike_times_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), "spike|activity", behavior=POSITION, units="all")


@pytest.mark.parametrize("damage", INDEX.values(), ids=INDEX)
def test_malformed_index_columns_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), "spike_times_index", behavior=POSITION)


@pytest.mark.parametrize("damage", IDS.values(), ids=IDS)
def test_malformed_ids_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), "units", behavior=POSITION)


@pytest.mark.parametrize("damage", OBSERVED.values(), ids=OBSERVED)
def test_malformed_observation_intervals_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), "obs_intervals", behavior=POSITION, units="all")


@pytest.mark.parametrize(("column", "damage"), COLUMNS.values(), ids=COLUMNS)
def test_malformed_columns_are_refused(column: str, damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), column, behavior=POSITION)


@pytest.mark.parametrize("damage", TABLE.values(), ids=TABLE)
def test_malformed_units_tables_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), "units", behavior=POSITION)


@pytest.mark.parametrize("shift", [0.0, -2000.0], ids=["as they are", "before zero"])
def test_unsorted_and_negative_spike_times_are_sorted(shift: float, tmp_path: Path, session_file: Path) -> None:
    def shuffle(file: h5py.File) -> None:
        times = file["units/spike_times"][()] + shift
        ends = file["units/spike_times_index"][()]
        for start, stop in zip([0, *ends[:-1]], ends, strict=True):
            times[start:stop] = np.random.default_rng(0).permutation(times[start:stop])
        put(file, "units/spike_times", times)
        put(file, "units/obs_intervals", file["units/obs_intervals"][()] + shift)

    found = Recording.from_nwb(damaged(session_file, tmp_path, shuffle), behavior=False)
    valid = Recording.from_nwb(session_file, behavior=False)
    assert found.spike_times is not None
    assert valid.spike_times is not None
    for one, other in zip(found.spike_times, valid.spike_times, strict=True):
        np.testing.assert_allclose(one, other + shift, atol=1e-9)


def test_spikes_that_belong_to_no_unit_are_noted(tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, UNITS.put("spike_times_index", [200, 400, 550]))
    with pytest.warns(match="50 of 600"):
        found = Recording.from_nwb(path, behavior=POSITION, units="all")
    assert found.activity.sum() <= 550


def _claim(where: str, shape: tuple[int, ...], dtype: Any = "f8") -> Callable[[h5py.File], None]:
    """Return a damage that gives a dataset a size without values, which take no space in the file."""

    def damage(file: h5py.File) -> None:
        attributes = dict(file[where].attrs.items())
        del file[where]
        file.create_dataset(where, shape, dtype, chunks=(1000,)).attrs.update(attributes)

    return damage


def _claim_spikes(file: h5py.File) -> None:
    _claim("units/spike_times", (3 * 10**11,))(file)
    put(file, "units/spike_times_index", [10**11, 2 * 10**11, 3 * 10**11])


CLAIMED = {
    "rows": _claim("units/id", (10**12,), "i8"),
    "index": _claim("units/spike_times_index", (10**12,), "i8"),
    "spikes of a unit": _claim_spikes,
}


@pytest.mark.parametrize("damage", CLAIMED.values(), ids=CLAIMED)
def test_tables_that_are_larger_than_the_memory_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), "memory", behavior=POSITION)


FAR = {"in the future": 1e9, "in the past": -1e9, "beyond all numbers": 1e300}


@pytest.mark.parametrize("time", FAR.values(), ids=FAR)
def test_a_spike_that_is_far_away_is_named(time: float, tmp_path: Path, session_file: Path) -> None:
    def damage(file: h5py.File) -> None:
        del file["units/obs_intervals"], file["units/obs_intervals_index"]
        put(file, "units/spike_times", with_entry(450, time)(file["units/spike_times"][()]))

    path = damaged(session_file, tmp_path, damage)
    line = assert_unreadable(path, "unit 12", behavior=False)
    assert f"{time:.10g}" in line


@pytest.mark.parametrize("time", FAR.values(), ids=FAR)
def test_a_sample_of_behavior_that_is_far_away_is_named(time: float, tmp_path: Path, session_file: Path) -> None:
    def damage(file: h5py.File) -> None:
        del file["units/obs_intervals"], file["units/obs_intervals_index"]
        where = "processing/behavior/mazePosition/mazeSpatialSeries/timestamps"
        put(file, where, with_entry(-1 if time > 0 else 0, time)(file[where][()]))

    path = damaged(session_file, tmp_path, damage)
    line = assert_unreadable(path, "behavior", behavior=POSITION)
    assert f"{time:.10g}" in line


TOO_MANY = {"tiny": 1e-9, "smaller": 1e-15, "smallest": 5e-324}


@pytest.mark.parametrize("bin_size", TOO_MANY.values(), ids=TOO_MANY)
def test_more_bins_than_the_memory_has_are_refused(bin_size: float, session_file: Path) -> None:
    line = assert_refused(lambda: Recording.from_nwb(session_file, bin_size=bin_size, behavior=POSITION), "bin_size")
    assert "memory" in line
