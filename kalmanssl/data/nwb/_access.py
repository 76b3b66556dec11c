"""Checked access to the objects of an NWB file: every error names the object.

h5py follows links to pipes, which never answer, fills virtual data of missing files with zeros, and raises a different
exception for every kind of damage. All reading of groups, datasets and attributes is therefore done here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.memory import UNCHECKED_MEMORY, check_memory
from kalmanssl.utils.text import shorten
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    import h5py

__all__ = [
    "FOREIGN_ERRORS",
    "DamagedError",
    "attribute",
    "check_size",
    "decode_text",
    "find",
    "find_dataset",
    "find_group",
    "identity",
    "is_dataset",
    "is_local_file",
    "is_numeric",
    "location",
    "member_names",
    "number_attribute",
    "open_child",
    "peek",
    "read_array",
    "read_number",
    "read_numbers",
    "read_scaling",
    "read_text",
    "read_texts",
    "referenced",
    "require_dataset",
    "text_attribute",
]

FOREIGN_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError)  # of h5py for damaged files
_MAX_LINKS = 16  # soft links in a row, as in HDF5
_LONGEST_TEXT = 1000  # characters of an attribute; longer text is not a unit, a type or a name


class DamagedError(InputError):
    """An object of a file that cannot be read; `open_nwb` adds the name of the file."""


def location(node: Any) -> str:
    """Return the path of an object in its file, for messages."""
    return shorten(decode_text(node.name or "an object without a name").strip("/") or "the file")


def decode_text(value: Any) -> str:
    """Return a string from HDF5, which can be bytes; what is not UTF-8 is replaced."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value).encode(errors="replace").decode()


def find(group: h5py.Group, path: str) -> Any:
    """Return the object at a path below a group; None if there is none.

    Raises
    ------
    InputError
        If there is a link that leads to nothing, or the object cannot be opened.
    """
    import h5py

    node: Any = group
    for name in path.strip("/").split("/"):
        node = open_child(node, name) if isinstance(node, h5py.Group) else None
        if node is None:
            return None
    return node


def peek(group: h5py.Group, path: str) -> Any:
    """Return the object at a path below a group; None if there is none, or it cannot be opened."""
    try:
        return find(group, path)
    except InputError:
        return None


def find_group(group: h5py.Group, path: str) -> Any:
    """Return the group at a path below a group; None if there is none; raise `InputError` if it is something else."""
    import h5py

    node = find(group, path)
    if node is not None and not isinstance(node, h5py.Group):
        raise DamagedError(f"{location(node)} must be a group, but it is a dataset; repair the file")
    return node


def find_dataset(group: h5py.Group, name: str) -> Any:
    """Return a dataset of a group; None if there is none; raise `InputError` if it is a group."""
    node = find(group, name)
    if node is not None and not is_dataset(node):
        raise DamagedError(f"{location(node)} must be a dataset, but it is a group; repair the file")
    return node


def require_dataset(group: h5py.Group, name: str) -> Any:
    """Return a dataset of a group; raise `InputError` if there is none."""
    data = find_dataset(group, name)
    if data is None:
        raise DamagedError(f"{location(group)} has no {name}; repair the file")
    return data


def is_dataset(node: Any) -> bool:
    """Return whether an object is a dataset, not a group, a type or None."""
    import h5py

    return isinstance(node, h5py.Dataset)


def is_numeric(data: h5py.Dataset) -> bool:
    """Return whether the values of a dataset are real numbers."""
    try:
        return data.dtype.kind in "iuf"
    except FOREIGN_ERRORS:  # a type that numpy does not have
        return False


def open_child(group: h5py.Group, name: str) -> Any:
    """Return a member of a group; None if there is none."""
    key = name.encode(errors="surrogateescape")
    try:
        if not name or not group.id.links.exists(key):
            return None
    except FOREIGN_ERRORS as error:
        raise DamagedError(
            f"{location(group)} is damaged ({_reason(error)}); download or export the file again"
        ) from error
    target = _missing_target(group, key)
    problem = f"is a link to {target}, which is not there; repair the link or add the file"
    if target is None:
        try:
            return group[name]
        except FOREIGN_ERRORS as error:
            problem = f"cannot be opened ({_reason(error)}); repair the file"
    where = f"{decode_text(group.name or '').rstrip('/')}/{decode_text(name)}".strip("/")
    raise DamagedError(f"{shorten(where)} {problem}")


def _missing_target(group: h5py.Group, key: bytes, depth: int = 0) -> str | None:
    """Return the target of a link that leads to nothing, to itself or to a pipe; None if it leads to something."""
    import h5py

    if not group.id.links.exists(key):
        return shorten(decode_text(key))
    kind = group.id.links.get_info(key).type
    if kind == h5py.h5l.TYPE_HARD:
        return None
    value = group.id.links.get_val(key)
    if kind == h5py.h5l.TYPE_EXTERNAL:
        file, inside = (os.fsdecode(part) for part in value)
        is_there = is_local_file(file, group.file.filename)
        return None if is_there else shorten(f"{decode_text(inside)} in {decode_text(file)}")
    described = shorten(decode_text(value))
    if depth >= _MAX_LINKS:
        return described
    node: Any = group.file["/"] if value.startswith(b"/") else group
    for step in filter(None, value.split(b"/")):
        if not isinstance(node, h5py.Group) or _missing_target(node, step, depth + 1) is not None:
            return described
        node = node.get(step.decode(errors="surrogateescape"))
    return described if node is None else None


def is_local_file(name: str, beside: str) -> bool:
    """Return whether a file that an NWB file refers to exists and is a regular file, not a pipe or a device."""
    folder = Path(os.fsdecode(beside)).parent
    try:
        found = [path for path in (folder / name, folder / Path(name).name, Path(name)) if path.exists()]
        return bool(found) and all(path.is_file() for path in found)
    except (OSError, ValueError):
        return False


def _reason(error: Exception) -> str:
    """Return the message of a foreign error, shortened."""
    return shorten(first_line(error).strip("'\"")) or type(error).__name__  # a KeyError puts quotes around it


def member_names(group: h5py.Group) -> list[str]:
    """Return the names of the members of a group."""
    try:
        names: list[Any] = list(group)
    except FOREIGN_ERRORS as error:
        raise DamagedError(
            f"{location(group)} is damaged ({_reason(error)}); download or export the file again"
        ) from error
    for name in names:
        if not isinstance(name, str):
            raise DamagedError(
                f"{location(group)} has a member whose name is not UTF-8, {shorten(repr(name))}; rename it"
            )
    return names


def identity(group: h5py.Group) -> tuple[int, int]:
    """Return what is the same for all links to one object."""
    import h5py

    info = h5py.h5o.get_info(group.id)
    return info.fileno, info.addr


def attribute(node: Any, name: str) -> Any:
    """Return an attribute of an object; None if there is none."""
    try:
        return node.attrs.get(name)
    except FOREIGN_ERRORS as error:
        raise DamagedError(
            f"attribute {name} of {location(node)} cannot be read ({_reason(error)}); repair the file"
        ) from error


def text_attribute(node: Any, name: str, longest: int = _LONGEST_TEXT) -> str:
    """Return an attribute as text on one line; empty if it is missing, not a text, or too long."""
    try:
        value = node.attrs.get(name)
    except FOREIGN_ERRORS:
        return ""
    value = value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value
    if not isinstance(value, str | bytes) or len(value) > longest:
        return ""
    return " ".join(decode_text(value).split())


def number_attribute(node: Any, name: str, default: float) -> float:
    """Return an attribute as a finite number."""
    value = attribute(node, name)
    if value is None:
        return default
    array = np.asarray(value)
    given = value.item() if isinstance(value, np.generic) else value
    if array.size != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise DamagedError(
            f"attribute {name} of {location(node)} must be a finite number, got {short_repr(given)}; repair the file"
        )
    return float(array.reshape(()))


def read_scaling(data: h5py.Dataset) -> tuple[float, float]:
    """Return the conversion of a series, which is not zero, and its offset."""
    conversion, offset = number_attribute(data, "conversion", 1.0), number_attribute(data, "offset", 0.0)
    if conversion == 0:
        raise DamagedError(f"attribute conversion of {location(data)} is zero, so all values are equal; repair it")
    return conversion, offset


def referenced(node: Any, name: str) -> Any:
    """Return the object that an attribute refers to."""
    import h5py

    value = attribute(node, name)
    found = None
    if isinstance(value, h5py.Reference) and value:
        try:
            found = node.file[value]
        except FOREIGN_ERRORS:
            found = None
    if found is None:
        raise DamagedError(f"attribute {name} of {location(node)} refers to nothing; repair the file")
    return found


def read_array(data: h5py.Dataset, selection: Any = ()) -> np.ndarray:
    """Return the values of a dataset, or of a selection of them.

    Raises
    ------
    InputError
        If they are not there, do not fit into the memory, or cannot be read.
    """
    where = location(data)
    try:
        shape, dtype = data.shape, data.dtype
        files = [entry[0] for entry in data.external or ()]
        files += [source.file_name for source in (data.virtual_sources() if data.is_virtual else ())]
    except FOREIGN_ERRORS as error:
        raise DamagedError(
            f"{where} has a type that cannot be read ({_reason(error)}); convert it to numbers"
        ) from error
    if shape is None:
        raise DamagedError(f"{where} is an empty dataspace; write its values")
    for name in {os.fsdecode(file) for file in files} - {"."}:
        if not is_local_file(name, data.file.filename):
            raise DamagedError(
                f"{where} has its values in {shorten(decode_text(name))}, which is not there; add the file"
            )
    rows = selection.stop - selection.start if isinstance(selection, slice) else shape[0] if shape else 1
    width = 1.0 if isinstance(selection, tuple) and selection else float(np.prod(shape[1:], dtype=float))
    check_size(where, rows * width * dtype.itemsize)
    try:
        return np.asarray(data[selection])
    except FOREIGN_ERRORS as error:
        raise DamagedError(f"{where} cannot be read ({_reason(error)}); download or export the file again") from error


def check_size(where: str, needed: float) -> None:
    """Raise `InputError` if values of an object take more bytes than the memory has."""
    if needed > UNCHECKED_MEMORY:
        check_memory(needed, where, "repair the file, or use a part of it", "path")


def read_numbers(data: h5py.Dataset, ndim: tuple[int, ...] = (1,), kinds: str = "iuf") -> np.ndarray:
    """Return the values of a dataset, which must be numbers with one of some numbers of dimensions."""
    values = read_array(data)
    where = location(data)
    if values.dtype.kind not in kinds:
        wanted = "numbers" if "f" in kinds else "whole numbers"
        found = shorten(str(values.dtype))
        raise DamagedError(f"{where} must be {wanted}, but it has values of type {found}; repair the file")
    if values.ndim not in ndim:
        wanted = "1 dimension" if ndim == (1,) else f"{' or '.join(map(str, ndim))} dimensions"
        raise DamagedError(f"{where} must have {wanted}, but it has the shape {values.shape}; repair the file")
    return values


def read_number(data: h5py.Dataset) -> float:
    """Return the only value of a dataset, a finite number."""
    values = read_numbers(data, (0, 1))
    if values.size != 1 or not np.isfinite(values).all():
        raise DamagedError(
            f"{location(data)} must be one finite number, got {short_repr(values.tolist())}; repair the file"
        )
    return float(values.reshape(()))


def read_text(group: h5py.Group, name: str) -> str | None:
    """Return a text of a group; None if it is missing or not a single text."""
    data = peek(group, name)
    if not is_dataset(data) or data.shape != ():
        return None
    value = read_array(data).item()
    return decode_text(value).strip() if isinstance(value, str | bytes) else None


def read_texts(values: np.ndarray, where: str) -> np.ndarray:
    """Return text of HDF5 as strings, an object array; raise `InputError` if it is not UTF-8."""
    found = np.empty(values.shape, dtype=object)
    for index, value in np.ndenumerate(values):
        try:
            found[index] = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            raise DamagedError(f"{where} has text that is not UTF-8, {short_repr(value)}; convert it") from None
    return found
