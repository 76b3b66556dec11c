"""Saved objects: folders with `weights.safetensors` and `metadata.json`. Loading does not execute code.

Folders and files are written under a temporary name and renamed when complete, so that a full disk or an interrupt
leaves existing ones unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.memory import check_memory
from kalmanssl.utils.paths import as_path
from kalmanssl.utils.scratch import scratch_folder
from kalmanssl.utils.validation import short_repr

__all__ = [
    "METADATA",
    "WEIGHTS",
    "check_format",
    "is_folder",
    "load_folder",
    "read_json",
    "repair_advice",
    "replace_file",
    "replace_folder",
    "replace_text",
    "save_folder",
    "without_prefix",
]

T = TypeVar("T")

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

    folder = as_path("path", path)
    if not is_folder(folder):
        raise InputError(f"no saved {kind} at {folder}: {'it is a file' if folder.exists() else 'it does not exist'}")
    metadata = read_json(folder / METADATA, kind)
    if metadata.get("kind") != kind:
        raise InputError(f"{folder} holds a {short_repr(metadata.get('kind'))}, not a {kind!r}")
    check_format(metadata, 1, folder, kind)
    blob = _read(folder / WEIGHTS, kind)
    if hashlib.sha256(blob).hexdigest() != metadata.get("weights_sha256"):
        raise InputError(f"{folder / WEIGHTS} is damaged: its checksum differs from the one in {METADATA}")
    try:
        return load(blob), metadata
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = first_line(error)[:200]
        raise InputError(f"{folder / WEIGHTS} is damaged ({reason}): {repair_advice(kind)}") from error


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; raise `InputError` if this cannot be found out, as for a name too long."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{str(path)[:200]} cannot be read: {error.strerror or first_line(error)}") from error


def check_format(metadata: Mapping[str, Any], newest: int, folder: Path, kind: str) -> None:
    """Raise `InputError` if the format of a saved object is not `newest`, which this version writes."""
    stored = metadata.get("format")
    if isinstance(stored, bool) or not isinstance(stored, int) or stored < 1:
        reason = f"format must be {newest}; got {short_repr(stored)}"
        message = f"{folder / METADATA} is damaged ({reason}): {repair_advice(kind)}"
        raise InputError(message)
    if stored > newest:
        raise InputError(f"{folder} has format {short_repr(stored)}, newer than this kalmanssl: upgrade kalmanssl")
    if stored < newest:
        raise InputError(f"{folder} was written by an earlier version with another decoder: fit it again")


def read_json(path: Path, kind: str = "run") -> dict[str, Any]:
    """Read the JSON object in a file of a saved object of some kind, by default a run.

    Raises
    ------
    InputError
        If the file is missing, cannot be read, or is not a JSON object.
    """
    text = _read(path, kind)
    try:
        values = json.loads(text.decode("utf-8"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:  # also of the decoding
        raise InputError(f"{path} is damaged ({first_line(error)[:200]}): {repair_advice(kind)}") from error
    if not isinstance(values, dict):
        message = f"{path} is damaged (it holds a {type(values).__name__}, not an object): {repair_advice(kind)}"
        raise InputError(message)
    return values


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; raise `ValueError` if a key occurs twice, since only one could be used."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.60} occurs twice")
    return values


def repair_advice(kind: str) -> str:
    """Return the advice for a damaged object of some kind."""
    return "fit the run again" if kind == "run" else f"save the {kind} again"


def _read(path: Path, kind: str) -> bytes:
    """Read a file of a saved object; raise `InputError` if it is missing, not a file, too large or unreadable."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe could block
            raise InputError(f"{path} is damaged (it is not a file): {repair_advice(kind)}")
        check_memory(2.0 * found.st_size, f"reading {path}", "the file is damaged, or needs more memory", "path")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} is not a complete {kind}: {path.name} is missing") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error


def replace_folder(path: str | os.PathLike[str], write: Callable[[Path], None], overwrite: bool = False) -> None:
    """Create a folder atomically: `write` fills a temporary folder, which is then renamed to `path`.

    Raises
    ------
    InputError
        If `path` exists and `overwrite` is false, or cannot be written. An existing file or folder stays unchanged.
    """
    with _replacement(path, overwrite) as (target, new, old):
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


def replace_file(path: str | os.PathLike[str], write: Callable[[Path], object], overwrite: bool = False) -> None:
    """Create a file atomically: `write` fills a temporary file, which is then renamed to `path`.

    Raises
    ------
    InputError
        If `path` exists and `overwrite` is false, or cannot be written. An existing file or folder stays unchanged.
    """
    with _replacement(path, overwrite) as (target, new, _):
        write(new)
        os.replace(new, target)


def without_prefix(named: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Return the entries whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def replace_text(path: str | os.PathLike[str], text: str, overwrite: bool = False) -> None:
    """Create a file of text in UTF-8 atomically; see `replace_file`."""
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8"), overwrite)


@contextmanager
def _replacement(path: str | os.PathLike[str], overwrite: bool) -> Iterator[tuple[Path, Path, Path]]:
    """Yield the path to replace, and temporary paths for its new and its old version; refuse an existing one."""
    target = as_path("path", path)
    with _errors_name(target):
        _refuse_existing(target, overwrite)
    with scratch_folder(target) as (new, old), _errors_name(target):
        _refuse_existing(target, overwrite)  # scratch_folder may have put back an old version
        yield target, new, old


@contextmanager
def _errors_name(target: Path) -> Iterator[None]:
    """Turn errors of the file system into those of input, with the name of the target."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(f"cannot write to {str(target)[:200]}: {reason}; nothing was changed there") from error


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise InputError(
            f"{str(target)[:200]} exists: choose another name, or ask for overwrite (--overwrite) to replace it"
        )
