"""Malformed traces, tables of ROIs and electrodes, field potentials, and binned activity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_damage import FILE, assert_unreadable, damaged, put
from refusals import assert_refused

from kalmanssl import Recording

SERIES = "processing/ophys/Fluorescence/Deconvolved"
ROIS = "processing/ophys/ImageSegmentation/ROIs"
LFP = "processing/ecephys/LFP/LFP"
BANDS = "processing/ecephys/bands"


def _with_nan(file: h5py.File) -> None:
    values = file[f"{SERIES}/data"][()]
    values[5] = np.nan
    values[:, 1] = np.nan
    values[:, 0:4] = np.where(np.arange(4) == 1, values, np.nan)
    put(file, f"{SERIES}/data", values)


TRACES = {
    "more samples than the memory has": lambda file: _claim(f"{SERIES}/data", (10**12, 4))(file),
    "three dimensions": FILE.put(f"{SERIES}/data", np.zeros((200, 4, 2))),
    "scalar": FILE.put(f"{SERIES}/data", 1.0),
    "empty dataspace": FILE.put(f"{SERIES}/data", h5py.Empty("f4")),
    "no samples": FILE.put(f"{SERIES}/data", np.zeros((0, 4))),
    "no cells": FILE.put(f"{SERIES}/data", np.zeros((200, 0))),
    "turned": FILE.put(f"{SERIES}/data", np.zeros((4, 200))),
    "one dimension": FILE.put(f"{SERIES}/data", np.zeros(200)),
    "text": FILE.put(f"{SERIES}/data", np.full((200, 4), b"a")),
    "compound": FILE.put(f"{SERIES}/data", np.zeros((200, 4), [("a", "f4")])),
    "complex": FILE.put(f"{SERIES}/data", np.zeros((200, 4), complex)),
    "NaN everywhere": FILE.put(f"{SERIES}/data", np.full((200, 4), np.nan)),
    "NaN in every cell": _with_nan,
    "a group": FILE.empty_group(f"{SERIES}/data"),
    "fewer timestamps": FILE.put(f"{SERIES}/timestamps", np.arange(199.0)),
    "timestamps as text": FILE.put(f"{SERIES}/timestamps", ["a"] * 200),
    "timestamps that decrease": FILE.put(f"{SERIES}/timestamps", -np.arange(200.0)),
    "one time": FILE.put(f"{SERIES}/timestamps", np.full(200, 3.0)),
    "conversion as text": FILE.attribute(f"{SERIES}/data", "conversion", "much"),
    "conversion of zero": FILE.attribute(f"{SERIES}/data", "conversion", 0.0),
    "offset of NaN": FILE.attribute(f"{SERIES}/data", "offset", np.nan),
    "rows beyond the table": FILE.put(f"{SERIES}/rois", [0, 1, 2, 4]),
    "negative rows": FILE.put(f"{SERIES}/rois", [0, 1, 2, -1]),
    "rows as text": FILE.put(f"{SERIES}/rois", ["0", "1", "2", "3"]),
    "rows as fractions": FILE.put(f"{SERIES}/rois", [0.5, 1.0, 2.0, 3.0]),
    "scalar rows": FILE.put(f"{SERIES}/rois", 3),
    "fewer rows": FILE.put(f"{SERIES}/rois", [0, 1, 2]),
    "rows of nothing": FILE.attribute(f"{SERIES}/rois", "table", "ROIs"),
    "rows of an empty reference": FILE.attribute(f"{SERIES}/rois", "table", h5py.Reference()),
    "rows of a dataset": lambda file: FILE.attribute(f"{SERIES}/rois", "table", file[f"{ROIS}/id"].ref)(file),
    "table without ids": FILE.delete(f"{ROIS}/id"),
    "table without rows": FILE.put(f"{ROIS}/id", np.zeros(0, int)),
    "table with fewer rows": FILE.put(f"{ROIS}/id", [100, 101, 102]),
    "table with a group for ids": FILE.empty_group(f"{ROIS}/id"),
}


def _claim(where: str, shape: tuple[int, ...]) -> Callable[[h5py.File], None]:
    """Return a damage that gives a dataset a size without values, which take no space in the file."""

    def damage(file: h5py.File) -> None:
        attributes = dict(file[where].attrs.items())
        del file[where]
        file.create_dataset(where, shape, "f4", chunks=(1000, 1)).attrs.update(attributes)

    return damage


POTENTIALS = {
    "more samples than the memory has": _claim(f"{LFP}/data", (10**12, 2)),
    "three dimensions": FILE.put(f"{LFP}/data", np.zeros((2000, 2, 2))),
    "text": FILE.put(f"{LFP}/data", np.full((2000, 2), b"a")),
    "compound": FILE.put(f"{LFP}/data", np.zeros((2000, 2), [("a", "f4")])),
    "empty dataspace": FILE.put(f"{LFP}/data", h5py.Empty("f4")),
    "scalar": FILE.put(f"{LFP}/data", 3.0),
    "NaN": FILE.put(f"{LFP}/data", np.full((2000, 2), np.nan)),
    "conversion as text": FILE.attribute(f"{LFP}/data", "conversion", "V"),
    "conversion of zero": FILE.attribute(f"{LFP}/data", "conversion", 0.0),
    "rate of NaN": FILE.attribute(f"{LFP}/starting_time", "rate", np.nan),
    "rate of zero": FILE.attribute(f"{LFP}/starting_time", "rate", 0.0),
    "rate of a raw signal": FILE.attribute(f"{LFP}/starting_time", "rate", 30_000.0),
    "rate too low for any band": FILE.attribute(f"{LFP}/starting_time", "rate", 1.0),
    "electrodes that are not there": FILE.put(f"{LFP}/electrodes", [7, 8]),
    "fewer electrodes": FILE.put(f"{LFP}/electrodes", [0]),
}
STORED = {
    "four dimensions": FILE.put(f"{BANDS}/data", np.zeros((200, 2, 2, 2))),
    "fewer bands": FILE.put(f"{BANDS}/data", np.zeros((200, 2, 1))),
    "bands without ids": FILE.delete(f"{BANDS}/bands/id"),
    "fewer names": FILE.put(f"{BANDS}/bands/band_name", ["a"]),
    "names that are not UTF-8": FILE.put(f"{BANDS}/bands/band_name", np.array([b"\xff", b"a"])),
    "bands are a dataset": lambda file: (FILE.delete(f"{BANDS}/bands")(file), file.__setitem__(f"{BANDS}/bands", [1])),
    "phases": FILE.put(f"{BANDS}/metric", "phase"),
}


@pytest.mark.parametrize("damage", TRACES.values(), ids=TRACES)
def test_malformed_traces_are_refused(damage: Any, tmp_path: Path, traces_file: Path) -> None:
    assert_unreadable(damaged(traces_file, tmp_path, damage), "ophys", behavior=False)


@pytest.mark.parametrize("damage", POTENTIALS.values(), ids=POTENTIALS)
def test_malformed_field_potentials_are_refused(damage: Any, tmp_path: Path, potential_file: Path) -> None:
    assert_unreadable(damaged(potential_file, tmp_path, damage), "LFP", behavior=False, activity="LFP")


@pytest.mark.parametrize("damage", STORED.values(), ids=STORED)
def test_malformed_band_power_is_refused(damage: Any, tmp_path: Path, bands_file: Path) -> None:
    assert_unreadable(damaged(bands_file, tmp_path, damage), "bands", behavior=False)


BINNED = "processing/binned"
BINNED_DAMAGE = {
    "no table": FILE.delete(f"{BINNED}/channels"),
    "no series": FILE.delete(f"{BINNED}/counts"),
    "negative counts": FILE.put(f"{BINNED}/counts/data", np.full((20, 3), -1.0)),
    "NaN": FILE.put(f"{BINNED}/counts/data", np.full((20, 3), np.nan)),
    "text": FILE.put(f"{BINNED}/counts/data", np.full((20, 3), b"a")),
    "one dimension": FILE.put(f"{BINNED}/counts/data", np.zeros(20)),
    "more columns": FILE.put(f"{BINNED}/counts/data", np.zeros((20, 4))),
    "bin size of zero": FILE.put(f"{BINNED}/channels/bin_size", np.zeros(3)),
    "bin size as text": FILE.put(f"{BINNED}/channels/bin_size", ["a"] * 3),
    "names of another length": FILE.put(f"{BINNED}/channels/unit_id", ["a"]),
    "rate of zero": FILE.attribute(f"{BINNED}/counts/starting_time", "rate", 0.0),
}


@pytest.fixture(scope="session")
def binned_file(valid_folder: Path) -> Path:
    path = valid_folder / "binned.nwb"
    Recording.from_arrays(np.ones((20, 3)), bin_size=0.1).to_nwb(path)
    return path


@pytest.mark.parametrize("damage", BINNED_DAMAGE.values(), ids=BINNED_DAMAGE)
def test_malformed_binned_activity_is_refused(damage: Any, tmp_path: Path, binned_file: Path) -> None:
    assert_unreadable(damaged(binned_file, tmp_path, damage), "binned|activity", behavior=False)


BAD_BANDS = {
    "number": 3,
    "list": [("theta", 4, 8)],
    "no limits": {"theta": 4},
    "three limits": {"theta": (4, 8, 12)},
    "text": {"theta": ("4", "8")},
    "NaN": {"theta": (np.nan, 8)},
    "None": {"theta": (None, 8)},
    "reversed": {"theta": (8, 4)},
    "negative": {"theta": (-4, 4)},
    "above half the rate": {"theta": (50, 150)},
    "none": {},
    "name of another type": {3: (4, 8)},
    "huge name": {"x" * 5000: (8, 4)},
}


@pytest.mark.parametrize("bands", BAD_BANDS.values(), ids=BAD_BANDS)
def test_malformed_bands_are_refused(bands: Any, potential_file: Path) -> None:
    assert_refused(lambda: Recording.from_nwb(potential_file, behavior=False, activity="LFP", bands=bands), "bands")
