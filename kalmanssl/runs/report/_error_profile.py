"""Errors of a decoder by time and by place, and the segments with the largest errors, for the figures of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kalmanssl.decoding import DecodedPosition

__all__ = ["WORST_SECONDS", "error_profile", "map_arrays"]

_BLOCKS = 60  # of time, at most
_BLOCK_SECONDS = 5.0  # at least
_CELLS = 30  # along a behavior of one dimension
_MAP_CELLS = 16  # along each of two dimensions
_LEAST = 10  # bins in a block or cell
_MOST_WORST = 3
WORST_SECONDS = 4.0
_MOMENTS = 3  # with a region in the map
_MAP_SECONDS = 8.0


def error_profile(
    decoded: DecodedPosition, truth: np.ndarray, runs: np.ndarray | None, bin_size: float
) -> dict[str, np.ndarray]:
    """Return medians of the error over blocks of time and over cells of the behavior, and the worst segments.

    Parameters
    ----------
    decoded : DecodedPosition
    truth : (time,) or (time, dims)
        NaN where unknown; known in some bins.
    runs : (time,) bool or None
        In which bins the animal runs. Cells and segments are of these bins if there are any.
    bin_size : float
        Seconds.

    Returns
    -------
    dict
        `block_time` and `block_error` (blocks, 2): the error while the animal runs and at rest; without running, all
        bins are in the first column. `place` and `place_error` (cells, 3): quartiles of the error in one dimension;
        `map_edges` (2, cells + 1) and `map_error` (cells, cells) in two. `worst_time` (segments, bins), `worst_error`
        (segments,), the mean error of their chosen bins, and `worst_mean`, `worst_lower`, `worst_upper` and
        `worst_truth` (segments, bins, dims). NaN where there are few bins.
    """
    values = np.asarray(truth, dtype=float).reshape(len(truth), -1)
    error = np.linalg.norm(decoded.error(truth).reshape(values.shape), axis=1)
    known = np.isfinite(error)
    has_runs = runs is not None and bool((runs & known).any())
    chosen = known & runs if has_runs and runs is not None else known
    rest = known & ~chosen
    arrays = _by_time(decoded.time, error, [chosen, rest])
    if values.shape[1] == 1:
        arrays |= _by_place(values[chosen, 0], error[chosen])
    elif values.shape[1] == 2:
        arrays |= _by_cell(values[chosen], error[chosen])
    return arrays | _worst_segments(decoded, values, error, chosen, bin_size)


def _by_time(time: np.ndarray, error: np.ndarray, groups: list[np.ndarray]) -> dict[str, np.ndarray]:
    n_blocks = int(np.clip((time[-1] - time[0]) / _BLOCK_SECONDS, 1, _BLOCKS))
    edges = np.linspace(time[0], time[-1] + 1e-9, n_blocks + 1)
    block = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, n_blocks - 1)
    medians = np.full((n_blocks, len(groups)), np.nan)
    for number, group in enumerate(groups):
        for one in np.unique(block[group]):
            here = error[group & (block == one)]
            if len(here) >= _LEAST:
                medians[one, number] = np.median(here)
    return {"block_time": (edges[:-1] + edges[1:]) / 2, "block_error": medians}


def _by_place(place: np.ndarray, error: np.ndarray) -> dict[str, np.ndarray]:
    low, high = np.quantile(place, [0.001, 0.999])
    values = np.unique(place)
    if 1 < len(values) <= _CELLS:  # behavior that was rounded: a cell for each value
        between = (values[:-1] + values[1:]) / 2
        edges = np.concatenate([[2 * values[0] - between[0]], between, [2 * values[-1] - between[-1]]])
    else:
        edges = np.linspace(low, high if high > low else low + 1.0, _CELLS + 1)
    n_cells = len(edges) - 1
    cell = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, n_cells - 1)
    quartiles = np.full((n_cells, 3), np.nan)
    for one in np.unique(cell):
        here = error[cell == one]
        if len(here) >= _LEAST:
            quartiles[one] = np.quantile(here, [0.25, 0.5, 0.75])
    return {"place": (edges[:-1] + edges[1:]) / 2, "place_error": quartiles}


def _by_cell(place: np.ndarray, error: np.ndarray) -> dict[str, np.ndarray]:
    low, high = np.quantile(place, [0.001, 0.999], axis=0)
    high = np.where(high > low, high, low + 1.0)
    cell = np.clip(((place - low) / (high - low) * _MAP_CELLS).astype(int), 0, _MAP_CELLS - 1)
    medians = np.full((_MAP_CELLS, _MAP_CELLS), np.nan)
    for x, y in np.unique(cell, axis=0):
        here = error[(cell == (x, y)).all(axis=1)]
        if len(here) >= _LEAST:
            medians[x, y] = np.median(here)
    return {"map_edges": np.linspace(low, high, _MAP_CELLS + 1).T, "map_error": medians}


def _worst_segments(
    decoded: DecodedPosition, truth: np.ndarray, error: np.ndarray, chosen: np.ndarray, bin_size: float
) -> dict[str, np.ndarray]:
    """Return the segments without a gap that have the largest mean error over the chosen bins; they do not overlap."""
    time, count = decoded.time, max(2, round(WORST_SECONDS / bin_size))
    if len(time) < count:
        return {}
    total = np.concatenate([[0.0], np.cumsum(np.where(chosen, error, 0.0))])
    bins = np.concatenate([[0], np.cumsum(chosen)])
    is_whole = time[count - 1 :] - time[: len(time) - count + 1] < (count - 0.5) * bin_size
    enough = bins[count:] - bins[:-count] >= max(2, count // 4)
    mean = np.where(
        is_whole & enough, (total[count:] - total[:-count]) / np.maximum(bins[count:] - bins[:-count], 1), -1
    )
    starts: list[int] = []
    largest: list[float] = []
    while len(starts) < _MOST_WORST and mean.max(initial=-1.0) >= 0:
        starts.append(int(mean.argmax()))
        largest.append(float(mean.max()))
        mean[max(0, starts[-1] - count + 1) : starts[-1] + count] = -1.0
    if not starts:
        return {}
    rows = np.array(starts)[:, None] + np.arange(count)
    lower, upper = (end.reshape(truth.shape) for end in decoded.interval(decoded.level))
    return {
        "worst_time": time[rows],
        "worst_error": np.array(largest),
        "worst_mean": decoded.mean.reshape(truth.shape)[rows],
        "worst_lower": lower[rows],
        "worst_upper": upper[rows],
        "worst_truth": truth[rows],
    }


def map_arrays(decoded: DecodedPosition, excerpt: np.ndarray) -> dict[str, np.ndarray]:
    """Return the regions of a few bins of the excerpt for the map of a behavior of two dimensions.

    Parameters
    ----------
    decoded : DecodedPosition
    excerpt : (bins,) int
        Numbers of its bins.

    Returns
    -------
    dict
        `moments`, (moments,) int, numbers of bins within the excerpt; `regions`, (moments, x, y) bool, the cells of the
        highest-density region at the level of the intervals; `region_x` and `region_y`, centers of the cells. Empty for
        other behavior.
    """
    if len(decoded.grids) != 1 or decoded.points.shape[1] != 2 or any(decoded.periods):
        return {}
    time = decoded.time[excerpt]
    middle = len(excerpt) // 2
    count = int(np.searchsorted(time, time[middle] + _MAP_SECONDS) - middle)
    moments = middle + np.linspace(0, max(count - 1, 0), _MOMENTS + 2).round().astype(int)[1:-1]
    region = decoded[excerpt[moments]].region().inside  # type: ignore[union-attr]
    return {
        "moments": moments,
        "regions": region.values,
        "region_x": region.x.values,
        "region_y": region.y.values,
    }
