"""Damage of saved folders: values in JSON, arrays, and files."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

METADATA, WEIGHTS = "metadata.json", "weights.safetensors"
REMOVED = object()  # in place of a value: remove the key

Place = tuple[str | int, ...]


def read(folder: Path) -> dict[str, Any]:
    """Read the metadata of a folder."""
    values: dict[str, Any] = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    return values


def replaced(values: Any, place: Place, value: Any) -> Any:
    """Return a copy of nested dicts and lists with another value, or none, at a place."""
    values = copy.deepcopy(values)
    target = values
    for key in place[:-1]:
        target = target[key]
    if value is REMOVED:
        del target[place[-1]]
    else:
        target[place[-1]] = value
    return values


def put(folder: Path, place: str, value: Any) -> None:
    """Replace a value in the metadata of a folder; `place` is "settings.hidden.0"."""
    values = read(folder)
    target: Any = values
    keys: list[Any] = []
    for key in place.split("."):
        keys.append(int(key) if isinstance(target, list) else key)
        target = target.get(key) if isinstance(target, dict) else target[keys[-1]]
    text = json.dumps(replaced(values, tuple(keys), value))
    (folder / METADATA).write_text(text, encoding="utf-8")


def put_array(folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray] | None) -> None:
    """Replace an array of a folder, or remove it, with a valid checksum."""
    arrays = load((folder / WEIGHTS).read_bytes())
    before = arrays.pop(name)
    if change is not None:
        arrays[name] = np.ascontiguousarray(change(before))
    put_weights(folder, save(arrays))


def put_weights(folder: Path, blob: bytes) -> None:
    """Replace the file of weights, with a valid checksum."""
    (folder / WEIGHTS).write_bytes(blob)
    put(folder, "weights_sha256", hashlib.sha256(blob).hexdigest())


def places(values: Any, start: Place = (), longest: int = 2) -> Iterator[Place]:
    """Yield the places of all values in nested dicts and lists; of longer lists only the first ones."""
    items = values.items() if isinstance(values, dict) else enumerate(values[:longest])
    for key, value in items:
        yield (*start, key)
        if isinstance(value, dict | list):
            yield from places(value, (*start, key), longest)


def _text(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        path.write_bytes(content)

    return damage


def _link(target: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        os.symlink(target, path)

    return damage


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


FILES: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": _text(b""),
    "cut": _cut,
    "noise": _text(bytes(range(256)) * 8),
    "zeros": _text(bytes(4096)),
    "long header": _text((2**62).to_bytes(8, "little") + b"{}"),
    "folder": _folder,
    "fifo": _fifo,
    "link to itself": _link("metadata.json"),
    "link to nothing": _link("nowhere"),
    "link to a device": _link("/dev/zero"),
    "link to the folder": _link("."),
}
TEXTS: dict[str, Callable[[Path], None]] = {
    "list": _text(b"[]"),
    "number": _text(b"3"),
    "null": _text(b"null"),
    "deep": _text(b"[" * 200_000),
    "deep object": _text(b'{"a":' * 200_000),
    "long integer": _text(b'{"kind": ' + b"9" * 100_000 + b"}"),
    "utf-16": _text('{"kind": "run"}'.encode("utf-16")),
    "latin-1": _text('{"kind": "é"}'.encode("latin-1")),
    "empty object": _text(b"{}"),
}


def twice(path: Path) -> None:
    """Give a JSON object the key "format" twice."""
    text = path.read_text(encoding="utf-8")
    path.write_text('{"format": 1, ' + text.lstrip()[1:], encoding="utf-8")
