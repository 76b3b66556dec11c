"""Decoded behavior on disk: a table (CSV) or an NWB file in the clock of the recording that it came from."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.storage import replace_file

if TYPE_CHECKING:
    from kalmanssl.decoding import DecodedPosition

__all__ = ["check_decoded_target", "columns", "write_decoded"]

_AXES = ("x", "y", "z")


def check_decoded_target(out: Path, recording: Path, overwrite: bool) -> None:
    """Refuse before the work what could not be written after it.

    Raises
    ------
    InputError
        If `out` is neither .csv nor .nwb, exists, or is the recording itself.
    """
    if out.suffix not in (".csv", ".nwb"):
        raise InputError(f"{out} must end in .csv or .nwb, which determines the format", parameter="out")
    if out.exists() and recording.exists() and os.path.samefile(out, recording):
        raise InputError(f"{out} is the recording itself: choose another name", parameter="out")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: choose another --out, or replace it with --overwrite")


def columns(decoded: DecodedPosition) -> dict[str, np.ndarray]:
    """Columns of the table.

    Returns
    -------
    dict of (time,)
        `time`, `mean`, `lower`, `upper` for behavior of one dimension; `time`, `mean_x`, `lower_x`, `upper_x`,
        `mean_y`, ... for more (dimensions after the third are called by their number).
    """
    parts = {"mean": decoded.mean, "lower": decoded.lower, "upper": decoded.upper}
    flat = {name: np.asarray(values).reshape(len(decoded), -1) for name, values in parts.items()}
    dims = flat["mean"].shape[1]
    if dims == 1:
        return {"time": decoded.time} | {name: values[:, 0] for name, values in flat.items()}
    labels = [_AXES[d] if d < len(_AXES) else str(d + 1) for d in range(dims)]
    return {"time": decoded.time} | {
        f"{name}_{label}": values[:, d] for d, label in enumerate(labels) for name, values in flat.items()
    }


def write_decoded(
    decoded: DecodedPosition, out: Path, *, recording: Path, behavior: str, unit: str, made_by: str, overwrite: bool
) -> None:
    """Write decoded behavior as CSV or NWB, by the suffix of `out`; complete or not at all.

    Parameters
    ----------
    decoded : DecodedPosition
    out : Path
        Ends in .csv or .nwb.
    recording : Path
        NWB file that it was decoded from; its session is named in an NWB file.
    behavior, unit : str
        Name and unit of measurement of the behavior.
    made_by : str
        Said in the description.
    overwrite : bool
    """
    if out.suffix == ".csv":
        table = columns(decoded)
        formats = ["%.6f"] + ["%.6g"] * (len(table) - 1)

        def write(path: Path) -> None:
            np.savetxt(
                path,
                np.stack(list(table.values()), axis=1),
                fmt=formats,
                delimiter=",",
                header=",".join(table),
                comments="",
            )

    else:

        def write(path: Path) -> None:
            _write_nwb(decoded, path, recording, behavior, unit, made_by)

    replace_file(out, write, overwrite)


def _session(recording: Path) -> dict[str, Any]:
    """What says which session the times belong to."""
    from kalmanssl.data.nwb import decode_text, open_nwb

    with open_nwb(recording) as file:
        known = {
            name: decode_text(file[name][()])
            for name in ("identifier", "session_start_time", "timestamps_reference_time")
            if name in file
        }
    start = known.get("session_start_time")
    reference = known.get("timestamps_reference_time", start)
    fallback = datetime(1970, 1, 1, tzinfo=UTC)
    return {
        "identifier": known.get("identifier", "unknown"),
        "session_start_time": _moment(start) or fallback,
        "timestamps_reference_time": _moment(reference) or _moment(start) or fallback,
    }


def _moment(written: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(written) if written else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def _write_nwb(decoded: DecodedPosition, path: Path, recording: Path, behavior: str, unit: str, made_by: str) -> None:
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.base import TimeSeries
    from pynwb.behavior import Position, SpatialSeries

    session = _session(recording)
    content = NWBFile(
        session_description=f"{behavior} decoded from the spikes of {recording.name} "
        f"(session {session.pop('identifier')})",
        identifier=str(uuid4()),
        **session,
    )
    module = content.create_processing_module("kalmanssl", f"{behavior} decoded by {made_by}")
    level = f"{100 * decoded.level:g} %"
    described = {
        "mean": f"decoded {behavior}",
        "lower": f"lower end of the central {level} interval",
        "upper": f"upper end of the central {level} interval",
    }
    series: list[Any] = []
    for name, description in described.items():
        fields: dict[str, Any] = {
            "name": name,
            "data": np.asarray(getattr(decoded, name), dtype=float),
            "timestamps": decoded.time if not series else series[0],
            "unit": unit or "unknown",
            "description": description,
        }
        if behavior == "position":
            series.append(SpatialSeries(reference_frame=f"that of the position in {recording.name}", **fields))
        else:
            series.append(TimeSeries(**fields))
    if behavior == "position":
        module.add(Position(name="decoded_position", spatial_series=series))
    else:
        for one in series:
            module.add(one)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(content)
