"""Names that NWB files cannot have, and places where none can be written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import assert_refused

from kalmanssl import Recording

BAD_NAMES = {
    "slash": "a/b",
    "colon": "a:b",
    "dot": ".",
    "two dots": "..",
    "empty": "",
    "space": " ",
    "NUL": "a\0b",
    "surrogate": "\udcff",
    "huge": "x" * 100_000,
    "number": 3,
    "None": None,
}


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording.from_arrays(np.ones((20, 3)), bin_size=0.1, behavior={"x": np.arange(20.0)})


def _nothing_written(folder: Path) -> bool:
    return not [path for path in folder.iterdir() if path.is_file()]


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_of_behavior_that_files_cannot_have_are_refused(name: Any, recording: Recording, tmp_path: Path) -> None:
    renamed = replace(recording, behavior={name: recording.behavior["x"]})
    assert_refused(lambda: renamed.to_nwb(tmp_path / "new.nwb"), "behavior")
    assert _nothing_written(tmp_path)


BAD_TEXT = {"NUL": "a\0b", "surrogate": "\udcff"}
FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "unit_ids": lambda text: {"unit_ids": ("a", "b", text)},
    "cell_type": lambda text: {"cell_type": ("a", "b", text)},
    "epochs": lambda text: {"epochs": {text: np.array([[0.0, 1.0]])}},
    "session": lambda text: {"session": text},
    "behavior_unit": lambda text: {"behavior_unit": {"x": text}},
    "behavior": lambda text: {"behavior": {"x": np.array(["a", text] * 10, dtype=object)}},
}


@pytest.mark.parametrize("text", BAD_TEXT.values(), ids=BAD_TEXT)
@pytest.mark.parametrize("field", FIELDS)
def test_text_that_files_cannot_have_is_refused(field: str, text: str, recording: Recording, tmp_path: Path) -> None:
    changed = replace(recording, **FIELDS[field](text))
    assert_refused(lambda: changed.to_nwb(tmp_path / "new.nwb"), field)
    assert _nothing_written(tmp_path)


def _file_as_folder(folder: Path) -> Path:
    (folder / "file").mkdir()
    (folder / "file" / "inside").write_text("")
    return folder / "file" / "inside" / "new.nwb"


PLACES: dict[str, Callable[[Path], Any]] = {
    "missing folder": lambda folder: folder / "none" / "new.nwb",
    "folder": lambda folder: folder,
    "under a file": _file_as_folder,
    "file system without files": lambda folder: "/proc/new.nwb",
    "name too long": lambda folder: folder / ("x" * 300),
    "path too long": lambda folder: folder / "/".join(["x"] * 4000),
    "NUL": lambda folder: "new\0.nwb",
    "empty": lambda folder: "",
    "None": lambda folder: None,
    "number": lambda folder: 7,
    "bytes": lambda folder: b"new.nwb",
    "line breaks": lambda folder: folder / "a\nb" / "new.nwb",
}


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_places_without_files_are_refused(place: Any, overwrite: bool, recording: Recording, tmp_path: Path) -> None:
    path = place(tmp_path)
    assert_refused(lambda: recording.to_nwb(path, overwrite=overwrite))
    assert _nothing_written(tmp_path)


METADATA: dict[str, Any] = {
    "number": 3,
    "list": ["a"],
    "missing file": "absent.nwb",
    "unknown field": {"weather": "fine"},
    "wrong type": {"experimenter": 3},
    "start as text": {"session_start_time": "yesterday"},
    "number as name": {3: "a"},
    "subject as text": {"subject": "rat"},
    "unknown field of the subject": {"subject": {"weather": "fine"}},
    "surrogate": {"lab": "\udcff"},
    "NUL": {"lab": "a\0b"},
    "empty path": "",
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
def test_malformed_metadata_are_refused(metadata: Any, recording: Recording, tmp_path: Path) -> None:
    assert_refused(lambda: recording.to_nwb(tmp_path / "new.nwb", metadata=metadata))
    assert _nothing_written(tmp_path)
