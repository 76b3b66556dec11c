"""Small NWB files with sampled activity that tests write with pynwb."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

RATE = 20.0


def sampled(n: int = 200, units: int = 4, seed: int = 0, rate: float = RATE, **changes: Any) -> dict[str, Any]:
    """Return nonnegative data (n, units) with timestamps from 5 s on, for a series of pynwb."""
    data = np.random.default_rng(seed).gamma(1.0, size=(n, units)).astype(np.float32)
    return {"data": data, "timestamps": 5.0 + np.arange(n) / rate, "unit": "a.u."} | changes


def write(path: Path, *contents: Any) -> Path:
    """Write a file; each of `contents` is a function that adds something to it."""
    from pynwb import NWBHDF5IO, NWBFile

    file = NWBFile("a test", "id", datetime(2020, 1, 1, tzinfo=UTC))
    for content in contents:
        content(file)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


def module(file: Any, name: str) -> Any:
    """Return a processing module of this name, new or existing."""
    return file.processing[name] if name in file.processing else file.create_processing_module(name, name)


def traces(
    series: dict[str, dict[str, Any]],
    n_rois: int = 4,
    columns: dict[str, list[Any]] | None = None,
    table_name: str = "ROIs",
) -> Any:
    """Return a function that adds ROIs with IDs from 100 on and series such as "Fluorescence/Deconvolved".

    `columns` are those of the table of ROIs; by default "odd", which is 0 or 1.
    """
    columns = {"odd": [roi % 2 for roi in range(n_rois)]} if columns is None else columns

    def add(file: Any) -> None:
        from pynwb import ophys

        device = file.create_device(f"microscope of {table_name}")
        channel = ophys.OpticalChannel(name="channel", description="channel", emission_lambda=500.0)
        plane = file.create_imaging_plane(
            f"plane of {table_name}", channel, "plane", device, 600.0, "GCaMP", "CA1", imaging_rate=RATE
        )
        target = module(file, "ophys")
        if "ImageSegmentation" not in target.data_interfaces:
            target.add(ophys.ImageSegmentation())
        segmentation = target["ImageSegmentation"]
        table = segmentation.create_plane_segmentation(name=table_name, imaging_plane=plane, description="rois")
        for name in columns:
            table.add_column(name, name)
        for roi in range(n_rois):
            values = {name: column[roi] for name, column in columns.items()}
            table.add_roi(pixel_mask=[(roi, 0, 1.0)], id=100 + roi, **values)
        for where, args in series.items():
            container, name = where.split("/")
            region = table.create_roi_table_region("all", region=list(range(args.pop("n_rows", n_rois))))
            if container not in target.data_interfaces:
                target.add(getattr(ophys, container)(name=container))
            target[container].create_roi_response_series(name=name, rois=region, **args)

    return add


def time_series(where: str, **args: Any) -> Any:
    """Return a function that adds a TimeSeries such as "ecephys/rates" (module/name) or "acquisition/rates"."""

    def add(file: Any) -> None:
        from pynwb.base import TimeSeries

        place, name = where.split("/")
        series = TimeSeries(name=name, **({"unit": "n/a"} | args))
        if place == "acquisition":
            file.add_acquisition(series)
        else:
            module(file, place).add(series)

    return add


def position(times: np.ndarray) -> Any:
    """Return a function that adds a position of sin(t)."""

    def add(file: Any) -> None:
        from pynwb.behavior import Position, SpatialSeries

        series = SpatialSeries(
            name="SpatialSeries", data=np.sin(times), timestamps=times, reference_frame="x", unit="meters"
        )
        module(file, "behavior").add(Position(spatial_series=series, name="Position"))

    return add


def _electrodes(file: Any, n: int) -> Any:
    device = file.create_device("probe")
    group = file.create_electrode_group("shank", "shank", "CA1", device)
    for channel in range(n):
        file.add_electrode(id=10 + channel, location="CA1" if channel else "CA3", group=group)
    return file.create_electrode_table_region(region=list(range(n)), description="all")


def field_potential(data: np.ndarray, rate: float) -> Any:
    """Return a function that adds data (samples, channels) as LFP/LFP of the module ecephys."""

    def add(file: Any) -> None:
        from pynwb.ecephys import LFP, ElectricalSeries

        series = ElectricalSeries(
            name="LFP", data=data, starting_time=0.0, rate=rate, electrodes=_electrodes(file, data.shape[1])
        )
        module(file, "ecephys").add(LFP(electrical_series=series, name="LFP"))

    return add


def stored_bands(data: np.ndarray, rate: float, metric: str = "power") -> Any:
    """Return a function that adds band power (samples, channels, bands) as the series bands."""

    def add(file: Any) -> None:
        from pynwb.misc import DecompositionSeries

        region = _electrodes(file, data.shape[1])
        series = DecompositionSeries(
            name="bands", data=data, metric=metric, rate=rate, starting_time=0.0, source_channels=region, unit="V2"
        )
        for band in range(data.shape[2]):
            series.add_band(band_name=f"b{band}", band_limits=(1.0 + band, 2.0 + band), band_mean=1.5, band_stdev=0.1)
        module(file, "ecephys").add(series)

    return add
