"""Selection of bins of a recording by time, by epoch or by index."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from kalmanssl.data._pynapple import as_disjoint_intervals, is_pynapple
from kalmanssl.data._trials import Trials, cut_trials, read_trial_table
from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.segments import in_intervals
from kalmanssl.utils.text import shorten, time_span
from kalmanssl.utils.validation import check_bool, check_condition, check_number, short_repr

if TYPE_CHECKING:
    from kalmanssl.data._recording import Recording

__all__ = ["BinSelection", "row_index"]


class BinSelection:
    """The methods of `Recording` that return some of its bins."""

    activity: np.ndarray
    time: np.ndarray
    bin_size: float
    behavior: dict[str, np.ndarray]
    epochs: dict[str, np.ndarray]
    spike_times: tuple[np.ndarray, ...] | None

    def __len__(self) -> int:
        return len(self.time)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `activity`, (time, units)."""
        return self.activity.shape

    def __getitem__(self, index: Any) -> Self:
        """Return the bins of a slice, an index array or a boolean mask over time, in order of time.

        Cross-validation of scikit-learn selects bins in this way.

        Raises
        ------
        InputError
            If no bin is left, the bins are not in order of time, or the index does not select from them.
        """
        try:
            bins = np.arange(len(self))[row_index(index)]
        except (IndexError, OverflowError, TypeError, ValueError) as error:
            raise InputError(
                f"index {short_repr(index)} does not select from {len(self)} bins: {first_line(error)}",
                parameter="index",
            ) from error
        if bins.size == 0:
            raise InputError(f"index selects none of {len(self)} bins: select at least one", parameter="index")
        if bins.ndim != 1 or (np.diff(bins) <= 0).any():
            raise InputError(
                "index must be a slice, a mask or increasing numbers of bins: a recording is in order of time, and no "
                "bin can be repeated",
                parameter="index",
            )
        keep = np.zeros(len(self), dtype=bool)
        keep[bins] = True
        return self._take(keep)

    def restrict(self, start: Any = None, stop: float | None = None, epoch: Any = None) -> Self:
        """Return the bins whose centers lie in ``start <= time < stop`` and in the epoch.

        Parameters
        ----------
        start, stop : float, optional
            Times in the recording's clock, seconds. The first argument can also be intervals, as for `epoch`:
            ``restrict("trials")`` and ``restrict([[0, 60], [120, 180]])``.
        epoch : str, IntervalSet of pynapple, or (n, 2), optional
            Intervals: the name of one of `epochs`, which also has the tables of intervals of an NWB file such as
            "trials", or start and stop times, seconds. A bin in any of them is kept.

        Raises
        ------
        InputError
            If the name is unknown, times are not numbers or not start and stop times, intervals overlap, or no bin is
            left.
        """
        name = "epoch"
        if epoch is None and _are_intervals(start):
            name, start, epoch = "start", None, start
        keep = np.ones(len(self.time), dtype=bool)
        if start is not None:
            keep &= self.time >= _seconds("start", start)
        if stop is not None:
            keep &= self.time < _seconds("stop", stop)
        if epoch is not None:
            if isinstance(epoch, str) and epoch not in self.epochs:
                known = shorten(", ".join(sorted(self.epochs))) or "none"
                message = f"{name}={short_repr(epoch)} is not in the recording; its epochs: {known}"
                raise InputError(message, parameter=name)
            spans = self.epochs[epoch] if isinstance(epoch, str) else as_disjoint_intervals(name, epoch)
            keep &= in_intervals(spans, self.time)
        if not keep.any():
            requested = ", ".join(
                f"{name}={short_repr(value)}" if isinstance(value, str | float | int) else name
                for name, value in (("start", start), ("stop", stop), (name, epoch))
                if value is not None
            )
            raise InputError(f"there is no bin in {requested}; the recording covers {self._span()}")
        return self._take(keep)

    def split(self, at: float) -> tuple[Self, Self]:
        """Split in two: the bins with ``time < at``, and the others.

        Parameters
        ----------
        at : float
            Time in the recording's clock, seconds.

        Raises
        ------
        InputError
            If one side would be empty, or `at` is not a number.
        """
        before = self.time < _seconds("at", at)
        if not before.any() or before.all():
            message = f"split(at={at!r}) leaves one side empty; the recording covers {self._span()}"
            raise InputError(message, parameter="at")
        return self._take(before), self._take(~before)

    def trials(
        self,
        intervals: Any,
        stop: Any = None,
        *,
        table: str = "trials",
        drop_outside: bool = False,
    ) -> Trials:
        """Return the bins of every trial, as a sequence of recordings of unequal length.

        Parameters
        ----------
        intervals : path, table, IntervalSet, (trials, 2) or (trials,)
            Start and stop times, seconds: an NWB file with a table of trials, such a table of pynwb, a DataFrame or a
            dict of columns with `start_time` and `stop_time`, an `IntervalSet` of pynapple, an array of start and stop
            times, the label of one of `epochs`, or start times if `stop` is given. Other columns of a table are kept.
        stop : (trials,), optional
            Stop times, seconds.
        table : str
            Name of the table, or of an `IntervalSeries`, in an NWB file.
        drop_outside : bool
            Leave out trials that are not inside the recording or have no times, instead of raising an error.

        Returns
        -------
        Trials
            Bins whose centers lie in ``start <= time < stop``.

        Raises
        ------
        InputError
            If trials overlap, do not lie inside the recording or contain no bin, or times are missing.
        """
        check_condition("table", table, isinstance(table, str), "the name of a table")
        check_bool("drop_outside", drop_outside)
        recording = cast("Recording", self)
        return cut_trials(recording, read_trial_table(recording, intervals, stop, table), drop_outside)

    def _take(self, keep: np.ndarray) -> Self:
        """Keep the bins where the mask (time,) is True, and the spikes in them.

        Consecutive bins and spikes are views of the arrays, which can be large.
        """
        bins_kept, spikes = _as_slice(keep), self.spike_times
        if spikes is not None:
            starts = self.time - 0.5 * self.bin_size
            spikes = tuple(
                s[_as_slice(keep[np.clip(np.searchsorted(starts, s, side="right") - 1, 0, None)])] for s in spikes
            )
        return replace(  # type: ignore[type-var]
            self,
            activity=self.activity[bins_kept],
            time=self.time[bins_kept],
            behavior={name: values[bins_kept] for name, values in self.behavior.items()},
            spike_times=spikes,
        )

    def _span(self) -> str:
        half = 0.5 * self.bin_size
        return time_span(self.time[0] - half, self.time[-1] + half)


def _as_slice(keep: np.ndarray) -> slice | np.ndarray:
    """Return a mask as a slice if its True values follow one another; arrays that it selects from are then views."""
    kept = np.flatnonzero(keep)
    if len(kept) and kept[-1] - kept[0] + 1 == len(kept):
        return slice(int(kept[0]), int(kept[-1]) + 1)
    return keep


def _are_intervals(value: Any) -> bool:
    """Return whether a value is meant as intervals: a name, an `IntervalSet`, or start and stop times."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, str | list | tuple) or is_pynapple(value, "IntervalSet")


def _seconds(name: str, value: Any) -> float:
    """Return a time as a float; raise `InputError` if it is not a number."""
    single = value.item() if getattr(value, "ndim", None) == 0 else value
    check_number(name, single)
    check_condition(name, single, single == single, "a number, not NaN")
    return float(single)


def row_index(index: Any) -> Any:
    """Return the index into the first axis; scikit-learn writes it as ``(index, ...)``."""
    return index[0] if isinstance(index, tuple) and len(index) == 2 and index[1] is Ellipsis else index
