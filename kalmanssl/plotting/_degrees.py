"""Ticks in degrees on an axis of angles in radians."""

from __future__ import annotations

from math import degrees, radians
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axis import Axis

__all__ = ["place_at_degrees", "show_degrees"]

_STEPS = [1, 1.5, 2, 3, 4.5, 6, 9, 10]  # whole fractions of a turn, times a power of ten
_INTERVALS = 5  # between ticks, at most


def place_at_degrees(axis: Axis) -> None:
    """Place ticks at whole fractions of a turn on an axis of degrees."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=_INTERVALS, steps=_STEPS))


def show_degrees(axis: Axis) -> None:
    """Place ticks at round numbers of degrees on an axis of radians, with the numbers in degrees."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    class DegreeLocator(MaxNLocator):
        """Ticks at round numbers of degrees."""

        def tick_values(self, vmin: float, vmax: float) -> Any:
            return [radians(tick) for tick in super().tick_values(degrees(vmin), degrees(vmax))]

    axis.set_major_locator(DegreeLocator(nbins=_INTERVALS, steps=_STEPS))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(degrees(value), 6) + 0.0:.6g}"))
