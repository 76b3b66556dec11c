"""Information on the session and the subject for the NWB files that are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kalmanssl.data.nwb._access import decode_text, is_dataset, peek, read_array, read_text
from kalmanssl.data.nwb._open import open_nwb
from kalmanssl.errors import InputError, first_line

if TYPE_CHECKING:
    import h5py

__all__ = ["new_file", "read_metadata", "session_metadata"]

_GENERAL = ("experiment_description", "institution", "lab", "session_id")
_GENERAL_LISTS = ("experimenter", "keywords", "related_publications")
_SUBJECT = ("subject_id", "species", "sex", "age", "description", "genotype", "strain", "weight")
_TIMES = ("session_start_time", "timestamps_reference_time")


def session_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what an NWB file says about its session and subject.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict
        Arguments of `pynwb.NWBFile` that the file has: `identifier`, `session_start_time`,
        `timestamps_reference_time`, `experiment_description`, `institution`, `lab`, `session_id`, `experimenter`,
        `keywords`, `related_publications`, and `subject`, a dict of arguments of `pynwb.file.Subject`.

    Raises
    ------
    InputError
        If the file is missing or is not an NWB file.
    """
    with open_nwb(path) as file:
        return read_metadata(file)


def read_metadata(file: h5py.File) -> dict[str, Any]:
    """Read what an open NWB file says about its session and subject; see `session_metadata`."""
    found: dict[str, Any] = {"identifier": read_text(file, "identifier")}
    times = {name: _parse_datetime(read_text(file, name)) for name in _TIMES}
    found |= {name: read_text(file, f"general/{name}") for name in _GENERAL}
    found |= {name: _texts(file, f"general/{name}") for name in _GENERAL_LISTS}
    if peek(file, "general/subject") is not None:
        subject: dict[str, Any] = {name: read_text(file, f"general/subject/{name}") for name in _SUBJECT}
        subject["date_of_birth"] = _parse_datetime(read_text(file, "general/subject/date_of_birth"))
        found["subject"] = {name: value for name, value in subject.items() if value}
    return {name: value for name, value in (found | times).items() if value}


def new_file(description: str, metadata: Mapping[str, Any]) -> Any:
    """Return a new `pynwb.NWBFile` without data.

    Parameters
    ----------
    description : str
        Description of the session, unless `metadata` has one.
    metadata : dict
        Arguments of `pynwb.NWBFile`; `subject` can be a dict of arguments of `pynwb.file.Subject`. The start time is
        1970-01-01 if it is not given.

    Raises
    ------
    InputError
        If an argument does not exist or has a wrong type.
    """
    from pynwb import NWBFile
    from pynwb.file import Subject

    fields = {
        "session_description": description,
        "identifier": str(uuid4()),
        "session_start_time": datetime(1970, 1, 1, tzinfo=UTC),
        **metadata,
    }
    try:
        subject = fields.get("subject")
        if isinstance(subject, Mapping):
            fields["subject"] = Subject(**subject)
        return NWBFile(**fields)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"metadata cannot be written to an NWB file: {first_line(error)}", parameter="metadata"
        ) from error


def _texts(group: h5py.Group, name: str) -> list[str]:
    """Return one or several texts of a group; empty if there are none."""
    data = peek(group, name)
    if not is_dataset(data) or data.shape is None or data.dtype.kind not in "OS":
        return []
    several = read_array(data).reshape(-1).tolist()
    return [text for text in map(decode_text, several) if text.strip()]


def _parse_datetime(text: str | None) -> datetime | None:
    """Parse an ISO date and time, in UTC if it has no time zone; return None if it is missing or invalid."""
    try:
        parsed = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return parsed if parsed is None or parsed.tzinfo else parsed.replace(tzinfo=UTC)
