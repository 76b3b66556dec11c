"""What decoded positions and decoded labels have in common: draws, tables of pandas and time series of pynapple."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import AlignMixin, to_tsdframe
from kalmanssl.utils.memory import check_memory
from kalmanssl.utils.seeds import check_random_state
from kalmanssl.utils.segments import segment_slices
from kalmanssl.utils.summaries import Summary
from kalmanssl.utils.validation import check_integer

if TYPE_CHECKING:
    import pandas

__all__ = ["DecodedBehavior", "axis_names"]

_AXES = ("x", "y", "z")


class DecodedBehavior(Summary, AlignMixin, ABC):
    """Base class of decoded positions and decoded labels."""

    time: np.ndarray

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the point estimate, (time,) or (time, dims)."""

    def sample(self, n: int, random_state: int | np.random.Generator | None = None) -> np.ndarray:
        """Draw from the posterior of every bin, before calibration. Draws of different bins are independent.

        Parameters
        ----------
        n : int
            Number of draws.
        random_state : int or Generator, optional

        Returns
        -------
        (n, time) or (n, time, dims)
        """
        check_integer("n", n, 1)
        check_random_state(random_state)
        size = 16.0 * n * max(math.prod(self.shape), 1)
        check_memory(size, f"n={n}: draws of all bins", "draw fewer, or from fewer bins", "n")
        if isinstance(random_state, np.random.RandomState):
            return self._draw(n, np.random.default_rng(random_state.randint(2**31)))
        return self._draw(n, np.random.default_rng(random_state))

    @abstractmethod
    def _draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return draws from every bin, as `sample`."""

    def _time_summary(self) -> list[tuple[str, str]]:
        """Return the number of bins and their time."""
        time = f"{self.time[0]:.10g} to {self.time[-1]:.10g} s" if len(self.time) else "none"
        return [("bins", str(len(self.time))), ("time", time)]

    @abstractmethod
    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of a table, (time,) each."""

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
