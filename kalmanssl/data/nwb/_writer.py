"""Writing of recordings to NWB files, in the layout of public recordings on tracks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data._binning import find_tick
from kalmanssl.data._validation import check_text
from kalmanssl.data.nwb._open import path_text
from kalmanssl.data.nwb._output_series import (
    behavior_series,
    check_nwb_name,
    compress,
    container_type,
    fill_container,
    time_fields,
)
from kalmanssl.data.nwb._output_session import new_file, session_metadata
from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.measurement_units import UNKNOWN_UNIT
from kalmanssl.utils.paths import as_path
from kalmanssl.utils.storage import replace_file
from kalmanssl.utils.validation import check_condition

if TYPE_CHECKING:
    from kalmanssl.data._recording import Recording

__all__ = ["save_nwb", "write_nwb"]

_FINEST_SAMPLING = 1e-6  # seconds; finer spike times are taken as not rounded


def write_nwb(
    recording: Recording,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    metadata: Mapping[str, Any] | str | os.PathLike[str] | None = None,
) -> None:
    """Write a recording under a temporary name and rename it; see `Recording.to_nwb`."""
    file = as_path("path", path)
    if not os.path.isdir(file.parent):
        raise InputError(f"the folder {path_text(file.parent)} does not exist; create it first", parameter="path")
    try:
        file.exists()
    except OSError as error:  # the name is too long
        raise InputError(f"path {path_text(file)} cannot be written: {error.strerror}", parameter="path") from error
    _check_names(recording)
    if isinstance(metadata, str | os.PathLike):
        if file.exists() and os.path.exists(metadata) and os.path.samefile(file, metadata):
            raise InputError(f"path is the file of the metadata, {file}: choose another name", parameter="path")
        metadata = session_metadata(metadata)
        metadata.pop("identifier", None)
    is_known = metadata is None or isinstance(metadata, Mapping)
    check_condition("metadata", metadata, is_known, "a dict of arguments of pynwb.NWBFile, or the path of an NWB file")
    _check_metadata(metadata or {})
    content = _content(recording, dict(metadata or {}))
    replace_file(file, lambda unfinished: save_nwb(content, unfinished), overwrite)


def _check_names(recording: Recording) -> None:
    """Raise `InputError` if a name or label of a recording cannot be written to an NWB file."""
    for name, values in recording.behavior.items():
        check_nwb_name(name, "behavior")
        check_text("behavior_unit", recording.behavior_unit.get(name, ""))
        if values.dtype == object:
            for label in {value for value in values if isinstance(value, str)}:
                check_text("behavior", label)
    for parameter, names in (
        ("unit_ids", recording.unit_ids),
        ("cell_type", recording.cell_type or ()),
        ("epochs", recording.epochs),
        ("session", (recording.session, recording.source)),
    ):
        for name in names:
            check_text(parameter, name)


def _check_metadata(metadata: Any) -> None:
    """Raise `InputError` if a text in the metadata cannot be written to a file."""
    if isinstance(metadata, str):
        check_text("metadata", metadata)
    elif isinstance(metadata, Mapping):
        for value in metadata.values():
            _check_metadata(value)
    elif isinstance(metadata, list | tuple):
        for value in metadata:
            _check_metadata(value)


def save_nwb(content: Any, path: Path) -> None:
    """Write a `pynwb.NWBFile` to `path`; failures of the disk are an `OSError`."""
    from pynwb import NWBHDF5IO

    try:
        with NWBHDF5IO(str(path), "w") as io:
            io.write(content)
    except RuntimeError as error:  # HDF5 raises it when the disk is full
        raise OSError(None, first_line(error)) from error
    except (TypeError, ValueError) as error:  # of pynwb, for text or objects in the metadata that HDF5 does not have
        raise InputError(
            f"metadata cannot be written to an NWB file: {first_line(error)}", parameter="metadata"
        ) from error


def _content(recording: Recording, metadata: dict[str, Any]) -> Any:
    """Return the content of the file."""
    date = "" if "session_start_time" in metadata else "; the date is not known"
    if recording.session:
        metadata = {"identifier": recording.session} | metadata
    content = new_file(f"written by kalmanssl from {recording.source}{date}", metadata)
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
        _add_behavior(content, recording)
    return content


def _add_behavior(content: Any, recording: Recording) -> None:
    """Add positions, angles, labels and other behavior in the neurodata types for them."""
    from pynwb.behavior import BehavioralTimeSeries, Position

    module = content.create_processing_module("behavior", "behavior at the centers of the bins")
    times = time_fields(recording.time)
    containers: dict[Any, list[Any]] = {}
    for name, values in recording.behavior.items():
        if values.dtype == object:
            containers.setdefault(BehavioralTimeSeries, []).append(_label_series(name, values, recording.time))
            continue
        unit = recording.behavior_unit.get(name, "")
        container = container_type("position" if name == "position" else "angle", unit, [values])
        series = behavior_series(
            container,
            unit,
            "not known",
            name="SpatialSeries" if container is Position else name,
            data=values,
            description=f"{name} at the centers of the bins",
            **times,
        )
        containers.setdefault(container, []).append(series)
    for container, series_of_type in containers.items():
        module.add(fill_container(container, container.__name__, series_of_type))


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
    return TimeSeries(
        name=name,
        data=values,
        unit=UNKNOWN_UNIT,
        description=f"label {name} of the bins; empty text, or no sample, where it is not known",
        **time_fields(time[known]),
    )


def _add_units(content: Any, recording: Recording) -> None:
    """Add the units; `obs_intervals` store the time of the bins, so that reading gives the same bins."""
    half = 0.5 * recording.bin_size
    covered = np.array([[recording.time[s][0] - half, recording.time[s][-1] + half] for s in recording.segments()])
    numbered = all(u.isascii() and u.isdigit() and str(int(u)) == u for u in recording.unit_ids)
    spike_times = recording.spike_times or ()
    if not numbered:
        content.add_unit_column("unit_name", "name of the unit")
    if recording.cell_type is not None:
        content.add_unit_column("cell_type", "putative cell type")
    for row, (unit, spikes) in enumerate(zip(recording.unit_ids, spike_times, strict=True)):
        extra = {} if numbered else {"unit_name": unit}
        if recording.cell_type is not None:
            extra["cell_type"] = recording.cell_type[row]
        content.add_unit(id=int(unit) if numbered else row, spike_times=spikes, obs_intervals=covered, **extra)
    content.units.resolution = _resolution(spike_times, recording.time)


def _resolution(spike_times: Sequence[np.ndarray], time: np.ndarray) -> float:
    """Return the sampling period to which all spike times are rounded, or the precision of the stored times; seconds.

    `time` (time,) are the centers of the bins.
    """
    tick = find_tick(np.concatenate(spike_times), 100 * _FINEST_SAMPLING)
    return tick if tick is not None else float(np.spacing(np.abs(time).max()))


def _add_binned(content: Any, recording: Recording) -> None:
    """Add counts or a signal as a time series, and a table of its channels."""
    from pynwb.base import TimeSeries
    from pynwb.core import DynamicTable

    module = content.create_processing_module("binned", "activity in bins of equal width")
    is_counts = recording.kind == "counts"
    series = TimeSeries(
        name=recording.kind,
        data=compress(recording.activity),
        unit="counts" if is_counts else "unknown",
        description=f"{'events' if is_counts else 'signal'} in bins of {recording.bin_size:g} s, at their centers; "
        "one column for each row of the table channels",
        **time_fields(recording.time),
    )
    module.add(series)
    table = DynamicTable(name="channels", description="channels of the series in this module")
    table.add_column("unit_id", "name of the unit or channel")
    table.add_column("bin_size", "width of its bins, seconds")
    if recording.cell_type is not None:
        table.add_column("cell_type", "putative cell type")
    for row, name in enumerate(recording.unit_ids):
        extra = {} if recording.cell_type is None else {"cell_type": recording.cell_type[row]}
        table.add_row(unit_id=name, bin_size=recording.bin_size, **extra)
    module.add(table)
