"""Latents and decoded behavior as a processing module of an NWB file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data.nwb import (
    RESULTS,
    add_module_to_copy,
    behavior_series,
    compress,
    container_type,
    fill_container,
    new_file,
    rounded_probabilities,
    save_nwb,
    session_metadata,
    time_fields,
)
from kalmanssl.decoding import DecodedCategory
from kalmanssl.utils.measurement_units import UNKNOWN_UNIT

if TYPE_CHECKING:
    from kalmanssl.data import Latents
    from kalmanssl.decoding import DecodedPosition

__all__ = ["write_nwb_results"]

_MAX_COVARIANCE = 2**24  # values of the covariances that are written, 64 MiB; larger ones are left out
_DIMENSIONS = ("x", "y", "z")


def write_nwb_results(
    decoded: DecodedPosition | DecodedCategory,
    latents: Latents,
    path: Path,
    *,
    recording: Path,
    behavior: str,
    unit: str,
    made_by: str,
    module: str,
    append_to_copy: bool,
    posterior: bool,
) -> None:
    """Write latents and decoded behavior to `path`; see `write_decoded`."""
    metadata = session_metadata(recording)
    session = metadata.pop("identifier", "unknown")
    content = new_file(f"{behavior} decoded from the activity in {recording.name} (session {session})", metadata)
    part = content.create_processing_module(module, f"{RESULTS}latents, and {behavior} decoded from them, by {made_by}")
    mean = _latent_mean(latents)
    part.add(mean)
    times = time_fields(latents.time)
    if "timestamps" in times:
        times = {"timestamps": mean}  # stored once
    for item in _latent_covariances(latents, times):
        part.add(item)
    if isinstance(decoded, DecodedCategory):
        items = _labels(decoded, behavior, times)
    else:
        items = _intervals(decoded, behavior, unit, recording.name, times) + _trust(decoded, behavior, times)
        if posterior:
            items += _posteriors(decoded, behavior, unit, times)
    for item in items:
        part.add(item)
    if not append_to_copy:
        save_nwb(content, path)
        return
    results = path.with_name(f"{path.stem}-results.nwb")
    try:
        save_nwb(content, results)
        add_module_to_copy(recording, results, path, module)
    finally:
        results.unlink(missing_ok=True)


def _latent_mean(latents: Latents) -> Any:
    """Return the posterior mean of the state as a series."""
    from pynwb.base import TimeSeries

    given = "the whole segment" if latents.smoothed else "the past and present activity"
    return TimeSeries(
        name="latents",
        data=compress(latents.mean.astype(np.float32)),
        unit="a.u.",
        description=f"posterior mean of the latent state given {given}; one column for each dimension of the state",
        **time_fields(latents.time),
    )


def _latent_covariances(latents: Latents, times: dict[str, Any]) -> list[Any]:
    """Return the variances of the state as a series, and the covariances if they are not too large."""
    from pynwb.base import TimeSeries

    covariances = latents.covariances
    variance = np.diagonal(covariances.table, axis1=1, axis2=2)[covariances.index]
    described = {"latent_variance": (variance, "posterior variance of each dimension of the latent state")}
    if variance.size * variance.shape[1] <= _MAX_COVARIANCE:
        described["latent_covariance"] = (covariances.dense(), "posterior covariance matrix of the latent state")
    return [
        TimeSeries(name=name, data=compress(values.astype(np.float32)), unit="a.u.", description=description, **times)
        for name, (values, description) in described.items()
    ]


def _intervals(decoded: Any, behavior: str, unit: str, recording: str, times: dict[str, Any]) -> list[Any]:
    """Return point estimate and intervals in a container."""
    from kalmanssl.decoding.results import LEVELS

    level = f"{100 * decoded.level:g} %"
    circular = any(period is not None for period in decoded.periods)
    around = (
        "; on circular dimensions mean and bounds are from minus one period to one period, so that they are ordered"
        if circular
        else ""
    )
    described = {"mean": f"decoded {behavior}, point estimate"}
    values = {"mean": np.asarray(decoded.mean, dtype=float)}
    intervals = {"": (level, (decoded.lower, decoded.upper))}
    intervals |= {f"_{100 * one:g}": (f"{100 * one:g} %", decoded.interval(one)) for one in LEVELS}
    shift = _shift_by_period([ends[1] for _, ends in intervals.values()], decoded.periods)
    values["mean"] = values["mean"] + shift
    for name, (nominal, ends) in intervals.items():
        for end, bound in zip(("lower", "upper"), ends, strict=True):
            described[f"{end}{name}"] = f"{end} bound of the central {nominal} interval of {behavior}{around}"
            values[f"{end}{name}"] = bound + shift
    kind = "position" if "position" in behavior.lower() else "angle" if circular else "other"
    container = container_type(kind, unit, list(values.values()))
    frame = f"the same as for {behavior} in {recording}"
    series = [
        behavior_series(container, unit, frame, name=name, data=values[name], description=text, **times)
        for name, text in described.items()
    ]
    return [fill_container(container, f"decoded_{_nwb_name(behavior)}", series)]


def _trust(decoded: Any, behavior: str, times: dict[str, Any]) -> list[Any]:
    """Return whether to trust each bin, and the number that this is judged from."""
    from pynwb.base import TimeSeries

    number = TimeSeries(
        name="trust",
        data=compress(np.asarray(decoded.trust, dtype=float)),
        unit="fraction",
        description="share of the held-out bins whose activity looks at least as unusual; judged from the activity "
        "alone, 0 where there is none",
        **times,
    )
    flag = TimeSeries(
        name="trusted",
        data=compress(np.asarray(decoded.trusted, dtype=np.int8)),
        unit=UNKNOWN_UNIT,
        description=f"1 where the decoded {behavior} and its intervals can be trusted; 0 where trust is at or below a "
        "threshold from held-out time, where intervals contained the truth too rarely or the activity was rare",
        **times,
    )
    return [number, flag]


def _shift_by_period(uppers: list[np.ndarray], periods: Sequence[float | None]) -> np.ndarray:
    """Return what to add to mean and bounds, so that all are within one period of zero, as NWB requires of directions.

    It is minus one period on circular dimensions where an upper bound is beyond the period, and zero elsewhere.
    """
    highest = np.max([upper.reshape(len(upper), -1) for upper in uppers], axis=0)
    columns = [
        np.zeros(len(highest)) if period is None else np.where(highest[:, dim] > period, -period, 0.0)
        for dim, period in enumerate(periods)
    ]
    return np.stack(columns, axis=1).reshape(uppers[0].shape)


def _posteriors(decoded: Any, behavior: str, unit: str, times: dict[str, Any]) -> list[Any]:
    """Return for each grid the probabilities of its cells as a series, and the cells as a table."""
    from pynwb.base import TimeSeries

    n_dims = sum(len(posterior.grid.axes) for posterior in decoded.grids)
    names = [_DIMENSIONS[d] if d < len(_DIMENSIONS) else str(d + 1) for d in range(n_dims)]
    items: list[Any] = []
    for posterior in decoded.grids:
        axes, here, names = posterior.grid.axes, names[: len(posterior.grid.axes)], names[len(posterior.grid.axes) :]
        name = "posterior" if len(decoded.grids) == 1 else f"posterior_{'_'.join(here)}"
        series = TimeSeries(
            name=name,
            data=compress(rounded_probabilities(posterior.mass)),
            unit="probability",
            description=f"probability of the cells of a grid over {behavior}, before calibration of the intervals; "
            f"dimensions: time, {', '.join(here)}; the cells are in the table {name}_cells; rounded to 0.1 %, and 0 if "
            "less than 1e-6",
            **times,
        )
        items += [series, _cells(f"{name}_cells", dict(zip(here, axes, strict=True)), unit or "unknown unit")]
    return items


def _cells(name: str, axes: dict[str, Any], unit: str) -> Any:
    """Return a table of the cells along each axis of a grid."""
    from hdmf.common import DynamicTable, VectorData

    rows = [
        (dimension, center, center - 0.5 * axis.width, center + 0.5 * axis.width)
        for dimension, axis in axes.items()
        for center in axis.centers.tolist()
    ]
    described = {
        "dimension": "dimension of the behavior",
        "center": f"center of the cell ({unit})",
        "lower": f"lower edge of the cell ({unit})",
        "upper": f"upper edge of the cell ({unit})",
    }
    columns = [
        VectorData(name=column, description=text, data=list(values))
        for (column, text), values in zip(described.items(), zip(*rows, strict=True), strict=True)
    ]
    return DynamicTable(name=name, description="cells along each dimension of the grid, in order", columns=columns)


def _labels(decoded: Any, behavior: str, times: dict[str, Any]) -> list[Any]:
    """Return the most probable label, the probabilities and the prediction set in a container, and all labels."""
    from hdmf.common import DynamicTable, VectorData
    from pynwb.base import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries

    names = [str(label) for label in decoded.labels.tolist()]
    listing = f"columns: {', '.join(names)}"
    label = TimeSeries(
        name="label",
        data=decoded.most_probable.astype(str).tolist(),
        unit=UNKNOWN_UNIT,
        description=f"most probable label of {behavior}",
        **times,
    )
    probability = TimeSeries(
        name="probability",
        data=compress(np.asarray(decoded.mass, dtype=float)),
        unit="probability",
        description=f"probability of each label of {behavior}; {listing}",
        **times,
    )
    inside = TimeSeries(
        name="set",
        data=compress(decoded.region().inside.values),
        unit=UNKNOWN_UNIT,
        description=f"whether each label is in the {100 * decoded.level:g} % prediction set; {listing}",
        **times,
    )
    key = f"decoded_{_nwb_name(behavior)}"
    table = DynamicTable(
        name=f"{key}_labels",
        description="labels of the columns of probability and set, in order",
        columns=[VectorData(name="label", description=f"label of {behavior}", data=names)],
    )
    return [BehavioralTimeSeries(name=key, time_series=[label, probability, inside]), table]


def _nwb_name(behavior: str) -> str:
    """Return the name of a behavior without the signs that names in NWB files cannot have."""
    return behavior.replace("/", "_").replace(":", "_")
