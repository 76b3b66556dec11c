"""Rows of a table of units, ROIs or electrodes that the file itself says are no cells: noise and rejected ROIs."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

__all__ = ["find_rejected"]

# Names without case and punctuation. Bools, or numbers that are 0 or 1: "valid_roi" of the Allen Institute,
# "Accepted" and "Rejected" of NeuroConv, "iscell" of suite2p.
_ACCEPTING = {"accepted", "isaccepted", "iscell", "isvalid", "valid", "validdata", "validroi"}
_REJECTING = {"bad", "badchannel", "isbad", "isnoise", "isrejected", "noise", "rejected"}
# Labels: "quality" of the Allen Institute, "group" and "KSLabel" of Kilosort and Phy, curation of SpikeInterface.
_GRADES = {
    "clustergroup",
    "curation",
    "group",
    "kilosort2label",
    "kilosortlabel",
    "kslabel",
    "label",
    "phygroup",
    "quality",
    "qualitylabel",
    "sortingquality",
    "unitquality",
}
_NO_CELL = {"artifact", "bad", "junk", "noise", "reject", "rejected"}


def find_rejected(columns: Mapping[str, np.ndarray], n_rows: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Find the rows that a column marks as noise, as rejected, or as not accepted.

    Multi-unit activity is not rejected: it has no single cell, but it says much about behavior.

    Parameters
    ----------
    columns : mapping of name to (rows,)
        Columns with one value in each row.
    n_rows : int

    Returns
    -------
    rejected : (rows,) bool
    names : list of str
        The columns that mark them.
    ignored : list of str
        Columns that mark all rows, alone or together, and are therefore not used: they were not filled in.
    """
    rejected, names, ignored = np.zeros(n_rows, dtype=bool), [], []
    for name, values in columns.items():
        word = re.sub(r"[\W_]", "", name.lower())
        marked = np.zeros(n_rows, dtype=bool)
        if word in _ACCEPTING and _is_yes_or_no(values):
            marked = values == 0
        elif word in _REJECTING and _is_yes_or_no(values):
            marked = values == 1
        elif word in _GRADES and values.dtype.kind == "O":
            marked = np.array([str(value).strip().lower() in _NO_CELL for value in values], dtype=bool)
        if marked.any() and not marked.all():
            rejected |= marked
            names.append(name)
        elif marked.any():
            ignored.append(name)
    if names and rejected.all():
        return np.zeros(n_rows, dtype=bool), [], [*ignored, *names]
    return rejected, names, ignored


def _is_yes_or_no(values: np.ndarray) -> bool:
    """Return whether all values are bools, or 0 or 1."""
    return values.dtype.kind == "b" or (values.dtype.kind in "iuf" and bool(np.isin(values, (0, 1)).all()))
