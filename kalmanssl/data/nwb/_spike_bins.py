"""Bins of the spikes of units in the tracked time."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.data._binning import BinnedEvents, bin_memory, count_events, find_tick, snap_up, spread_ticks
from kalmanssl.data.nwb._interval_columns import IntervalColumn
from kalmanssl.data.nwb._series import Samples
from kalmanssl.data.nwb._windows import tracked_windows
from kalmanssl.errors import InputError
from kalmanssl.utils.memory import check_memory
from kalmanssl.utils.text import time_span

__all__ = ["bin_spikes"]

_FAR = 10.0  # median distances from the median time


def bin_spikes(
    spikes: list[np.ndarray],
    allowed: list[tuple[float, float]],
    main: Samples | IntervalColumn | None,
    bin_size: float,
    random_state: int | None,
    names: tuple[str, ...],
) -> tuple[BinnedEvents, list[str]]:
    """Define the bins and count the spikes of each unit in them.

    Parameters
    ----------
    spikes : list of (spikes,)
        Sorted spike times of each unit, seconds.
    allowed : list of (start, stop)
        Time from which to take bins, seconds.
    main : Samples, IntervalColumn or None
        The behavior in whose tracked time the bins are; without one they are where there are spikes.
    bin_size : float
        Seconds.
    random_state : int or None
        Seed of the noise that is added to spike times that are rounded to a tick which does not divide the bins.
    names : tuple of str
        Names of the units.

    Returns
    -------
    (BinnedEvents, notes)
        The notes say in words what was chosen.

    Raises
    ------
    InputError
        If there are no spikes, no bins in this time, or no spikes in the bins, or too many bins for the memory.
    """
    notes = []
    pooled = np.sort(np.concatenate(spikes))
    total = len(pooled)
    if total == 0:
        raise InputError("the selected units have no spikes; select other units", parameter="units")
    known = pooled if main is None else main.tracked()
    windows = tracked_windows(allowed, known, 0.0 if main is None else 0.5 * main.period)
    what = "spike" if main is None else "tracked behavior"
    if not windows:
        raise InputError(
            f"there is no {what} in the epoch and the observation intervals of the units; choose another epoch",
            parameter="epoch",
        )
    _check_number_of_bins(windows, bin_size, spikes, names, main)
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
                f"{1e3 * bin_size:.4g} ms: uniform noise of ±{500 * tick:.4g} ms is added"
            )
    binned = count_events(spikes, windows, bin_size)
    time = binned.time
    span = f"{windows[0][0]:.10g} to {windows[-1][1]:.10g} s"
    if not len(time):
        raise InputError(
            f"no bin of {bin_size:g} s fits into the time with {what}, {span}; choose smaller bins",
            parameter="bin_size",
        )
    n_kept = sum(map(len, binned.kept))
    if n_kept == 0:
        raise InputError(f"the selected units have no spikes in {span}; choose another epoch, behavior or units")
    if n_kept < total:
        span = time_span(time[0] - bin_size / 2, time[-1] + bin_size / 2)  # of the whole bins
        notes.append(f"{total - n_kept} of {total} spikes are in gaps or outside of {span}, and are not counted")
    return binned, notes


def _check_number_of_bins(
    windows: list[tuple[float, float]],
    bin_size: float,
    spikes: list[np.ndarray],
    names: tuple[str, ...],
    main: Samples | IntervalColumn | None,
) -> None:
    """Raise `InputError` if the bins do not fit into the memory; name the time that is far away from the others."""
    needed = bin_memory(windows, bin_size, len(names))
    if not needed:
        return
    if main is None:
        times, owners = np.concatenate(spikes), np.repeat(np.arange(len(names)), [len(s) for s in spikes])
    else:
        times, owners = main.tracked(), np.zeros(0, int)
    middle = float(np.median(times))
    farthest = int(np.argmax(np.abs(times - middle)))
    owner = f"a spike of unit {names[owners[farthest]]}" if main is None else "a sample of the behavior"
    advice = "choose larger bins or an epoch"
    if np.abs(times[farthest] - middle) > _FAR * np.median(np.abs(times - middle)):
        advice = f"{owner} is at {times[farthest]:.10g} s, far from the others: {advice}"
    first, last = windows[0][0], windows[-1][1]
    check_memory(
        needed,
        f"bin_size={bin_size:g} from {first:.10g} to {last:.10g} s for {len(names)} units",
        advice,
        "bin_size",
    )
