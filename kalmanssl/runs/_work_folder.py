"""The folder of an unfinished fit, `RUN.partial`: settings, checkpoints, and a lock that keeps other fits out."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kalmanssl.errors import InputError, first_line
from kalmanssl.runs._settings import RunSettings
from kalmanssl.utils.locks import locked
from kalmanssl.utils.paths import as_path
from kalmanssl.utils.storage import read_json, replace_text

__all__ = ["how_to_resume", "partial_folder", "work_folder"]

_SETTINGS, _LOCK = "settings.json", "lock"
# Of checkpoints; the folder is of the second stage of a fit.
_OWN = {_SETTINGS, _LOCK, "last.safetensors", "best.safetensors", "noise"}


def partial_folder(out: Path) -> Path:
    """Return the folder in which an unfinished fit of the run `out` saves its checkpoints."""
    out = as_path("out", out)
    return out.with_name(out.name + ".partial")


@contextmanager
def work_folder(work: Path, settings: RunSettings, overwrite: bool, resume: bool) -> Iterator[RunSettings]:
    """Create the work folder, or open that of an interrupted fit, for this process alone; yield its settings.

    After the block the folder is removed unless it has a checkpoint, which another fit can continue.

    Raises
    ------
    InputError
        If another process is using the folder, there is nothing to resume, there are checkpoints that neither `resume`
        nor `overwrite` is about, the settings differ from those of the fit to resume, or the folder has other files.
    """
    from kalmanssl.training import has_checkpoint

    if resume and not (work / _SETTINGS).is_file():
        raise InputError(
            f"resume is set, but there is nothing to resume: {work / _SETTINGS} is missing", parameter="resume"
        )
    try:
        _check_content(work)
        work.mkdir(parents=True, exist_ok=True)
        (work / _LOCK).touch()
    except OSError as error:
        with suppress(OSError):
            work.rmdir()  # if it is empty
        reason = error.strerror or first_line(error)
        raise InputError(f"cannot write to {str(work)[:200]}: {reason}", parameter="out") from error
    with locked(work / _LOCK, f"another fit is writing in {work}: wait for its end, or choose another folder"):
        try:
            yield _settings_to_resume(work, settings) if resume else _begin(work, settings, overwrite)
        finally:
            if not has_checkpoint(work):
                shutil.rmtree(work, ignore_errors=True)


def _check_content(work: Path) -> None:
    """Raise `InputError` if a folder has files that no fit has written, which must not be removed, or links."""
    if not os.path.lexists(work):
        return
    is_folder = work.is_dir()
    names = os.listdir(work) if is_folder else []
    others = [name for name in names if (name not in _OWN and name[0] != ".") or (work / name).is_symlink()]
    if not is_folder or others:
        kind = "the link " if others and (work / others[0]).is_symlink() else ""
        what = f"it contains {kind}{others[0]!r:.80}" if others else "it is not a folder"
        raise InputError(
            f"{work} is needed for checkpoints, but {what}: choose another folder for the run", parameter="out"
        )


def _begin(work: Path, settings: RunSettings, overwrite: bool) -> RunSettings:
    """Begin a new fit: remove what an earlier one left, and write the settings."""
    from kalmanssl.training import has_checkpoint

    if has_checkpoint(work) and not overwrite:
        raise InputError(
            f"resume must be set to continue the interrupted fit in {work}; or set overwrite to discard it",
            parameter="resume",
        )
    for name in os.listdir(work):
        if name == _LOCK:
            continue
        if (work / name).is_dir():
            shutil.rmtree(work / name)
        else:
            (work / name).unlink()
    file = Path(settings.recording)
    facts = dataclasses.asdict(settings) | {"recording_bytes": file.stat().st_size if file.is_file() else None}
    replace_text(work / _SETTINGS, json.dumps(facts, indent=2) + "\n")
    return settings


def _settings_to_resume(work: Path, settings: RunSettings) -> RunSettings:
    """Return the settings of the interrupted fit in the work folder."""
    begun = read_json(work / _SETTINGS, "run")
    stored = RunSettings.of(**RunSettings.from_json(begun, work / _SETTINGS).given())
    _check_same(settings, stored, begun.get("recording_bytes"))
    return dataclasses.replace(stored, recording=settings.recording)


def _check_same(settings: RunSettings, stored: RunSettings, size: int | None) -> None:
    """Check that the given settings and the size of the recording, in bytes, are those of the fit to resume."""
    original = stored.given()
    for name, value in settings.given().items():
        if name != "recording" and value != original.get(name):
            was = f"with {original[name]}" if name in original else "without it"
            raise InputError(
                f"{name}={value} differs from the fit to resume, which began {was}: leave it out", parameter=name
            )
    file = Path(settings.recording)
    if size is not None and file.is_file() and file.stat().st_size != size:
        raise InputError(
            f"recording {file} is not that of the fit to resume, {stored.recording}: its size differs",
            parameter="recording",
        )


def how_to_resume(work: Path, settings: RunSettings, out: Path) -> str:
    """Return the message of an interrupted fit, with the command that continues it."""
    from kalmanssl.training import has_checkpoint

    if not has_checkpoint(work):
        return "interrupted before the end of the first epoch: nothing is kept, fit again"
    more = " --overwrite" if out.exists() else ""
    return (
        f"interrupted; the last checkpoint is in {work}: continue with "
        f"kalmanssl fit {settings.recording} --out {out} --resume{more}"
    )
