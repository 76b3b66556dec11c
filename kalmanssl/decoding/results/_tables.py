"""Decoded behavior as tables of pandas and time series of pynapple."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import AlignMixin, to_tsdframe
from kalmanssl.utils.segments import segment_slices
from kalmanssl.utils.summaries import Summary

if TYPE_CHECKING:
    import pandas

__all__ = ["DecodedTables", "axis_names"]

_AXES = ("x", "y", "z")


class DecodedTables(Summary, AlignMixin):
    """The methods of decoded behavior that return tables."""

    time: np.ndarray

    def _time_summary(self) -> list[tuple[str, str]]:
        """Return the number of bins and their time."""
        time = f"{self.time[0]:.10g} to {self.time[-1]:.10g} s" if len(self.time) else "none"
        return [("bins", str(len(self.time))), ("time", time)]

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of a table, (time,) each."""
        raise NotImplementedError

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the columns of `columns` as a table with the index "time" in seconds."""
        import pandas

        table = self.columns()
        return pandas.DataFrame(table, index=pandas.Index(table.pop("time"), name="time"))

    def to_pynapple(self) -> Any:
        """Return `columns` as a `TsdFrame` whose time support are the segments; labels and sets are left out.

        Flags are 1 or 0.

        Raises
        ------
        InputError
            If pynapple is not installed.
        """
        numbers = {
            name: values.astype(float) if values.dtype == bool else values
            for name, values in self.columns().items()
            if name not in ("label", "set")
        }
        time = numbers.pop("time")
        width = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
        return to_tsdframe(time, numbers, segment_slices(time), width, f"{type(self).__name__}.to_pynapple")


def axis_names(count: int) -> list[str]:
    """Return the names of the dimensions of the behavior: x, y, z, 4, 5, ..."""
    return [_AXES[d] if d < len(_AXES) else str(d + 1) for d in range(count)]
