"""Reading of units, behavior and epochs from NWB files.

Files are read with h5py instead of pynwb: the layout of these groups is the same in all versions of NWB 2, h5py loads
ten times faster, and parts of the file that are not needed, such as extensions, are not read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data._binning import count_events, find_tick, snap_up, spread_ticks
from kalmanssl.data.nwb._interval_columns import COLUMN, IntervalColumn, find_columns, read_column
from kalmanssl.data.nwb._series import Behavior, Samples, choose_series, decode_text, find_series, read_series
from kalmanssl.data.nwb._tables import choose_units, read_epochs, spike_times, table_extent, unit_names
from kalmanssl.errors import InputError, RecordingWarning
from kalmanssl.utils.validation import check_positive

if TYPE_CHECKING:
    import h5py

__all__ = ["open_nwb", "read_nwb"]


@contextmanager
def open_nwb(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an NWB file for reading; raise `InputError` if the file is missing, damaged or not NWB 2."""
    import h5py

    file = Path(path)
    if file.is_dir():
        raise InputError(
            f"{file} is a folder; only single HDF5 files can be read (convert a Zarr store first)", parameter="path"
        )
    if not file.exists():
        raise InputError(f"{file} does not exist", parameter="path")
    try:
        # Spike times are read unit by unit, so the cache must hold at least one of the large chunks of the file.
        with h5py.File(file, "r", rdcc_nbytes=64 * 2**20) as handle:
            kind = handle.attrs.get("neurodata_type")
            if kind not in ("NWBFile", b"NWBFile"):
                raise InputError(
                    f"{file} is HDF5 but not an NWB 2 file (neurodata_type is {kind!r}); convert it to NWB first"
                )
            yield handle
    except (OSError, RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())
        if isinstance(error, OSError) and "signature not found" in why:
            raise InputError(f"{file} is not an NWB file (not HDF5)", parameter="path") from error
        cause = "truncated" if "truncated" in why else "damaged or cannot be read"
        raise InputError(f"{file} is {cause}: download or export it again ({why})", parameter="path") from error


def _intersect(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> list[tuple[float, float]]:
    both = [(max(p, r), min(q, s)) for p, q in a for r, s in b]
    return [(p, q) for p, q in both if p < q]


def _merge(windows: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Merge windows that overlap or touch, so that bins continue from one to the next."""
    joined: list[tuple[float, float]] = []
    for start, stop in sorted(windows):
        if joined and start <= joined[-1][1] + 1e-9:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _windows(allowed: list[tuple[float, float]], known: np.ndarray, half_period: float) -> list[tuple[float, float]]:
    """Restrict each allowed window to the time between the first and the last known time in it."""
    windows = []
    for start, stop in allowed:
        inside = known[np.searchsorted(known, start) : np.searchsorted(known, stop, side="right")]
        if len(inside):
            windows.append((max(start, inside[0] - half_period), min(stop, inside[-1] + half_period)))
    return windows


def read_nwb(
    path: str | os.PathLike[str],
    bin_size: float,
    units: str | Mapping[str, Any],
    behavior: Behavior,
    epoch: str | None,
    random_state: int | None,
) -> dict[str, Any]:
    """Read the fields of a `Recording`; see `Recording.from_nwb`."""
    check_positive("bin_size", bin_size)
    with open_nwb(path) as file:
        epochs = read_epochs(file)
        if epoch is not None and epoch not in epochs:
            listing = ", ".join(sorted(epochs)) or "none"
            raise InputError(f"epoch={epoch!r} is not in {path}; its epochs: {listing}", parameter="epoch")
        everything = [(-np.inf, np.inf)]
        allowed = everything if epoch is None else [(float(a), float(b)) for a, b in epochs[epoch]]
        chosen = choose_series(find_series(file), behavior, find_columns(file))
        has_units = "units" in file and "spike_times" in file["units"]
        if has_units:
            fields, spikes, observed, notes = _read_units(file, units)
            allowed = _merge(_intersect(_merge(allowed), _merge(observed or everything)))
        elif "binned" in file.get("processing", {}):
            fields, notes = _read_binned(file, bin_size)
            spikes = None
        else:
            message = f"{path} has no units with spike times; for other data use Recording.from_arrays"
            raise InputError(message, parameter="path")
        extent = table_extent(file, spikes or [fields["time"]])
        series: dict[str, Samples | IntervalColumn] = {}
        for key, where in chosen.items():
            if where.kind == COLUMN:
                series[key] = read_column(file, where)
                continue
            series[key], corrections = read_series(file[where.path], extent)
            notes += corrections
            for note in corrections:
                warnings.warn(note, RecordingWarning, stacklevel=3)
    if spikes is not None:
        main = next(iter(series.values()), None)
        binned, more = _bin(spikes, allowed, main, bin_size, random_state, fields["unit_ids"])
        fields |= binned
        notes += more
    elif epoch is not None:
        keep = np.any([(fields["time"] >= a) & (fields["time"] < b) for a, b in allowed], axis=0)
        if not keep.any():
            raise InputError(f"epoch={epoch!r} has no bins in {path}; choose another epoch", parameter="epoch")
        fields |= {"activity": fields["activity"][keep], "time": fields["time"][keep]}
    return fields | {
        "behavior": {key: s.at(fields["time"]) for key, s in series.items()},
        "behavior_unit": {key: s.unit for key, s in series.items()},
        "epochs": epochs,
        "source": Path(path).name,
        "notes": tuple(notes),
    }


def _read_units(
    file: h5py.File, units: str | Mapping[str, Any]
) -> tuple[dict[str, Any], list[np.ndarray], list[tuple[float, float]], list[str]]:
    """Read the spike times of the selected units and their observation intervals (empty if unknown)."""
    table = file["units"]
    rows, cell_type, notes = choose_units(table, units)
    names, remark = unit_names(table, rows)
    spikes, observed = spike_times(table, rows)
    fields = {"unit_ids": names, "cell_type": cell_type}
    return fields, spikes, observed, notes + remark


def _read_binned(file: h5py.File, bin_size: float) -> tuple[dict[str, Any], list[str]]:
    """Read counts or a signal without spike times, as written by `to_nwb`."""
    module = file["processing/binned"]
    kind = "signal" if "signal" in module else "counts"
    channels = module["channels"]
    width = float(channels["bin_size"][0])
    notes = []
    if not np.isclose(width, bin_size):
        notes.append(f"the file has bins of {width:g} s, not spike times: bin_size={bin_size:g} is ignored")
    fields: dict[str, Any] = {
        "activity": np.asarray(module[kind]["data"][()], dtype=np.float32),
        "time": _sample_times(module[kind]),
        "bin_size": width,
        "unit_ids": tuple(decode_text(u) for u in channels["unit_id"][()]),
        "kind": kind,
    }
    if "cell_type" in channels:
        fields["cell_type"] = tuple(decode_text(c) for c in channels["cell_type"][()])
    return fields, notes


def _sample_times(series: h5py.Group) -> np.ndarray:
    """Return the times of the samples of a series, seconds."""
    if "timestamps" in series:
        return np.asarray(series["timestamps"][()], dtype=float)
    start = series["starting_time"]
    return float(start[()]) + np.arange(len(series["data"])) / float(start.attrs["rate"])


def _bin(
    spikes: list[np.ndarray],
    allowed: list[tuple[float, float]],
    main: Samples | IntervalColumn | None,
    bin_size: float,
    random_state: int | None,
    names: tuple[str, ...],
) -> tuple[dict[str, Any], list[str]]:
    """Define the bins and count the spikes of each unit in them."""
    notes = []
    pooled = np.sort(np.concatenate(spikes))
    total = len(pooled)
    if total == 0:
        raise InputError("the selected units have no spikes; select other units", parameter="units")
    known = pooled if main is None else main.tracked()
    windows = _windows(allowed, known, 0.0 if main is None else 0.5 * main.period)
    what = "spike" if main is None else "tracked behavior"
    if not windows:
        raise InputError(
            f"there is no {what} in the epoch and the observation intervals of the units; choose another epoch",
            parameter="epoch",
        )
    tick = find_tick(pooled, bin_size)
    if tick is not None:
        if abs(bin_size / tick - round(bin_size / tick)) < 1e-3 and bin_size >= tick:
            windows = [(snap_up(start, tick, pooled[0]), stop) for start, stop in windows]
            notes.append(f"spike times are rounded to {1e3 * tick:.4g} ms: bin borders are halfway between ticks")
        else:
            # One seed per unit, so that the spikes of a unit do not depend on the selection of units.
            seed: Any = np.random.SeedSequence(random_state).entropy
            spikes = [
                spread_ticks(s, tick, np.random.default_rng([seed, *name.encode()]))
                for s, name in zip(spikes, names, strict=True)
            ]
            notes.append(
                f"spike times are rounded to {1e3 * tick:.4g} ms, which does not divide the bin size of "
                f"{1e3 * bin_size:.4g} ms: uniform noise of +-{500 * tick:.4g} ms added (random_state={random_state})"
            )
    counts, time, kept = count_events(spikes, windows, bin_size)
    span = f"{windows[0][0]:.10g} to {windows[-1][1]:.10g} s"
    if not len(time):
        raise InputError(
            f"no bin of {bin_size:g} s fits into the time with {what}, {span}; choose smaller bins",
            parameter="bin_size",
        )
    n_kept = sum(map(len, kept))
    if n_kept == 0:
        raise InputError(f"the selected units have no spikes in {span}; choose another epoch, behavior or units")
    if n_kept < total:
        notes.append(f"{total - n_kept} of {total} spikes are outside the bins ({span}) and are not counted")
    return {"activity": counts, "time": time, "bin_size": float(bin_size), "spike_times": kept}, notes
