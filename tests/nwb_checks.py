"""Checks of NWB files that tests write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pynwb
import pytest

SUBJECT = {"subject_id": "rat1", "species": "Rattus norvegicus", "sex": "M", "age": "P90D", "description": "simulated"}


def complaints(path: Path) -> list[str]:
    """Return what nwbinspector reports about a file, apart from suggestions, and what pynwb finds invalid."""
    try:
        from nwbinspector import Importance, inspect_nwbfile
    except ImportError:
        pytest.skip("NWB BEST PRACTICES NOT TESTED: pip install nwbinspector")
    invalid = [str(error) for error in pynwb.validate(path=str(path))]
    messages = inspect_nwbfile(nwbfile_path=str(path), importance_threshold=Importance.BEST_PRACTICE_VIOLATION)
    return invalid + [f"{m.check_function_name} {m.location}: {m.message}" for m in messages]


def content_of(path: Path, without: str = "") -> dict[str, Any]:
    """Return attributes, links and data of everything in an HDF5 file by its path, without the group `without`."""
    found: dict[str, Any] = {}

    def add(group: h5py.Group, where: str) -> None:
        found[where or "/"] = {key: repr(value) for key, value in group.attrs.items()}
        for name in group:
            here = f"{where}/{name}"
            if here == without:
                continue
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                found[here] = link.path
            elif isinstance(group[name], h5py.Group):
                add(group[name], here)
            else:
                data = group[name]
                attributes = {key: repr(value) for key, value in data.attrs.items()}
                found[here] = (
                    attributes,
                    data.dtype,
                    np.asarray(data[()]).tobytes() if data.dtype.kind != "O" else repr(data[()]),
                )

    with h5py.File(path, "r") as file:
        add(file, "")
    return found
