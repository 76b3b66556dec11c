"""Adding of a processing module to a copy of an NWB file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from kalmanssl.data.nwb._access import decode_text, find, find_group, identity, member_names, read_array
from kalmanssl.data.nwb._open import open_nwb, path_text
from kalmanssl.data.nwb._output_series import check_nwb_name
from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.text import shorten

if TYPE_CHECKING:
    import h5py

__all__ = ["add_module_to_copy", "check_module_for_copy"]


def check_module_for_copy(source: Path, target: Path, module: str) -> None:
    """Check that a module can be added to a copy of an NWB file.

    Parameters
    ----------
    source, target : Path
        The file, and its copy, which need not exist.
    module : str
        Name of the processing module.

    Raises
    ------
    InputError
        If `source` is damaged or not an NWB file, has a module of this name, or refers by relative paths to other
        files, which a copy in another folder would not find.
    """
    check_nwb_name(module, "module")
    with open_nwb(source) as file:
        processing = find_group(file, "processing")
        modules = [] if processing is None else member_names(processing)
        if module in modules:
            raise InputError(
                f"module {module!r} exists in {path_text(source)}, which has the modules "
                f"{shorten(', '.join(sorted(modules)))}; "
                "choose another name",
                parameter="module",
            )
        if source.resolve().parent != target.resolve().parent:
            outside = _relative_reference(file)
            if outside is not None:
                raise InputError(
                    f"{source} refers to the file {outside} in its folder, which a copy elsewhere would not find; "
                    f"write the copy into {source.resolve().parent}",
                    parameter="out",
                )


def add_module_to_copy(source: Path, results: Path, target: Path, module: str) -> None:
    """Copy an NWB file and add a processing module of another NWB file to the copy.

    Groups are copied by HDF5, so nothing else in the file is read or written.

    Parameters
    ----------
    source : Path
        The file to copy.
    results : Path
        NWB file with the module, which must not have references to objects.
    target : Path
        The copy; replaced if it exists.
    module : str
        Name of the processing module.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    """
    import h5py

    shutil.copyfile(source, target)  # without the permissions, as the source can be read-only
    try:
        with h5py.File(results, "r") as new, h5py.File(target, "r+") as file:
            new.copy(new["processing"][module], file.require_group("processing"), name=module)
    except (RuntimeError, KeyError, ValueError) as error:
        raise OSError(None, first_line(error)) from error


def _relative_reference(file: h5py.File) -> str | None:
    """Return the first relative path to another file in a file; None if there is none."""
    import h5py

    pending: list[h5py.Group] = [file["/"]]
    seen = set()
    while pending:
        group = pending.pop()
        mark = identity(group)
        if mark in seen:  # hard links can form a cycle
            continue
        seen.add(mark)
        inside = []
        for name in member_names(group):
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                if not os.path.isabs(link.filename):
                    return str(link.filename)
            elif isinstance(link, h5py.HardLink):
                child = find(group, name)
                if isinstance(child, h5py.Group):
                    inside.append(child)
                elif name == "external_file":
                    for path in map(decode_text, read_array(child).reshape(-1)):
                        if path and "://" not in path and not os.path.isabs(path):
                            return path
        pending += reversed(inside)
    return None
