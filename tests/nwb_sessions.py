"""Small NWB sessions that tests write with pynwb."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kalmanssl.errors import InputError

START, STOP = 1000.0, 1060.0
RATE = 40.0


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def spikes_of(n_units: int = 4, seed: int = 0, tick: float | None = None) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    spikes = [np.sort(rng.uniform(START - 10, STOP + 10, 600)) for _ in range(n_units)]
    return spikes if tick is None else [np.unique(np.round(np.round(s / tick) * tick, 6)) for s in spikes]


def track(times: np.ndarray) -> np.ndarray:
    return 0.8 + 0.7 * np.sin(0.5 * times)


def session(
    path: Path,
    spikes: list[np.ndarray] | None = None,
    cell_type: list[str] | None = None,
    columns: dict[str, list[Any]] | None = None,
    position: list[dict[str, Any]] | None = None,
    series: list[dict[str, Any]] | None = None,
    epochs: list[tuple[float, float, str]] | None = None,
    observed: list[list[float]] | None = None,
) -> Path:
    """Write a small session with pynwb; `position` are SpatialSeries in a Position each, `series` TimeSeries."""
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.base import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries

    file = NWBFile("a test", "id", datetime(2020, 1, 1, tzinfo=UTC))
    if spikes is not None:
        columns = dict(columns or {})
        if cell_type is not None:
            columns["cell_type"] = cell_type
        for name in columns:
            file.add_unit_column(name, name)
        for row, times in enumerate(spikes):
            extra = {name: values[row] for name, values in columns.items()}
            if observed is not None:
                extra["obs_intervals"] = observed
            file.add_unit(spike_times=times, id=10 + row, **extra)
    if position or series:
        module = file.create_processing_module("behavior", "behavior")
    for args in position or []:
        args = dict(args)
        name = args.pop("maze", "maze")
        spatial = SpatialSeries(name=f"{name}SpatialSeries", **({"reference_frame": "x", "unit": "meters"} | args))
        module.add(Position(spatial_series=spatial, name=f"{name}Position"))
    if series:
        module.add(BehavioralTimeSeries(time_series=[TimeSeries(**args) for args in series]))
    if epochs:
        file.add_epoch_column("label", "label")
        for start, stop, label in epochs:
            file.add_epoch(start_time=start, stop_time=stop, label=label)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


def tracked(n: int | None = None, **changes: Any) -> dict[str, Any]:
    times = START + np.arange(n or int((STOP - START) * RATE)) / RATE
    return {"data": track(times), "timestamps": times} | changes
