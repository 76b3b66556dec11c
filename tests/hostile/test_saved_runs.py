"""Commands with run folders that were changed or damaged: exit code 2 and one line, and nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_commands import SMALL, contents, fails, invoke
from damage import FILES, METADATA, REMOVED, TEXTS, WEIGHTS, put, put_array, twice
from refusals import LONGEST_MESSAGE, assert_refused, time_limit

from kalmanssl import KalmanSSL
from kalmanssl.runs import Run

OPTIONS = (*SMALL, "--behavior", "mazeSpatialSeries", "--epochs", "1", "--bin-size", "0.5", "--until", "1040")
INFINITE, NAN = float("inf"), float("nan")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, session_file: Path) -> Path:
    """A run with an evaluation on held-out time."""
    folder = tmp_path_factory.mktemp("run") / "run"
    made = invoke("fit", session_file, "--out", folder, *OPTIONS)
    assert made.exit_code == 0, made.stderr
    return folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, which a test may change."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def refused(folder: Path, session: Path, commands: tuple[str, ...] = ("decode", "evaluate", "report")) -> None:
    """Check that commands refuse a run folder with one line that names it, and write nothing."""
    out = folder.parent / "out.csv"
    for command in commands:
        arguments: tuple[Any, ...] = {"decode": (session, "--out", out), "evaluate": (session,), "report": ()}[command]
        with time_limit(20.0):
            line = fails(command, folder, *arguments)
        assert len(line) <= LONGEST_MESSAGE
        assert str(folder)[-30:] in line
    assert not out.exists()
    assert not (folder / "report.html").exists()


NAMES = ("", "model", "decoder", "evaluation")
DAMAGES = [(f"{folder}/{METADATA}".lstrip("/"), name) for folder in NAMES for name in (*FILES, *TEXTS, "twice")]
DAMAGES += [(f"{folder}/{WEIGHTS}", name) for folder in NAMES[1:] for name in FILES]
ALL_DAMAGES: dict[str, Callable[[Path], None]] = {**FILES, **TEXTS, "twice": twice}


@pytest.mark.parametrize(("file", "name"), DAMAGES, ids=["-".join(case) for case in DAMAGES])
def test_damaged_files_are_refused(file: str, name: str, copied: Path, session_file: Path) -> None:
    ALL_DAMAGES[name](copied / file)
    refused(copied, session_file, ("evaluate",) if file.startswith(("model", "evaluation")) else ("decode", "report"))


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("damage", ["missing", "file", "empty", "loop"])
def test_damaged_folders_are_refused(name: str, damage: str, copied: Path, session_file: Path) -> None:
    shutil.rmtree(copied / name)
    if damage == "file":
        (copied / name).write_bytes(b"x")
    elif damage == "empty":
        (copied / name).mkdir()
    elif damage == "loop":
        (copied / name).symlink_to(name)
    refused(copied, session_file)


VALUES: dict[str, dict[str, Any]] = {
    "kind": {"other": "model", "null": None, "list": []},
    "format": {"newer": 3, "older": 1, "text": "2", "bool": True, "huge": 10**30, "missing": REMOVED},
    "settings": {"null": None, "list": [], "empty": {}, "missing": REMOVED},
    "settings.units": {"text": "auto", "number": 1, "nested": [["a"]], "null": None},
    "settings.bands": {"number": 1, "null": None},
    "settings.bin_size": {"text": "1", "negative": -1, "nan": NAN, "list": [1]},
    "settings.end_zones": {"one": [1], "text": ["a", "b"], "reversed": [2, 1]},
    "settings.level": {"two": 2, "text": "a"},
    "settings.model": {"null": None, "list": []},
    "settings.recording": {"number": 1, "null": None, "missing": REMOVED},
    "settings.behavior": {"number": 1},
    "recording": {"null": None, "empty": {}, "missing": REMOVED},
    "recording.bin_size_s": {"zero": 0, "text": "1", "infinite": INFINITE},
    "recording.fitted_until_s": {"text": "now", "nan": NAN, "missing": REMOVED},
    "recording.source": {"number": 1, "list": []},
    "behavior": {"text": "x", "empty": {}, "list": [], "missing": REMOVED},
    "behavior.unit": {"number": 1, "null": None},
    "running_speed": {"text": "x", "negative": -1, "nan": NAN},
    "seconds": {"text": "x", "texts": {"model": "long"}},
}
CASES = [(place, name) for place, values in VALUES.items() for name in values]


@pytest.mark.parametrize(("place", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_changed_metadata_of_runs_are_refused(place: str, name: str, copied: Path, session_file: Path) -> None:
    put(copied, place, VALUES[place][name])
    refused(copied, session_file, ("evaluate",))


EVALUATION: dict[str, dict[str, Any]] = {
    "part": {"null": None, "list": [], "empty": {}, "missing": REMOVED},
    "part.source": {"number": 1},
    "part.start_s": {"text": "x", "nan": NAN},
    "scores": {"null": None, "empty": {}, "text": "x", "missing": REMOVED},
    "scores.all": {"text": "x", "list": [], "empty": {}},
    "scores.all.coverage": {"null": None, "list": [1], "text": {"95": "x"}},
    "scores.all.calibration": {"null": None, "empty": {}},
    "scores.all.calibration.nominal": {"text": "x", "short": [0.5], "texts": ["a"]},
    "scores.all.r2": {"text": "x", "list": []},
    "scores.all.conditional": {"text": "x", "list": [1]},
    "assumptions": {"text": "x", "list": [], "empty": {}},
}
EVALUATION_CASES = [(place, name) for place, values in EVALUATION.items() for name in values]


@pytest.mark.parametrize(("place", "name"), EVALUATION_CASES, ids=["-".join(case) for case in EVALUATION_CASES])
def test_changed_evaluations_are_refused(place: str, name: str, copied: Path, session_file: Path) -> None:
    put(copied / "evaluation", place, EVALUATION[place][name])
    refused(copied, session_file, ("report",))


ARRAYS = [
    "time",
    "counts",
    "noise",
    "log_likelihood",
    "mean",
    "lower",
    "truth",
    "latents",
    "color",
    "decoded",
    "tracked",
]
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "empty": lambda a: a[:0], "another axis": lambda a: a[..., None], "twice": lambda a: np.concatenate([a, a]),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", ARRAYS)
def test_changed_arrays_of_evaluations_are_refused(name: str, change: Any, copied: Path) -> None:
    put_array(copied / "evaluation", name, change)
    assert_refused(lambda: Run.load(copied), "evaluation")


def test_parts_of_other_runs_are_refused(copied: Path, session_file: Path) -> None:
    model = KalmanSSL(latent_dim=2, state_dim=3, epochs=1, steps_per_epoch=1, progress=False, random_state=0)
    model.fit(np.random.default_rng(0).poisson(1.0, (600, 3))).save(copied / "model", overwrite=True)
    refused(copied, session_file)
    (copied / "decoder").rename(copied / "moved")
    shutil.copytree(copied / "model", copied / "decoder")
    refused(copied, session_file)


def test_a_state_that_refers_to_arrays_that_are_absent_or_used_twice_is_refused(copied: Path) -> None:
    put(copied / "decoder", "state.object.decoders.object.filtered.object.drift.object.center", {"array": "x"})
    assert_refused(lambda: Run.load(copied), "decoder")
    put(copied / "decoder", "state.object.decoders.object.filtered.object.drift.object.center", {"object": {"a": 1}})
    assert_refused(lambda: Run.load(copied), "decoder")
    bomb: Any = {"array": "state.decoders.filtered.drift.scale"}
    for _ in range(40):
        bomb = {"object": {"a": bomb}}
    put(copied / "decoder", "state", bomb)
    assert_refused(lambda: Run.load(copied), "decoder", seconds=5)


@pytest.mark.parametrize("name", ["../../outside", "/dev/stdin"])
def test_names_in_metadata_are_text_and_never_files(name: str, copied: Path, session_file: Path) -> None:
    for place in ("recording.source", "behavior.name", "behavior.unit", "settings.recording", "settings.waypoints"):
        put(copied, place, name)
    put(copied / "evaluation", "part.source", name)
    before = set(contents(copied.parent))
    for out in ("out.csv", "out.nwb"):
        assert invoke("decode", copied, session_file, "--out", copied.parent / out).exit_code == 0
    assert invoke("report", copied).exit_code == 0
    assert set(contents(copied.parent)) - before == {"out.csv", "out.nwb", f"{copied.name}/report.html"}
    assert not (copied.parent.parent / "outside").exists()


@pytest.mark.parametrize("place", ["report.html", "model"])
def test_what_links_in_a_run_point_to_is_never_changed(place: str, copied: Path, session_file: Path) -> None:
    outside = copied.parent / "outside"
    if place == "report.html":
        outside.write_text("mine", encoding="utf-8")
    else:
        (copied / place).rename(outside)
    (copied / place).symlink_to(outside)
    before = contents(copied.parent)
    for command in (("report", copied, "--overwrite"), ("fit", session_file, "--out", copied, "--overwrite", *OPTIONS)):
        assert invoke(*command).exit_code == 0
        after = contents(copied.parent)
        assert all(after[name] == before[name] for name in before if name.startswith("outside"))
    assert not (copied / place).is_symlink()


@pytest.mark.parametrize("path", ["x" * 5000, "\udcff", ".", "/dev/null", "/dev/zero"], ids=lambda path: path[:9])
def test_paths_that_are_no_run_are_refused(path: str, session_file: Path, tmp_path: Path) -> None:
    with time_limit(10.0):
        assert len(fails("evaluate", path, session_file)) <= LONGEST_MESSAGE
        assert len(fails("decode", path, session_file, "--out", tmp_path / "out.csv")) <= LONGEST_MESSAGE


def test_what_is_no_run_is_never_replaced(copied: Path, session_file: Path) -> None:
    put(copied, "kind", "model")
    before = contents(copied)
    fails("fit", session_file, "--out", copied, "--overwrite", *OPTIONS)
    assert contents(copied) == before
    target = copied.parent / "link"
    target.symlink_to("link")
    fails("fit", session_file, "--out", target, *OPTIONS)
    assert target.is_symlink()
