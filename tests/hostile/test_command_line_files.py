"""Commands with malformed recordings: exit code 2 and one line, and no run folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cli_commands import SMALL, fails, invoke
from nwb_damage import SPATIAL, damaged, put
from refusals import LONGEST_MESSAGE, time_limit

from kalmanssl import Recording

for name in ("torch", "kalmanssl.estimator", "kalmanssl.decoding", "kalmanssl.runs"):
    import_module(name)  # which takes seconds, before the time limit of a command begins

POSITION = ("--behavior", "mazeSpatialSeries")


def _fifo(source: Path, folder: Path) -> Path:
    os.mkfifo(folder / "pipe.nwb")
    return folder / "pipe.nwb"


def _file(content: bytes) -> Callable[[Path, Path], Path]:
    def make(source: Path, folder: Path) -> Path:
        (folder / "file.nwb").write_bytes(content)
        return folder / "file.nwb"

    return make


def _truncated(source: Path, folder: Path) -> Path:
    (folder / "short.nwb").write_bytes(source.read_bytes()[:5000])
    return folder / "short.nwb"


def _damaged(damage: Callable[[h5py.File], Any]) -> Callable[[Path, Path], Path]:
    return lambda source, folder: damaged(source, folder, damage)


def _link_to_fifo(file: h5py.File) -> None:
    os.mkfifo(Path(file.filename).parent / "pipe")
    del file["units"]
    file["units"] = h5py.ExternalLink("pipe", "/units")


NOT_READ: dict[str, Callable[[Path, Path], Path]] = {
    "fifo": _fifo,
    "device": lambda source, folder: Path("/dev/zero"),
    "folder": lambda source, folder: folder,
    "missing": lambda source, folder: folder / "none.nwb",
    "line breaks": lambda source, folder: folder / "a\nb.nwb",
    "name that is not text": lambda source, folder: folder / "\udcff.nwb",
    "name too long": lambda source, folder: folder / ("x" * 5000),
    "empty": _file(b""),
    "text": _file(b"time,unit\n" * 100),
    "noise": _file(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8),
    "truncated": _truncated,
    "another kind of HDF5": _damaged(lambda file: file.attrs.__setitem__("neurodata_type", "x" * 50_000)),
}
NOT_USED: dict[str, Callable[[Path, Path], Path]] = {
    "units behind a fifo": _damaged(_link_to_fifo),
    "spike times of text": _damaged(lambda file: put(file, "units/spike_times", ["soon"] * 600)),
    "index beyond the data": _damaged(lambda file: put(file, "units/spike_times_index", [1, 2, 10**9])),
    "no ids": _damaged(lambda file: file.__delitem__("units/id")),
    "position of records": _damaged(lambda file: put(file, f"{SPATIAL}/data", np.zeros(2400, [("x", "f8")]))),
    "fewer timestamps": _damaged(lambda file: put(file, f"{SPATIAL}/timestamps", np.arange(3.0))),
    "conversion of text": _damaged(lambda file: file[f"{SPATIAL}/data"].attrs.__setitem__("conversion", "cm")),
    "trials of text": _damaged(lambda file: put(file, "intervals/trials/start_time", ["a"] * 5)),
}


def _refused(*arguments: Any) -> None:
    with time_limit(10.0):
        line = fails(*arguments)
    assert len(line) <= LONGEST_MESSAGE


@pytest.mark.parametrize("make", NOT_READ.values(), ids=NOT_READ)
def test_files_that_cannot_be_read_are_refused(make: Any, tmp_path: Path, session_file: Path) -> None:
    path = make(session_file, tmp_path)
    _refused("info", path)
    _refused("fit", path, "--out", tmp_path / "run", *SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", NOT_USED.values(), ids=NOT_USED)
def test_files_with_malformed_content_are_refused(make: Any, tmp_path: Path, session_file: Path) -> None:
    path = make(session_file, tmp_path)
    _refused("fit", path, "--out", tmp_path / "run", *SMALL, *POSITION)
    assert not (tmp_path / "run").exists()
    with time_limit(10.0):
        shown = invoke("info", path)
    assert shown.exit_code in (0, 2)
    assert shown.exception is None or isinstance(shown.exception, SystemExit)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, session_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    made = invoke("fit", session_file, "--out", folder, *SMALL, *POSITION, "--epochs", "1", "--bin-size", "0.5")
    assert made.exit_code == 0, made.stderr
    return folder


@pytest.mark.parametrize("make", NOT_READ.values(), ids=NOT_READ)
def test_runs_refuse_files_that_cannot_be_read(make: Any, run: Path, tmp_path: Path, session_file: Path) -> None:
    path = make(session_file, tmp_path)
    _refused("decode", run, path, "--out", tmp_path / "decoded.csv")
    _refused("evaluate", run, path)
    assert not (tmp_path / "decoded.csv").exists()


def test_a_valid_file_with_a_name_that_is_not_text_is_read(tmp_path: Path, session_file: Path) -> None:
    path = tmp_path / "\udcff.nwb"
    path.write_bytes(session_file.read_bytes())
    shown = invoke("info", path)
    assert shown.exit_code == 0, shown.stderr
    found = Recording.from_nwb(path, behavior="mazeSpatialSeries")
    found.to_nwb(tmp_path / "written.nwb")
    np.testing.assert_array_equal(Recording.from_nwb(tmp_path / "written.nwb").activity, found.activity)


BAD_OPTIONS = {
    "tiny bins": ("--bin-size", "1e-9"),
    "negative bins": ("--bin-size", "-1"),
    "bins of NaN": ("--bin-size", "nan"),
    "unknown units": ("--units", "shank=77"),
    "unknown epoch": ("--epoch", "x" * 5000),
    "unknown activity": ("--activity", "a\nb"),
    "bands of text": ("--band", "theta=a:b"),
}


@pytest.mark.parametrize("options", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_malformed_options_of_reading_are_refused(options: Any, tmp_path: Path, session_file: Path) -> None:
    _refused("fit", session_file, "--out", tmp_path / "run", *SMALL, *POSITION, *options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("after", ["nan", "1e9", "inf"])
def test_runs_refuse_times_after_the_recording(after: str, run: Path, tmp_path: Path, session_file: Path) -> None:
    _refused("evaluate", run, session_file, "--after", after)
    _refused("decode", run, session_file, "--out", tmp_path / "decoded.csv", "--after", after)
