"""Checks of output paths before the work starts."""

from __future__ import annotations

from pathlib import Path

from kalmanssl.errors import InputError
from kalmanssl.utils.storage import METADATA, read_json

__all__ = ["check_new_output", "is_run"]


def check_new_output(path: Path, overwrite: bool) -> None:
    """Raise `InputError` if `path` exists and `overwrite` is false."""
    if path.exists() and not overwrite:
        raise InputError(
            f"overwrite must be set to replace {path}, which exists; or choose another name", parameter="overwrite"
        )


def is_run(path: Path) -> bool:
    """Return whether a folder was written by `Run.save`. Only such a folder may be replaced by a new run."""
    try:
        return read_json(path / METADATA, "run").get("kind") == "run"
    except InputError:
        return False
