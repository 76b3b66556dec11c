"""Search of the groups of an NWB file for series and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kalmanssl.data.nwb._access import (
    DamagedError,
    find_group,
    identity,
    is_dataset,
    location,
    member_names,
    open_child,
    peek,
    text_attribute,
)
from kalmanssl.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = ["FoundGroup", "find_broken_links", "has_data", "naming_broken_links", "walk_groups"]

_MAX_WAYS = 200  # paths to one group; the number of paths through links can grow exponentially


@dataclass(frozen=True)
class FoundGroup:
    """A group that was found below the root of a file.

    Attributes
    ----------
    path : str
    group : h5py.Group
    kind : str
        Neurodata type; empty if it has none.
    container, container_kind : str
        Name and neurodata type of the group that contains it.
    has_data : bool
        Whether it is a series: it has a dataset named "data", not another group with that name.
    """

    path: str
    group: Any
    kind: str
    container: str
    container_kind: str
    has_data: bool


def has_data(group: h5py.Group) -> bool:
    """Return whether a group is a series: it has a dataset named "data", not another group with that name."""
    return is_dataset(peek(group, "data"))


def walk_groups(
    file: h5py.File, roots: tuple[str, ...], enter: Callable[[FoundGroup], bool] = lambda found: True
) -> Iterator[FoundGroup]:
    """Yield the groups below some groups of the root, each before its members, without the members of series.

    Links are followed, except to a group that contains the link. Links to nothing are left out.

    Parameters
    ----------
    file : h5py.File
    roots : tuple of str
        Names of groups, which are not yielded themselves.
    enter : function
        Whether to yield the members of a group.

    Raises
    ------
    DamagedError
        If a group can be reached in more than 200 ways, or a name is not UTF-8.
    """
    # The list is kept with the handle, because several searches of one file follow each other.
    listed: dict[str, list[FoundGroup]] = vars(file).setdefault("kalmanssl_groups", {})
    for root in roots:
        if root not in listed:
            listed[root] = list(_walk(file, root, []))
        closed = None
        for found in listed[root]:
            if closed is None or not found.path.startswith(closed):
                yield found
                closed = None if enter(found) else f"{found.path}/"


def find_broken_links(file: h5py.File) -> list[str]:
    """Return a description of every link to nothing in the processing modules."""
    broken: list[str] = []
    for _ in _walk(file, "processing", broken, into_series=True):
        pass
    return broken


@contextmanager
def naming_broken_links(file: h5py.File) -> Iterator[None]:
    """Add a link to nothing, if there is one, to the message that something is not in the file."""
    try:
        yield
    except InputError as error:
        if error.parameter not in ("activity", "behavior"):
            raise
        broken = find_broken_links(file)
        if not broken:
            raise
        raise InputError(f"{error}; {broken[0]}", parameter=error.parameter) from error


def _walk(file: h5py.File, root: str, broken: list[str], into_series: bool = False) -> Iterator[FoundGroup]:
    """Yield the groups below a group of the root; append descriptions of members that cannot be opened to `broken`."""
    import h5py

    top = find_group(file, root)
    if top is None:
        return
    ways: Counter[tuple[int, int]] = Counter()
    pending = [(FoundGroup(root, top, "", "", "", False), frozenset([identity(top)]))]
    while pending:
        found, above = pending.pop()
        if found.group is not top:
            yield found
        if found.has_data and not into_series:
            continue
        inside = []
        for name in member_names(found.group):
            try:
                child = open_child(found.group, name)
            except DamagedError as error:
                broken.append(str(error))
                continue
            if not isinstance(child, h5py.Group):
                continue
            mark = identity(child)
            ways[mark] += 1
            if ways[mark] > _MAX_WAYS:
                raise DamagedError(f"{location(child)} can be reached in more than {_MAX_WAYS} ways; remove some links")
            if mark not in above:
                kind = text_attribute(child, "neurodata_type")
                container = found.path.rsplit("/", 1)[-1]
                made = FoundGroup(f"{found.path}/{name}", child, kind, container, found.kind, has_data(child))
                inside.append((made, above | {mark}))
                if kind.endswith("Series") and isinstance(peek(child, "data"), h5py.Group):
                    broken.append(f"{location(child)}/data must be a dataset, but it is a group; repair the file")
        pending += reversed(inside)
