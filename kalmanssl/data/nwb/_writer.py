"""Writing of recordings to NWB files, in the layout of public recordings on tracks."""

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
    from kalmanssl.data._recording import Recording

__all__ = ["write_nwb"]


def write_nwb(recording: Recording, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a recording under a temporary name and rename it; see `Recording.to_nwb`."""
    from pynwb import NWBHDF5IO

    file = Path(path)
    if not file.parent.is_dir():
        raise InputError(f"the folder {file.parent} does not exist; create it first", parameter="path")

    def write(unfinished: Path) -> None:
        with NWBHDF5IO(str(unfinished), "w") as io:
            io.write(_content(recording))

    replace_file(file, write, overwrite)


def _content(recording: Recording) -> Any:
    from pynwb import NWBFile
    from pynwb.base import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries

    content = NWBFile(
        session_description=f"written by kalmanssl from {recording.source}; the date is not known",
        identifier=str(uuid4()),
        session_start_time=datetime(1970, 1, 1, tzinfo=UTC),
    )
    if recording.spike_times is not None:
        _add_units(content, recording)
    else:
        _add_binned(content, recording)
    if recording.epochs:
        content.add_epoch_column("label", "name of the epoch")
        for label, spans in recording.epochs.items():
            for start, stop in spans:
                content.add_epoch(start_time=float(start), stop_time=float(stop), label=label)
    if recording.behavior:
        module = content.create_processing_module("behavior", "behavior at the centers of the bins")
        others = []
        for name, values in recording.behavior.items():
            unit = recording.behavior_unit.get(name, "")
            if values.dtype == object:
                others.append(_label_series(name, values, recording.time))
            elif name == "position":
                series = SpatialSeries(
                    name="SpatialSeries",
                    data=values,
                    timestamps=recording.time,
                    unit=unit,
                    reference_frame="not known",
                )
                module.add(Position(spatial_series=series, name="Position"))
            else:
                others.append(TimeSeries(name=name, data=values, timestamps=recording.time, unit=unit))
        if others:
            module.add(BehavioralTimeSeries(time_series=others, name="BehavioralTimeSeries"))
    return content


def _label_series(name: str, labels: np.ndarray, time: np.ndarray) -> Any:
    """Return labels as a series of bools if all are, else of text; unknown labels are left out or empty text."""
    from pynwb.base import TimeSeries

    known = np.array([label is not None for label in labels], dtype=bool)
    values: Any
    if all(isinstance(label, bool) for label in labels[known]):
        values = labels[known].astype(bool)
    else:
        known = np.ones(len(labels), dtype=bool)
        values = ["" if label is None else str(label) for label in labels]
    return TimeSeries(name=name, data=values, timestamps=time[known], unit="label")


def _add_units(content: Any, recording: Recording) -> None:
    """Add the units; `obs_intervals` store the time of the bins, so that reading gives the same bins."""
    half = 0.5 * recording.bin_size
    covered = np.array([[recording.time[s][0] - half, recording.time[s][-1] + half] for s in recording.segments()])
    numbered = all(u.isascii() and u.isdigit() and str(int(u)) == u for u in recording.unit_ids)
    if not numbered:
        content.add_unit_column("unit_name", "name of the unit")
    if recording.cell_type is not None:
        content.add_unit_column("cell_type", "putative cell type")
    for row, (unit, spikes) in enumerate(zip(recording.unit_ids, recording.spike_times or (), strict=True)):
        extra = {} if numbered else {"unit_name": unit}
        if recording.cell_type is not None:
            extra["cell_type"] = recording.cell_type[row]
        content.add_unit(id=int(unit) if numbered else row, spike_times=spikes, obs_intervals=covered, **extra)


def _add_binned(content: Any, recording: Recording) -> None:
    """Add counts or a signal as a time series, and a table of its channels."""
    from pynwb.base import TimeSeries
    from pynwb.core import DynamicTable

    module = content.create_processing_module("binned", "activity in bins of equal width")
    unit = "counts" if recording.kind == "counts" else "unknown"
    module.add(TimeSeries(name=recording.kind, data=recording.activity, timestamps=recording.time, unit=unit))
    table = DynamicTable(name="channels", description="channels of the series in this module")
    table.add_column("unit_id", "name of the unit or channel")
    table.add_column("bin_size", "width of its bins, seconds")
    if recording.cell_type is not None:
        table.add_column("cell_type", "putative cell type")
    for row, name in enumerate(recording.unit_ids):
        extra = {} if recording.cell_type is None else {"cell_type": recording.cell_type[row]}
        table.add_row(unit_id=name, bin_size=recording.bin_size, **extra)
    module.add(table)
