"""Export of decoded behavior to a table (CSV) or an NWB file, with times in the clock of the recording."""

from __future__ import annotations

import csv
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.runs._files import check_new_output
from kalmanssl.utils.storage import replace_file

if TYPE_CHECKING:
    from kalmanssl.decoding import DecodedCategory, DecodedPosition

__all__ = ["check_decoded_target", "write_decoded"]


def check_decoded_target(out: Path, recording: Path, overwrite: bool) -> None:
    """Check, before decoding, that the result can be written to `out`.

    Raises
    ------
    InputError
        If `out` does not end in .csv or .nwb, exists and `overwrite` is false, or is the recording itself.
    """
    if out.suffix not in (".csv", ".nwb"):
        raise InputError(f"{out} must end in .csv or .nwb, which determines the format", parameter="out")
    if out.exists() and recording.exists() and os.path.samefile(out, recording):
        raise InputError(f"{out} is the recording itself: choose another name", parameter="out")
    check_new_output(out, overwrite)


def write_decoded(
    decoded: DecodedPosition | DecodedCategory,
    out: Path,
    *,
    recording: Path,
    behavior: str,
    unit: str,
    made_by: str,
    overwrite: bool,
) -> None:
    """Write decoded behavior as CSV or NWB, according to the suffix of `out`. The file is replaced atomically.

    Parameters
    ----------
    decoded : DecodedPosition or DecodedCategory
    out : Path
        Ends in .csv or .nwb.
    recording : Path
        The decoded NWB file. An NWB file at `out` gets its session times and names its session.
    behavior, unit : str
        Name and unit of measurement of the behavior.
    made_by : str
        The program, and whether the latents were filtered or smoothed; for the description in an NWB file.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    InputError
        If `out` exists and `overwrite` is false, or cannot be written.
    """
    if out.suffix == ".csv":
        table = decoded.columns()
        cells = [
            values.astype(str)
            if name in ("label", "set")
            else [f"{value:.6f}" if name == "time" else f"{value:.6g}" for value in values]
            for name, values in table.items()
        ]

        def write(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(table)
                writer.writerows(zip(*cells, strict=True))

    else:

        def write(path: Path) -> None:
            _write_nwb(decoded, path, recording, behavior, unit, made_by)

    replace_file(out, write, overwrite)


def _session(recording: Path) -> dict[str, Any]:
    """Read the identifier and the time references of the session."""
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
        "session_start_time": _parse_datetime(start) or fallback,
        "timestamps_reference_time": _parse_datetime(reference) or _parse_datetime(start) or fallback,
    }


def _parse_datetime(text: str | None) -> datetime | None:
    """Parse an ISO date and time, in UTC if it has no time zone; return None if it is missing or invalid."""
    try:
        parsed = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return parsed if parsed is None or parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _write_nwb(
    decoded: DecodedPosition | DecodedCategory, path: Path, recording: Path, behavior: str, unit: str, made_by: str
) -> None:
    """Write decoded behavior as series of a processing module of a new NWB file."""
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.behavior import Position

    from kalmanssl.decoding import DecodedCategory

    session = _session(recording)
    content = NWBFile(
        session_description=f"{behavior} decoded from the spikes of {recording.name} "
        f"(session {session.pop('identifier')})",
        identifier=str(uuid4()),
        **session,
    )
    module = content.create_processing_module("kalmanssl", f"{behavior} decoded by {made_by}")
    if isinstance(decoded, DecodedCategory):
        series = _label_series(decoded, behavior)
    else:
        series = _interval_series(decoded, behavior, unit, recording.name)
    if behavior == "position" and not isinstance(decoded, DecodedCategory):
        module.add(Position(name="decoded_position", spatial_series=series))
    else:
        for one in series:
            module.add(one)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(content)


def _interval_series(decoded: DecodedPosition, behavior: str, unit: str, recording: str) -> list[Any]:
    """Return mean and interval as series."""
    from pynwb.base import TimeSeries
    from pynwb.behavior import SpatialSeries

    level = f"{100 * decoded.level:g} %"
    described = {
        "mean": f"decoded {behavior}",
        "lower": f"lower bound of the central {level} interval",
        "upper": f"upper bound of the central {level} interval",
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
            series.append(SpatialSeries(reference_frame=f"the same as for the position in {recording}", **fields))
        else:
            series.append(TimeSeries(**fields))
    return series


def _label_series(decoded: DecodedCategory, behavior: str) -> list[Any]:
    """Return the most probable label, the probabilities and the prediction set as series."""
    from pynwb.base import TimeSeries

    names = ", ".join(str(label) for label in decoded.labels.tolist())
    label = TimeSeries(
        name="label",
        data=decoded.most_probable.astype(str).tolist(),
        timestamps=decoded.time,
        unit="label",
        description=f"most probable label of {behavior}",
    )
    probability = TimeSeries(
        name="probability",
        data=np.asarray(decoded.mass, dtype=float),
        timestamps=label,
        unit="probability",
        description=f"probability of each label of {behavior}; columns: {names}",
    )
    inside = TimeSeries(
        name="set",
        data=decoded.region().inside.values,
        timestamps=label,
        unit="bool",
        description=f"whether each label is in the {100 * decoded.level:g} % prediction set; columns: {names}",
    )
    return [label, probability, inside]
