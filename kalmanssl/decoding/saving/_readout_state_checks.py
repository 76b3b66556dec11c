"""Checks of the state of a readout, and of grids, that were read from a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kalmanssl.decoding.grids import Periods, group_dimensions
from kalmanssl.utils.stored_values import StoredValues, is_number

__all__ = ["StoredGrid", "check_readout", "stored_grid", "stored_grids", "stored_periods"]

_MAX_CELLS = 10**7  # of a grid; a histogram of one bin over more would not fit into memory with others


class StoredGrid(NamedTuple):
    """A grid in a state: (start, width, number of cells, period, whether the cells are labels) of each axis."""

    axes: tuple[tuple[float, float, int, float | None, bool], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis."""
        return tuple(axis[2] for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)


def stored_periods(s: StoredValues, name: str) -> Periods:
    """Return the periods in a state, one for each dimension."""
    requirement = "a list of positive numbers or null"
    return tuple(s.get(name, lambda value: isinstance(value, list | tuple) and _are_periods(value), requirement))


def stored_grids(s: StoredValues, periods: Periods) -> list[StoredGrid]:
    """Return the grids in a state, one for each group of dimensions of the behavior."""
    groups = group_dimensions(len(periods))
    entries = s.entries("grids", len(groups))
    return [stored_grid(entries, str(number), [periods[dim] for dim in dims]) for number, dims in enumerate(groups)]


def stored_grid(s: StoredValues, name: str, periods: Sequence[float | None]) -> StoredGrid:
    """Return a grid in a state, whose axes have these periods."""
    axes = []
    for axis, period in zip(s.groups(name, len(periods)), periods, strict=True):
        start = axis.number_in("start", -1e300, 1e300, "a finite number")
        width = axis.number_in("width", 1e-300, 1e300, "positive")
        count = axis.integer("n_cells", 1, _MAX_CELLS)
        found = axis.get("period", lambda value: value is None or _is_period(value), "positive, or null")
        if found != period:
            raise axis.error("period", "that of the decoder", found)
        if period is not None and (start != 0 or not math.isclose(width * count, period, rel_tol=1e-6)):
            raise axis.error("width", "the period over the number of cells", width)
        axes.append((start, width, count, period, axis.flag("nominal")))
    grid = StoredGrid(tuple(axes))
    if grid.size > _MAX_CELLS:
        raise s.error(name, f"a grid of at most {_MAX_CELLS} cells", grid.shape)
    return grid


def check_readout(
    s: StoredValues, features: int, inputs: int, periods: Periods, grids: Sequence[StoredGrid], regressor: str
) -> None:
    """Check the state of a readout.

    Parameters
    ----------
    s : StoredValues
    features : int
        Number of latents of a bin.
    inputs : int
        Number of features that it receives: the latents and their averages.
    periods : tuple of float or None
    grids : sequence of StoredGrid
        Those of the decoder.
    regressor : str
        Name of the kind of readout.
    """
    if regressor == "linear":
        _check_periods(s, periods)
        columns = sum(1 if period is None else 2 for period in periods)
        s.array("weight", (columns, inputs))
        s.array("offset", (columns,))
        residual = s.array("residual", (columns, columns))
        if not (np.diag(residual) >= 0).all():
            raise s.error("residual", "a covariance", residual.tolist())
        return
    networks = s.group("networks") if regressor == "ensemble" else s
    _check_networks(networks, inputs, periods, grids)
    if regressor == "ensemble":
        _check_neighbors(s.group("neighbors"), features, inputs, periods, grids)


def _check_networks(s: StoredValues, inputs: int, periods: Periods, grids: Sequence[StoredGrid]) -> None:
    _check_periods(s, periods)
    s.choice("posterior", ("mean", "quadrature", "samples"))
    s.integer("n_samples", 1)
    settings = s.group("settings")
    count, hidden = settings.integer("n_networks", 1), settings.integer("hidden", 1)
    sizes = [inputs, hidden, hidden, sum(grid.size for grid in grids)]
    weights, biases = s.entries("weights", 3), s.entries("biases", 3)
    for layer in range(3):
        for entries, rows in ((weights, sizes[layer]), (biases, 1)):
            array = entries.array(str(layer), (count, rows, sizes[layer + 1]))
            if array.dtype != np.float32:
                raise entries.error(f"layer {layer}", "in single precision", str(array.dtype))
    center = s.array("center", (inputs,))
    smallest = max(1e-300, float(np.abs(center).max(initial=0.0)) * 1e-18)  # the ratio is in single precision
    s.number_in("scale", smallest, 1e300, f"at least {smallest:g}")
    if s.array("inputs", (count, 1, inputs)).dtype != np.float32:
        raise s.error("inputs", "in single precision", str(s.values["inputs"].dtype))
    s.integer("seed", 0, 2**62)
    _check_same_grids(s, periods, grids)


def _check_neighbors(
    s: StoredValues, features: int, inputs: int, periods: Periods, grids: Sequence[StoredGrid]
) -> None:
    _check_periods(s, periods)
    _check_same_grids(s, periods, grids)
    reference = s.array("reference", (None, None))
    if 0 in reference.shape or np.linalg.norm(reference, axis=1).max() > 1.001:
        raise s.error("reference", "at least one direction, of length 1 or less", reference.shape)
    center = s.array("center", (None,))
    if len(center) not in (features, inputs):
        raise s.error("center", f"of {features} or {inputs} features", center.shape)
    if "components" in s:
        s.array("components", (len(center), reference.shape[1]))
    elif len(center) != reference.shape[1]:
        raise s.error("reference", f"of {len(center)} features", reference.shape)
    votes = s.array("votes", (len(reference),), minimum=0.0)
    if not votes.sum() > 0:
        raise s.error("votes", "positive for some bins", votes.sum())
    cells = s.entries("cells", len(grids))
    for number, grid in enumerate(grids):
        array = cells.array(str(number), (len(reference),), "i", minimum=0)
        if array.max() >= grid.size:
            raise cells.error(str(number), f"below {grid.size}, the number of cells", array.max())


def _check_same_grids(s: StoredValues, periods: Periods, grids: Sequence[StoredGrid]) -> None:
    found = stored_grids(s, periods)
    if found != list(grids):
        raise s.error("grids", "those of the decoder", found)


def _check_periods(s: StoredValues, periods: Periods) -> None:
    found = stored_periods(s, "periods")
    if found != periods:
        raise s.error("periods", f"{periods} as in the settings", found)


def _are_periods(values: Sequence[Any]) -> bool:
    return len(values) > 0 and all(one is None or _is_period(one) for one in values)


def _is_period(value: Any) -> bool:
    return is_number(value) and 1e-300 < value < 1e300
