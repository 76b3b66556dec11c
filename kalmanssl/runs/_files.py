"""Reading of JSON files, and checks of output paths before the work starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kalmanssl.errors import InputError
from kalmanssl.utils.storage import METADATA

__all__ = ["check_new_output", "is_run", "read_json"]


def check_new_output(path: Path, overwrite: bool) -> None:
    """Raise `InputError` if `path` exists and `overwrite` is false."""
    if path.exists() and not overwrite:
        raise InputError(
            f"overwrite must be set to replace {path}, which exists; or choose another name", parameter="overwrite"
        )


def is_run(path: Path) -> bool:
    """Return whether a folder was written by `Run.save`. Only such a folder may be replaced by a new run."""
    try:
        return read_json(path / METADATA).get("kind") == "run"
    except InputError:
        return False


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. `InputError` names the file if it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}): fit the run again") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged (it is not a JSON object): fit the run again")
    return values
