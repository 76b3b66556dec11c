"""Saved objects: folders with `weights.safetensors` and `metadata.json`. Loading does not execute code.

Folders and files are written under a temporary name and renamed when complete, so that a full disk or an interrupt
leaves existing ones unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from kalmanssl.errors import InputError, first_line

__all__ = ["METADATA", "WEIGHTS", "load_folder", "replace_file", "replace_folder", "save_folder"]

METADATA = "metadata.json"
WEIGHTS = "weights.safetensors"


def save_folder(
    path: str | os.PathLike[str],
    kind: str,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write arrays and metadata into the folder `path`.

    Parameters
    ----------
    path : path
    kind : str
        Type of the stored object ("model", "decoder"); `load_folder` checks it.
    arrays : mapping from names to arrays
    metadata : mapping
        Settings and other information, JSON types only.
    overwrite : bool
        Replace an existing folder. The old one is removed when the new one is complete.

    Raises
    ------
    InputError
        If `path` exists and `overwrite` is false, or cannot be written.
    """
    from safetensors.numpy import save

    blob = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    header = {
        "kind": kind,
        "format": 1,
        "kalmanssl": version("kalmanssl"),
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights_sha256": hashlib.sha256(blob).hexdigest(),
    }

    def write(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(blob)
        (folder / METADATA).write_text(
            json.dumps({**header, **metadata}, indent=2, allow_nan=True) + "\n", encoding="utf-8"
        )

    replace_folder(path, write, overwrite)


def load_folder(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a folder written by `save_folder`.

    Returns
    -------
    (arrays, metadata)

    Raises
    ------
    InputError
        If the folder or a file in it is missing or damaged, has another kind, or a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"no saved {kind} at {folder}: the folder does not exist")
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        blob = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{folder} is not a complete {kind}: {Path(error.filename).name} is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{folder / METADATA} is damaged ({error}): save the {kind} again") from error
    if not isinstance(metadata, dict) or metadata.get("kind") != kind:
        found = metadata.get("kind") if isinstance(metadata, dict) else type(metadata).__name__
        raise InputError(f"{folder} holds a {found!r}, not a {kind!r}")
    if metadata.get("format") != 1:
        raise InputError(f"{folder} has format {metadata.get('format')}, newer than this kalmanssl: upgrade kalmanssl")
    if hashlib.sha256(blob).hexdigest() != metadata.get("weights_sha256"):
        raise InputError(f"{folder / WEIGHTS} is damaged: its checksum differs from the one in {METADATA}")
    try:
        return load(blob), metadata
    except SafetensorError as error:
        raise InputError(f"{folder / WEIGHTS} is damaged ({error})") from error


def replace_folder(path: str | os.PathLike[str], write: Callable[[Path], None], overwrite: bool = False) -> None:
    """Create a folder atomically: `write` fills a temporary folder, which is then renamed to `path`.

    Raises
    ------
    InputError
        If `path` exists and `overwrite` is false, or cannot be written. An existing file or folder stays unchanged.
    """
    target = Path(path)
    _refuse_existing(target, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise InputError(f"cannot write to {target}: {error.strerror}") from error
    new, old = scratch / "new", scratch / "old"
    try:
        new.mkdir()
        write(new)
        try:
            if target.exists():
                os.rename(target, old)
            os.rename(new, target)
        except BaseException:  # an interrupt between the two renames must not lose the old folder
            if old.exists() and not target.exists():
                os.rename(old, target)
            raise
    except OSError as error:
        raise InputError(f"cannot write to {target}: {error.strerror}; nothing was changed there") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def replace_file(path: str | os.PathLike[str], write: Callable[[Path], None], overwrite: bool = False) -> None:
    """Create a file atomically: `write` fills a temporary file, which is then renamed to `path`.

    Raises
    ------
    InputError
        If `path` exists and `overwrite` is false, or cannot be written. An existing file or folder stays unchanged.
    """
    target = Path(path)
    _refuse_existing(target, overwrite)
    scratch = target.with_name(f".{target.stem}-{os.getpid()}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(scratch)
        os.replace(scratch, target)
    except OSError as error:
        raise InputError(
            f"cannot write to {target}: {error.strerror or first_line(error)}; nothing was changed there"
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists: choose another name, or ask for overwrite (--overwrite) to replace it")
