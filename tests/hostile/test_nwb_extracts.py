"""Extracts and copies of malformed files, which `kalmanssl fetch` and `decode --append-to-copy` make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_damage import FILE, SPATIAL, damaged
from refusals import assert_refused

from kalmanssl.data.nwb import check_module_for_copy, content_size, open_nwb, read_content, session_metadata


def _link(where: str) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[where]
        file[where] = h5py.SoftLink("/nothing")

    return damage


def _content(path: Path) -> Any:
    with open_nwb(path) as file:
        assert content_size(file) >= 0
        return read_content(file)


REFUSED = {
    "no units": FILE.delete("units"),
    "no spike times": FILE.delete("units/spike_times"),
    "no ids": FILE.delete("units/id"),
    "spike times of text": FILE.put("units/spike_times", ["a"] * 600),
    "spike times without values": FILE.put("units/spike_times", h5py.Empty("f8")),
    "index that decreases": FILE.put("units/spike_times_index", [400, 200, 600]),
    "index beyond the data": FILE.put("units/spike_times_index", [1, 2, 10**9]),
    "index to nothing": _link("units/spike_times_index"),
    "ids of trials of two dimensions": FILE.put("intervals/trials/id", np.zeros((5, 2), int)),
    "starts of trials to nothing": _link("intervals/trials/start_time"),
    "starts of trials of text": FILE.put("intervals/trials/start_time", ["a"] * 5),
    "labels that are not UTF-8": FILE.put("intervals/epochs/label", np.array([b"\xff", b"\xfe"])),
    "resolution of text": lambda file: file["units/spike_times"].attrs.__setitem__("resolution", "fine"),
}


@pytest.mark.parametrize("damage", REFUSED.values(), ids=REFUSED)
def test_extracts_of_malformed_tables_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, damage)
    assert_refused(lambda: _content(path), "units|intervals")


LEFT_OUT = {
    "position of records": FILE.put(f"{SPATIAL}/data", np.zeros(2400, [("x", "f8")])),
    "times of text": FILE.put(f"{SPATIAL}/timestamps", ["a"] * 2400),
    "times to nothing": _link(f"{SPATIAL}/timestamps"),
    "conversion of text": lambda file: file[f"{SPATIAL}/data"].attrs.__setitem__("conversion", "cm"),
}


@pytest.mark.parametrize("damage", LEFT_OUT.values(), ids=LEFT_OUT)
def test_series_that_cannot_be_read_are_left_out_with_a_note(damage: Any, tmp_path: Path, session_file: Path) -> None:
    found = _content(damaged(session_file, tmp_path, damage))
    assert [one.where.name for one in found.series] == ["pupil"]
    assert any("mazeSpatialSeries is left out" in note for note in found.notes)
    np.testing.assert_array_equal(found.units.ids, [10, 11, 12])


def test_a_module_member_that_links_to_nothing_is_no_table(tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, _link("processing/behavior/mazePosition"))
    assert [one.where.name for one in _content(path).series] == ["pupil"]


ODD_METADATA = {
    "a group": lambda file: (FILE.delete("session_description")(file), file.create_group("session_description")),
    "without values": FILE.put("identifier", h5py.Empty("f8")),
    "not UTF-8": FILE.put("identifier", np.bytes_(b"\xff\xfe")),
    "number": FILE.put("identifier", 3),
    "start that is no date": FILE.put("session_start_time", "yesterday"),
    "start to nothing": _link("session_start_time"),
    "subject is a dataset": lambda file: file.__setitem__("general/subject", 3),
    "keywords of numbers": lambda file: file.__setitem__("general/keywords", np.arange(3)),
    "experimenter without values": lambda file: file.__setitem__("general/experimenter", h5py.Empty("f8")),
}


@pytest.mark.parametrize("damage", ODD_METADATA.values(), ids=ODD_METADATA)
def test_odd_facts_about_the_session_are_left_out(damage: Any, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, damage)
    found = session_metadata(path)
    assert "subject" not in found
    assert "keywords" not in found
    assert all(str(value).encode() for value in found.values())
    np.testing.assert_array_equal(_content(path).units.ids, [10, 11, 12])


def _cycle(file: h5py.File) -> None:
    file["processing/behavior/again"] = file["processing"]


COPIES = {
    "processing is a dataset": (
        lambda file: (FILE.delete("processing")(file), file.__setitem__("processing", 3)),
        "processing",
    ),
    "external file of numbers": (
        lambda file: file.create_dataset("acquisition/video/external_file", data=np.arange(3)),
        "0",
    ),
    "link to a file beside it": (
        lambda file: file.__setitem__("acquisition/raw", h5py.ExternalLink("raw.h5", "/x")),
        "raw.h5",
    ),
}


@pytest.mark.parametrize(("damage", "match"), COPIES.values(), ids=COPIES)
def test_files_that_cannot_be_copied_are_refused(damage: Any, match: str, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, damage)
    assert_refused(lambda: check_module_for_copy(path, tmp_path / "elsewhere" / "copy.nwb", "results"), match)


def test_a_cycle_of_groups_can_be_copied(tmp_path: Path, session_file: Path) -> None:
    check_module_for_copy(damaged(session_file, tmp_path, _cycle), tmp_path / "elsewhere" / "copy.nwb", "results")


@pytest.mark.parametrize("module", ["", ".", "..", "a/b", "a:b", "a\0b", "\udcff", "x" * 5000, "behavior", None, 3])
def test_names_of_modules_that_files_cannot_have_are_refused(module: Any, tmp_path: Path, session_file: Path) -> None:
    assert_refused(lambda: check_module_for_copy(session_file, tmp_path / "copy.nwb", module), "module")
