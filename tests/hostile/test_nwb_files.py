"""Files that are not NWB files, damaged files, and links to nothing: one line, in bounded time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_damage import SPATIAL, assert_unreadable, damaged, summary_problem
from refusals import assert_refused

from kalmanssl import Recording
from kalmanssl.data import summarize_nwb
from kalmanssl.data.nwb import session_metadata


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.nwb")
    return folder / "pipe.nwb"


def _socket(folder: Path) -> Path:
    before = os.getcwd()
    os.chdir(folder)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("s.nwb")
    finally:
        os.chdir(before)
    return folder / "s.nwb"


def _link_to_fifo(folder: Path) -> Path:
    (folder / "link.nwb").symlink_to(_fifo(folder))
    return folder / "link.nwb"


def _cyclic_link(folder: Path) -> Path:
    (folder / "cycle.nwb").symlink_to(folder / "cycle.nwb")
    return folder / "cycle.nwb"


def _file(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "file.nwb").write_bytes(content)
        return folder / "file.nwb"

    return make


def _under_a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"")
    return folder / "file" / "session.nwb"


NOT_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "fifo": (_fifo, "not a regular file"),
    "link to a fifo": (_link_to_fifo, "not a regular file"),
    "socket": (_socket, "not a regular file"),
    "device that never ends": (lambda folder: "/dev/zero", "not a regular file"),
    "device without content": (lambda folder: "/dev/null", "not a regular file"),
    "folder": (lambda folder: folder, "folder"),
    "empty path": (lambda folder: "", "path"),
    "missing": (lambda folder: folder / "none.nwb", "does not exist"),
    "missing, with line breaks in its name": (lambda folder: folder / "a\nb\nc.nwb", "does not exist"),
    "missing, with a name that is not text": (lambda folder: folder / "\udcff.nwb", "does not exist"),
    "cyclic link": (_cyclic_link, "cycle.nwb"),
    "name too long": (lambda folder: folder / ("x" * 5000), "path"),
    "too deep": (lambda folder: "/".join(["x"] * 5000), "path"),
    "under a file": (_under_a_file, "does not exist"),
    "integer": (lambda folder: 7, "path"),
    "None": (lambda folder: None, "path"),
    "bytes": (lambda folder: b"session.nwb", "path"),
    "NUL": (lambda folder: "session\0.nwb", "path"),
    "list": (lambda folder: ["session.nwb"], "path"),
    "empty file": (_file(b""), "not an NWB file"),
    "text": (_file(b"time,unit\n0,1\n" * 100), "not an NWB file"),
    "only the signature of HDF5": (_file(b"\x89HDF\r\n\x1a\n"), "file.nwb"),
    "signature and noise": (_file(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8), "file.nwb"),
}


@pytest.mark.parametrize(("make", "match"), NOT_FILES.values(), ids=NOT_FILES)
def test_paths_to_something_else_are_refused(
    make: Callable[[Path], Any], match: str, tmp_path: Path, session_file: Path
) -> None:
    path = make(tmp_path)
    calls: list[Callable[[Any], object]] = [Recording.from_nwb, summarize_nwb, session_metadata]
    if path is not None:
        recording = Recording.from_nwb(session_file, behavior="mazeSpatialSeries")
        calls.append(lambda given: recording.to_nwb(tmp_path / "new.nwb", metadata=given))
    for call in calls[:3]:
        assert_refused(lambda call=call: call(path), match)
    for call in calls[3:]:
        assert_refused(lambda call=call: call(path))


@pytest.mark.parametrize("part", [0.02, 0.2, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(part: float, tmp_path: Path, session_file: Path) -> None:
    content = session_file.read_bytes()
    path = tmp_path / "short.nwb"
    path.write_bytes(content[: int(part * len(content))])
    assert_unreadable(path, "short.nwb")


@pytest.mark.parametrize("seed", range(12))
def test_bytes_that_changed_are_refused_or_leave_the_recording_unchanged(
    seed: int, tmp_path: Path, session_file: Path
) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(session_file.read_bytes())
    for place in rng.integers(8, len(content), 20):
        content[place] ^= int(rng.integers(1, 256))
    path = tmp_path / "changed.nwb"
    path.write_bytes(bytes(content))
    summary_problem(path)
    try:
        found = Recording.from_nwb(path, behavior="mazeSpatialSeries")
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        assert type(error).__name__ == "InputError"  # noqa: PT017
    else:
        assert np.isfinite(found.activity).all()


def _set(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


KINDS = {
    "missing": lambda file: file.attrs.__delitem__("neurodata_type"),
    "number": _set("neurodata_type", 3),
    "numbers": _set("neurodata_type", np.arange(5000)),
    "other type": _set("neurodata_type", "Folder"),
    "huge text": _set("neurodata_type", "x" * 60_000),
    "not UTF-8": _set("neurodata_type", np.bytes_(b"\xff\xfe")),
    "empty": _set("neurodata_type", h5py.Empty("f")),
}


@pytest.mark.parametrize("damage", KINDS.values(), ids=KINDS)
def test_hdf5_files_of_other_types_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, damage), "not an NWB 2 file")


def _link(where: str, target: Any) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[where]
        file[where] = target

    return damage


def _cycle_of_hard_links(file: h5py.File) -> None:
    file["processing/behavior/again"] = file["processing/behavior"]


def _many_ways_through_hard_links(file: h5py.File) -> None:
    group = file["processing"].create_group("ways")
    for _ in range(40):
        deeper = group.create_group("left")
        group["right"] = deeper
        group = deeper


def _deep_groups(file: h5py.File) -> None:
    group = file["processing"]
    for _ in range(500):
        group = group.create_group("g")


LINKS: dict[str, tuple[Any, str]] = {
    "units to an absent file": (_link("units", h5py.ExternalLink("absent.nwb", "/units")), "units"),
    "units to a fifo": (_link("units", h5py.ExternalLink("pipe", "/units")), "units"),
    "units through a link to a fifo": (
        lambda file: (
            file.__setitem__("out", h5py.ExternalLink("pipe", "/")),
            _link("units", h5py.SoftLink("/out/units"))(file),
        ),
        "units",
    ),
    "units to itself": (_link("units", h5py.SoftLink("/units")), "units"),
    "units to nothing": (_link("units", h5py.SoftLink("/nothing")), "units"),
    "spike times to nothing": (_link("units/spike_times", h5py.SoftLink("/nothing")), "spike_times"),
    "index to nothing": (_link("units/spike_times_index", h5py.SoftLink("/nothing")), "spike_times_index"),
    "ids to nothing": (_link("units/id", h5py.SoftLink("/nothing")), "id"),
    "position to an absent file": (_link(SPATIAL, h5py.ExternalLink("absent.nwb", "/x")), "mazeSpatialSeries"),
    "position to a fifo": (_link(SPATIAL, h5py.ExternalLink("pipe", "/x")), "mazeSpatialSeries"),
    "data to nothing": (_link(f"{SPATIAL}/data", h5py.SoftLink("/nothing")), "mazeSpatialSeries"),
    "data to a fifo": (_link(f"{SPATIAL}/data", h5py.ExternalLink("pipe", "/x")), "mazeSpatialSeries"),
    "timestamps to nothing": (_link(f"{SPATIAL}/timestamps", h5py.SoftLink("/nothing")), "timestamps"),
    "timestamps to an absent file": (_link(f"{SPATIAL}/timestamps", h5py.ExternalLink("absent", "/x")), "timestamps"),
    "column to nothing": (_link("units/cell_type", h5py.SoftLink("/nothing")), "cell_type"),
    "epochs to nothing": (_link("intervals/epochs/start_time", h5py.SoftLink("/nothing")), "epochs"),
    "all processing to nothing": (_link("processing", h5py.SoftLink("/nothing")), "processing"),
    "all intervals to nothing": (_link("intervals", h5py.SoftLink("/nothing")), "intervals"),
    "many ways through links": (_many_ways_through_hard_links, "processing"),
}


@pytest.mark.parametrize(("damage", "match"), LINKS.values(), ids=LINKS)
def test_links_to_nothing_are_refused(damage: Any, match: str, tmp_path: Path, session_file: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert_unreadable(damaged(session_file, tmp_path, damage), match, behavior="mazeSpatialSeries")


HARMLESS = {"a cycle of links": _cycle_of_hard_links, "many groups inside each other": _deep_groups}


@pytest.mark.parametrize("damage", HARMLESS.values(), ids=HARMLESS)
def test_odd_trees_of_groups_are_searched_once(damage: Any, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, damage)
    assert not summary_problem(path)
    found = Recording.from_nwb(path, behavior=SPATIAL)
    valid = Recording.from_nwb(session_file, behavior=SPATIAL)
    np.testing.assert_array_equal(found.activity, valid.activity)


def test_links_that_are_not_read_do_no_harm(tmp_path: Path, session_file: Path) -> None:
    def damage(file: h5py.File) -> None:
        file["acquisition/video"] = h5py.ExternalLink("pipe", "/video")
        file["acquisition/raw"] = h5py.SoftLink("/nothing")

    os.mkfifo(tmp_path / "pipe")
    path = damaged(session_file, tmp_path, damage)
    assert not summary_problem(path)
    found = Recording.from_nwb(path, behavior="mazeSpatialSeries")
    valid = Recording.from_nwb(session_file, behavior="mazeSpatialSeries")
    np.testing.assert_array_equal(found.activity, valid.activity)


def _external_storage(name: str) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        attributes = dict(file[f"{SPATIAL}/data"].attrs.items())
        shape = file[f"{SPATIAL}/data"].shape
        del file[f"{SPATIAL}/data"]
        made = file.create_dataset(f"{SPATIAL}/data", shape, "f8", external=[(name, 0, 8 * shape[0])])
        made.attrs.update(attributes)

    return damage


def _virtual(name: str) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        attributes = dict(file[f"{SPATIAL}/data"].attrs.items())
        shape = file[f"{SPATIAL}/data"].shape
        del file[f"{SPATIAL}/data"]
        layout = h5py.VirtualLayout(shape, "f8")
        layout[:] = h5py.VirtualSource(name, "x", shape)
        made = file.create_virtual_dataset(f"{SPATIAL}/data", layout)
        made.attrs.update(attributes)

    return damage


def _claimed_size(file: h5py.File) -> None:
    attributes = dict(file[f"{SPATIAL}/data"].attrs.items())
    del file[f"{SPATIAL}/data"]
    made = file.create_dataset(f"{SPATIAL}/data", (10**12,), "f8", chunks=(1000,))
    made.attrs.update(attributes)


STORAGE = {
    "in an absent file": _external_storage("absent.raw"),
    "in a fifo": _external_storage("pipe"),
    "virtual, of an absent file": _virtual("absent.h5"),
    "virtual, of a fifo": _virtual("pipe"),
    "larger than the memory": _claimed_size,
}


@pytest.mark.parametrize("damage", STORAGE.values(), ids=STORAGE)
def test_data_that_cannot_be_read_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = damaged(session_file, tmp_path, damage)
    assert_unreadable(path, "mazeSpatialSeries", behavior="mazeSpatialSeries")
