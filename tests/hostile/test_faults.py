"""Fits that are killed, interrupted, limited or run twice at once, and unusual environments."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from cli_commands import SMALL, contents, fails, invoke
from estimator_cases import TINY, counts
from refusals import assert_refused

from kalmanssl import KalmanSSL
from kalmanssl.runs import Run, RunSettings
from kalmanssl.utils.locks import locked

OPTIONS = (*SMALL, "--behavior", "mazeSpatialSeries", "--epochs", "1", "--bin-size", "0.5")
TESTS = Path(__file__).resolve().parents[1]
FIT = "from kalmanssl.cli import main; main()"


def python(*arguments: Any, timeout: float = 300, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run Python in a new process with one thread; None removes a variable of the environment."""
    changed = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS), str(TESTS / "hostile")]),
    }
    variables = {**os.environ, **changed, **environment}
    kept = {name: value for name, value in variables.items() if value is not None}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, env=kept, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
    )


@pytest.fixture(scope="module")
def problems(session_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What went wrong in fits with faults, by the kind of fault."""
    script = Path(__file__).with_name("interrupted_fits.py")
    done = python(script, session_file, tmp_path_factory.mktemp("faults"), timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("fault", ["killed", "two", "two, overwrite", "saves", "limits"])
def test_no_fault_leaves_half_a_run_or_prevents_the_next_fit(fault: str, problems: dict[str, list[str]]) -> None:
    """Kills and interrupts at random moments; two fits at once; saving that is killed; limits of files and memory."""
    assert problems[fault] == []


ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "locale C, no home": {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": None, "USER": None, "LOGNAME": None,
    },
    "folders that cannot be written": {
        "HOME": "/proc/none", "MPLCONFIGDIR": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "TMPDIR": "/proc/none",
        "NUMBA_CACHE_DIR": "/proc/none", "LC_ALL": "tr_TR.UTF-8",
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_fits_work_in_unusual_environments(environment: Any, session_file: Path, tmp_path: Path) -> None:
    done = python("-c", FIT, "fit", session_file, "--out", tmp_path / "rün", *OPTIONS, **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert Run.load(tmp_path / "rün").decoder is not None


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def read_only(*_: Any, **__: Any) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def no_handles(*_: Any, **__: Any) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("fault", [no_space, read_only, no_handles])
@pytest.mark.parametrize(
    "function", ["pathlib.Path.write_bytes", "pathlib.Path.mkdir", "tempfile.mkdtemp", "os.rename"]
)
def test_faults_of_the_file_system_leave_the_saved_model_as_it_was(
    function: str, fault: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = KalmanSSL(**TINY).fit(counts())
    model.save(tmp_path / "model")
    before = contents(tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr(function, fault)
        line = assert_refused(lambda: model.save(tmp_path / "model", overwrite=True), "cannot write to")
    reason = {no_space: "No space", read_only: "Read-only", no_handles: "Too many"}[fault]
    assert reason in line
    assert contents(tmp_path / "model") == before
    assert os.listdir(tmp_path) == ["model"]
    model.save(tmp_path / "model", overwrite=True)


@pytest.mark.parametrize("fault", [no_space, read_only, no_handles])
@pytest.mark.parametrize("function", ["pathlib.Path.mkdir", "pathlib.Path.touch", "safetensors.torch.save_file"])
def test_faults_of_the_file_system_end_a_fit_with_one_line(
    function: str, fault: Callable[..., None], session_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(function, fault)
        result = invoke("fit", session_file, "--out", tmp_path / "run", *OPTIONS)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_another_fit_uses_is_refused(session_file: Path, tmp_path: Path) -> None:
    work = tmp_path / "run.partial"
    work.mkdir()
    (work / "lock").touch()
    for more in ((), ("--overwrite",)):
        with locked(work / "lock", "in use"):
            assert "another fit is writing" in fails("fit", session_file, "--out", tmp_path / "run", *OPTIONS, *more)
        assert (work / "lock").exists()
    with locked(tmp_path, "in use"):
        model = KalmanSSL(**{**TINY, "checkpoint_dir": tmp_path})
        assert_refused(lambda: model.fit(counts()), "checkpoint_dir .* is used by another fit")


def test_remains_without_a_checkpoint_do_not_prevent_a_fit(session_file: Path, tmp_path: Path) -> None:
    work = tmp_path / "run.partial"
    (work / ".last.safetensors-x.tmp" / "new").mkdir(parents=True)
    (work / "settings.json").write_text("{", encoding="utf-8")
    assert invoke("fit", session_file, "--out", tmp_path / "run", *OPTIONS).exit_code == 0
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("what", ["file", "folder with other files"])
def test_what_no_fit_has_written_is_never_removed(what: str, session_file: Path, tmp_path: Path) -> None:
    work = tmp_path / "run.partial"
    if what == "file":
        work.write_text("mine", encoding="utf-8")
    else:
        work.mkdir()
        (work / "mine.txt").write_text("mine", encoding="utf-8")
    before = contents(tmp_path)
    fails("fit", session_file, "--out", tmp_path / "run", "--overwrite", *OPTIONS)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("target", ["nothing", "a file", "a folder"])
@pytest.mark.parametrize("name", ["lock", "settings.json", "last.safetensors", "noise"])
def test_a_work_folder_with_links_is_not_used(name: str, target: str, session_file: Path, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "run.partial").mkdir(parents=True)
    if target == "a file":
        outside.write_text("mine", encoding="utf-8")
    elif target == "a folder":
        outside.mkdir()
        (outside / "noise").write_text("mine", encoding="utf-8")
    (inside / "run.partial" / name).symlink_to(outside)
    before = contents(tmp_path)
    for more in ((), ("--overwrite",)):
        assert "contains the link" in fails("fit", session_file, "--out", inside / "run", *OPTIONS, *more)
    assert contents(tmp_path) == before
    assert os.listdir(inside) == ["run.partial"]
    assert outside.exists() == (target != "nothing")


@pytest.mark.parametrize("change", [{"checkpoint_dir": "../outside"}, {"encoder": "../outside"}, {"unknown": 1}])
def test_settings_of_a_fit_to_resume_that_are_no_parameters_are_refused(
    change: dict[str, Any], session_file: Path, tmp_path: Path
) -> None:
    work = tmp_path / "inside" / "run.partial"
    work.mkdir(parents=True)
    settings = RunSettings(str(session_file), model={"latent_dim": 4, **change})
    (work / "settings.json").write_text(json.dumps(asdict(settings)), encoding="utf-8")
    line = fails("fit", session_file, "--out", tmp_path / "inside" / "run", "--resume")
    assert f"no setting of a run '{next(iter(change))}'" in line
    assert os.listdir(tmp_path) == ["inside"]


def test_too_little_memory_is_reported_on_one_line(session_file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("Unable to allocate 59.6 GiB")

    monkeypatch.setattr(KalmanSSL, "transform", fail)
    result = invoke("fit", session_file, "--out", tmp_path / "run", *OPTIONS)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: there is not enough memory")
    assert not (tmp_path / "run").exists()
