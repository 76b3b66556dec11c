"""Units and ROIs that the file marks as noise or as rejected are left out, unless they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_activity import sampled, traces, write
from nwb_sessions import session, spikes_of

from kalmanssl.data import Recording, summarize_nwb

LEFT_OUT = "of 4 are noise or rejected by column"


def names(path: Path, **arguments: Any) -> tuple[str, ...]:
    return Recording.from_nwb(path, behavior=False, **arguments).unit_ids


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("Accepted", [1, 0, 1, 0]),
        ("is_cell", [1.0, 0.0, 1.0, 0.0]),
        ("valid_roi", [True, False, True, False]),
        ("Rejected", [0, 1, 0, 1]),
    ],
)
def test_rejected_rois_are_left_out(tmp_path: Path, column: str, values: list[Any]) -> None:
    path = write(tmp_path / "rois.nwb", traces({"Fluorescence/trace": sampled()}, columns={column: values}))
    rec = Recording.from_nwb(path, behavior=False)
    assert rec.unit_ids == ("100", "102")
    assert any(f"2 {LEFT_OUT} {column}" in note for note in rec.notes)
    assert names(path, units="all") == ("100", "101", "102", "103")
    assert names(path, units={column: values[1]}) == ("101", "103")
    (taken,) = summarize_nwb(path).taken("activity")
    assert taken.columns == 2
    assert f"2 {LEFT_OUT} {column}" in taken.remark


def test_the_flag_of_suite2p_is_read_beside_its_probability(tmp_path: Path) -> None:
    path = write(tmp_path / "rois.nwb", traces({"Fluorescence/trace": sampled()}, columns={}))
    with h5py.File(path, "r+") as file:
        table = file["processing/ophys/ImageSegmentation/ROIs"]
        flags = table.create_dataset("iscell", data=[[0, 0.1], [1, 0.9], [1, 0.8], [0, 0.4]])
        flags.attrs.update(table["id"].attrs)
        flags.attrs["neurodata_type"] = "VectorData"
    assert names(path) == ("101", "102")


def test_noise_is_left_out_and_multi_unit_activity_is_not(tmp_path: Path) -> None:
    columns = {"KSLabel": ["good", "mua", "Noise", "unsorted"]}
    path = session(tmp_path / "units.nwb", spikes_of(), columns=columns)
    assert names(path) == ("10", "11", "13")
    assert names(path, units="all") == ("10", "11", "12", "13")
    assert names(path, units={"KSLabel": "Noise"}) == ("12",)


def test_excitatory_units_are_chosen_among_those_that_are_not_noise(tmp_path: Path) -> None:
    types, quality = ["pyramidal", "pyramidal", "interneuron", "pyramidal"], ["good", "noise", "good", "good"]
    path = session(tmp_path / "units.nwb", spikes_of(), cell_type=types, columns={"quality": quality})
    assert names(path) == ("10", "13")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("accepted", [0, 0, 0, 0]),  # was not filled in
        ("accepted", [0.3, 0.1, 1.0, 0.0]),  # a probability
        ("quality", ["good", "mua", "ok", "fair"]),
        ("quality", [0.0, 1.0, 0.0, 1.0]),  # a number has no agreed meaning
        ("condition", ["noise", "tone", "noise", "tone"]),
    ],
)
def test_other_columns_leave_nothing_out(tmp_path: Path, column: str, values: list[Any]) -> None:
    path = session(tmp_path / "units.nwb", spikes_of(), columns={column: values})
    assert names(path) == ("10", "11", "12", "13")
    assert not any("rejected" in note for note in Recording.from_nwb(path, behavior=False).notes)


def test_the_neuropil_is_not_taken_for_the_cells(tmp_path: Path) -> None:
    cells, background = sampled(seed=1), sampled(seed=2)
    series = {"Fluorescence/RoiResponseSeries": cells, "Fluorescence/Neuropil": background}
    path = write(tmp_path / "rois.nwb", traces(series))
    np.testing.assert_array_equal(Recording.from_nwb(path, behavior=False).activity, cells["data"])
    rec = Recording.from_nwb(path, behavior=False, activity="Neuropil")
    np.testing.assert_array_equal(rec.activity, background["data"])


@pytest.mark.parametrize("name", ["NeuropilCorrected", "baseline_subtracted"])
def test_corrected_traces_are_those_of_the_cells(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "rois.nwb", traces({f"Fluorescence/{name}": sampled(), "Fluorescence/Neuropil": sampled()}))
    np.testing.assert_array_equal(Recording.from_nwb(path, behavior=False).activity, sampled()["data"])


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"quality": ["noise"] * 4}, "column quality"),
        ({"quality": ["noise", "noise", "good", "good"], "accepted": [1, 1, 0, 0]}, "columns accepted, quality"),
    ],
)
def test_columns_that_leave_no_unit_are_ignored_and_named(
    tmp_path: Path, columns: dict[str, list[Any]], named: str
) -> None:
    rec = Recording.from_nwb(session(tmp_path / "units.nwb", spikes_of(), columns=columns), behavior=False)
    assert rec.n_units == 4
    assert any(f"units: all are noise or not accepted by {named}, so" in note for note in rec.notes)
