"""Malformed series of behavior: data, times, conversion and units."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_damage import FILE, OTHER, SPATIAL, assert_unreadable, damaged, put, summary_problem, with_entry

from kalmanssl import Recording

POSITION = "mazeSpatialSeries"
N = 2400
_data = partial(FILE.put, f"{SPATIAL}/data")
_times = partial(FILE.change, f"{SPATIAL}/timestamps")


def _dataset_instead(file: h5py.File) -> None:
    del file[SPATIAL]
    file[SPATIAL] = np.arange(4.0)
    file[SPATIAL].attrs["neurodata_type"] = "SpatialSeries"


DATA = {
    "text": _data(["here"] * N),
    "text of fixed length": _data(np.array([b"0.5"] * N)),
    "numbers as text": _data(["0.5"] * N),
    "compound": _data(np.zeros(N, dtype=[("x", "f8"), ("y", "f8")])),
    "complex": _data(np.zeros(N, complex)),
    "bools": _data(np.zeros(N, bool)),
    "opaque": _data(np.zeros(N, "V8").astype(h5py.opaque_dtype(np.dtype("V8")))),
    "ragged": lambda file: put(
        file,
        f"{SPATIAL}/data",
        np.array([np.arange(2.0), np.arange(3.0)] * (N // 2), dtype=object),
        dtype=h5py.vlen_dtype("f8"),
    ),
    "references": lambda file: put(file, f"{SPATIAL}/data", np.array([file.ref] * N, object), dtype=h5py.ref_dtype),
    "empty dataspace": _data(h5py.Empty("f8")),
    "scalar": _data(3.0),
    "no samples": _data(np.zeros(0)),
    "three dimensions": _data(np.zeros((N, 2, 2))),
    "no dimensions in a sample": _data(np.zeros((N, 0))),
    "NaN everywhere": _data(np.full(N, np.nan)),
    "infinite": _data(with_entry(7, np.inf)(np.zeros(N))),
    "fewer than timestamps": _data(np.zeros(N - 1)),
    "more than timestamps": _data(np.zeros(N + 1)),
    "a group": FILE.empty_group(f"{SPATIAL}/data"),
    "a dataset instead of the series": _dataset_instead,
    "unknown type": FILE.attribute(SPATIAL, "neurodata_type", "ThreeDimensionalMazeSeries"),
    "type of another kind": FILE.attribute(SPATIAL, "neurodata_type", np.arange(3)),
}
TIMES = {
    "text": _times(lambda t: t.astype("S20")),
    "complex": _times(lambda t: t.astype(complex)),
    "compound": _times(lambda t: np.zeros(len(t), dtype=[("s", "i8"), ("ns", "i8")])),
    "two dimensions": _times(lambda t: t.reshape(-1, 1)),
    "scalar": _times(lambda t: t[0]),
    "empty dataspace": _times(lambda t: h5py.Empty("f8")),
    "decreasing": _times(lambda t: t[::-1]),
    "one decreases": _times(with_entry(100, 0.0)),
    "all equal": _times(lambda t: np.full(len(t), t[0])),
    "all NaN": _times(lambda t: np.full(len(t), np.nan)),
    "all infinite": _times(lambda t: np.full(len(t), np.inf)),
    "a group": FILE.empty_group(f"{SPATIAL}/timestamps"),
    "missing": lambda file: file.__delitem__(f"{SPATIAL}/timestamps"),
}
NOT_FINITE = {
    "text": "0.01",
    "numbers": np.array([1.0, 2.0]),
    "NaN": np.nan,
    "infinite": np.inf,
    "bool": True,
    "complex": 1j,
    "empty": h5py.Empty("f8"),
}
SCALING = {
    **{f"conversion: {name}": ("conversion", value) for name, value in NOT_FINITE.items()},
    **{f"offset: {name}": ("offset", value) for name, value in NOT_FINITE.items()},
    "conversion: zero": ("conversion", 0.0),
}
RATES = {**NOT_FINITE, "zero": 0.0, "negative": -40.0}
STARTS = {"text": "soon", "numbers": [1.0, 2.0], "NaN": np.nan, "infinite": np.inf, "empty": h5py.Empty("f8")}


@pytest.mark.parametrize("damage", DATA.values(), ids=DATA)
def test_malformed_positions_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), "mazeSpatialSeries|tracked", behavior=POSITION)


@pytest.mark.parametrize("damage", TIMES.values(), ids=TIMES)
def test_malformed_timestamps_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), "mazeSpatialSeries|tracked", behavior=POSITION)


@pytest.mark.parametrize(("name", "value"), SCALING.values(), ids=SCALING)
def test_malformed_conversions_are_refused(name: str, value: Any, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, FILE.attribute(f"{SPATIAL}/data", name, value))
    assert_unreadable(path, f"{name}.*mazeSpatialSeries", behavior=POSITION)


@pytest.mark.parametrize("value", RATES.values(), ids=RATES)
def test_malformed_rates_are_refused(value: Any, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, FILE.attribute(f"{OTHER}/starting_time", "rate", value))
    assert_unreadable(path, "rate", behavior="pupil")


@pytest.mark.parametrize("value", STARTS.values(), ids=STARTS)
def test_malformed_starting_times_are_refused(value: Any, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, lambda file: put(file, f"{OTHER}/starting_time", value))
    assert_unreadable(path, "starting_time", behavior="pupil")


def test_a_missing_rate_is_refused(tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, lambda file: file[f"{OTHER}/starting_time"].attrs.__delitem__("rate"))
    assert_unreadable(path, "rate", behavior="pupil")


def test_negative_conversions_and_offsets_are_applied(tmp_path: Path, session_file: Path) -> None:
    def damage(file: h5py.File) -> None:
        file[f"{SPATIAL}/data"].attrs.update({"conversion": np.array([-2.0]), "offset": -1})

    found = Recording.from_nwb(damaged(session_file, tmp_path, damage), behavior=POSITION)
    valid = Recording.from_nwb(session_file, behavior=POSITION)
    np.testing.assert_allclose(found.behavior["position"], -2 * valid.behavior["position"] - 1)


ODD_TEXTS = {
    "huge": "x" * 50_000,
    "not UTF-8": np.bytes_(b"\xff\xfe"),
    "several lines": "a\nb",
    "number": 3,
    "numbers": np.arange(4),
    "empty": h5py.Empty("f8"),
}


ODD = {f"unit: {kind}": ("unit", value) for kind, value in ODD_TEXTS.items()}
ODD |= {f"description: {kind}": ("description", ODD_TEXTS[kind]) for kind in ("huge", "empty")}
ODD |= {
    f"type of the container: {kind}": ("neurodata_type of the container", ODD_TEXTS[kind]) for kind in ("huge", "empty")
}


@pytest.mark.parametrize(("name", "value"), ODD.values(), ids=ODD)
def test_odd_texts_do_not_change_what_is_read(name: str, value: Any, tmp_path: Path, session_file: Path) -> None:
    where = SPATIAL.rsplit("/", 1)[0] if "container" in name else f"{SPATIAL}/data" if name == "unit" else SPATIAL
    path = damaged(session_file, tmp_path, FILE.attribute(where, name.split()[0], value))
    assert not summary_problem(path)
    found = Recording.from_nwb(path, behavior=SPATIAL)
    valid = Recording.from_nwb(session_file, behavior=SPATIAL)
    np.testing.assert_array_equal(next(iter(found.behavior.values())), valid.behavior["position"])
    unit = next(iter(found.behavior_unit.values()))
    assert len(unit) < 1000
    unit.encode()


def _rename(name: bytes) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        group = file["processing/behavior"].id
        group.links.move(b"mazePosition", group, name)

    return damage


NAMES = {"not UTF-8": b"maze\xff", "only bytes": b"\xfe\xff", "several lines": b"a\nb", "huge": b"x" * 20_000}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_odd_names_of_groups_are_refused_on_one_line(name: bytes, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, _rename(name))
    assert_unreadable(path, "UTF-8|is not in the file", behavior="Position")
