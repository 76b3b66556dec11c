"""The middle line of a track without branches, found from the positions of an animal on it.

The positions are counted in small cells, so that pauses have no more weight than runs. The distances between cells
along the track are shortest paths through neighboring cells. A line is drawn through local means of the cells, and the
cells are projected to this line; both steps are repeated a few times, as for a principal curve (Hastie and Stuetzle
1989, J. Am. Stat. Assoc. 84:502).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.data._track import Track
from kalmanssl.errors import InputError

__all__ = ["find_track"]

_CELLS = 60  # along the longer side of the area
_LEAST = 100  # known positions
_ROUNDS = 8
_SMOOTHING = 2.5  # width of a local mean, cells
_BRANCHED, _LOOP = 0.12, 0.8  # shares of the distances from one end at which the track is at two places
_WIDEST = 0.1  # spread of the cells at one distance from an end, of the length of the track


def find_track(position: np.ndarray) -> Track:
    """Find the middle line of a track without branches; a loop ends where it begins.

    A line begins at its end with the smaller x. A loop begins where x is smallest and goes counterclockwise.

    Parameters
    ----------
    position : (time, 2)
        NaN where unknown.

    Raises
    ------
    InputError
        If there are too few positions, they branch, or they fill an area.
    """
    cells, size = _occupied_cells(position)
    links = _neighbors(cells, size)
    first = int(np.lexsort((cells[:, 1], cells[:, 0]))[0])
    ends = [first]
    for _ in range(2):
        ends.append(int(_distances(links, ends[-1]).argmax()))
    start = min(ends[1:], key=lambda cell: tuple(cells[cell]))
    away = _distances(links, start)
    shared, spread = _levels(cells, links, away, size)
    if spread > _WIDEST * float(away.max()):
        raise InputError(
            f"the positions fill an area instead of a track: at one distance from the end they spread by {spread:.3g} "
            "on average; give waypoints, or decode x and y",
            parameter="waypoints",
        )
    if shared >= _LOOP:
        along, period = _around(cells, links, first)
    elif shared > _BRANCHED:
        raise InputError(
            "the positions branch, so that a line cannot be found from them: give waypoints with the arms of the track",
            parameter="waypoints",
        )
    else:
        along, period = away, None
    return Track({"track": _fit_line(cells, along, period, size)})


def _occupied_cells(position: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the mean position in each cell with several positions, (cells, 2), and the size of a cell."""
    known = position[np.isfinite(position).all(axis=1)]
    if len(known) < _LEAST:
        message = f"the track needs at least {_LEAST} known positions, and there are {len(known)}: give waypoints"
        raise InputError(message, parameter="waypoints")
    low, high = np.quantile(known, [0.001, 0.999], axis=0)
    size = float((high - low).max()) / _CELLS
    if not size > 0:
        raise InputError(
            "the positions are all the same, so that there is no track: give waypoints", parameter="waypoints"
        )
    known = known[((known >= low - size) & (known <= high + size)).all(axis=1)]
    _, cell, counts = np.unique(np.floor((known - low) / size), axis=0, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(cell.reshape(-1), column) / counts for column in known.T], axis=1)
    means = means[counts >= max(2.0, 0.05 * float(np.median(counts)))]
    return _largest_part(means, size), size


def _largest_part(cells: np.ndarray, size: float) -> np.ndarray:
    """Return the cells of the largest part of a track; positions far from it are errors of the tracker."""
    from scipy.sparse.csgraph import connected_components

    _, part = connected_components(_neighbors(cells, size), directed=False)
    return cells[part == np.bincount(part).argmax()]


def _neighbors(cells: np.ndarray, size: float) -> Any:
    """Return the distances of cells that are at most three cells apart, as a sparse matrix."""
    from scipy.sparse import csr_array
    from scipy.spatial import cKDTree

    pairs = cKDTree(cells).query_pairs(3.0 * size, output_type="ndarray")
    lengths = np.maximum(np.linalg.norm(cells[pairs[:, 0]] - cells[pairs[:, 1]], axis=1), 1e-9 * size)
    return csr_array((lengths, (pairs[:, 0], pairs[:, 1])), shape=(len(cells), len(cells)))


def _distances(links: Any, start: int) -> np.ndarray:
    """Return the length of the shortest path from one cell to each, (cells,)."""
    from scipy.sparse.csgraph import dijkstra

    return np.asarray(dijkstra(links, directed=False, indices=start))


def _levels(cells: np.ndarray, links: Any, away: np.ndarray, size: float) -> tuple[float, float]:
    """Describe the cells at each distance from one end of the track.

    Returns
    -------
    shared : float
        Share of the distances at which there are cells at two separate places.
    spread : float
        Median over the distances of the root-mean-square distance of the cells at one place from their mean.
    """
    from scipy.sparse.csgraph import connected_components

    level = (away / (3.0 * size)).astype(int)
    counts, spreads = [], []
    for one in range(1, level.max()):  # not at the end that distances are from, nor at the other one
        members = np.flatnonzero(level == one)
        if len(members) == 0:
            continue
        _, part = connected_components(links[members][:, members], directed=False)
        sizes = np.bincount(part)
        largest = cells[members[part == sizes.argmax()]]
        counts.append(int((sizes >= 0.15 * len(members)).sum()))
        spreads.append(float(np.sqrt(((largest - largest.mean(axis=0)) ** 2).sum(axis=1).mean())))
    if not counts:
        return 0.0, 0.0
    return float((np.array(counts) > 1).mean()), float(np.median(spreads))


def _around(cells: np.ndarray, links: Any, first: int) -> tuple[np.ndarray, float]:
    """Return the distance of each cell along a loop from the first one, (cells,), and the length of the loop."""
    from scipy.sparse.csgraph import connected_components

    away = _distances(links, first)
    half = away.max()
    between = np.flatnonzero((away > 0.1 * half) & (away < 0.9 * half))
    _, part = connected_components(links[between][:, between], directed=False)
    largest = np.argsort(-np.bincount(part), kind="stable")[:2]
    sides = [between[part == one] for one in largest]
    if len(sides) < 2:
        raise InputError("the positions on a loop cannot be put in order: give waypoints", parameter="waypoints")
    # With cells of side 0 first, the area that the loop encloses is positive if it goes counterclockwise.
    order = np.concatenate([sides[0][np.argsort(away[sides[0]])], sides[1][np.argsort(-away[sides[1]])]])
    x, y = cells[order].T
    if (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() < 0:
        sides.reverse()
    near = np.argmin([_gaps(cells, side) for side in sides], axis=0)
    return np.where(near == 0, away, 2 * half - away) % (2 * half), 2 * half


def _gaps(cells: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Return the distance of each cell from the nearest cell of one side of a loop, (cells,)."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(cells[side]).query(cells)[0])


def _fit_line(cells: np.ndarray, along: np.ndarray, period: float | None, size: float) -> np.ndarray:
    """Return the points (points, 2) of a line through local means of the cells."""
    for _ in range(_ROUNDS):
        line = _local_means(cells, along, period, _SMOOTHING * size)
        track = Track({"track": line})
        along = track.project(cells).distance
        if period is not None:
            period = track.length
    return line


def _local_means(cells: np.ndarray, along: np.ndarray, period: float | None, width: float) -> np.ndarray:
    """Return local linear fits of x and y to the distance along a line, at distances of one width."""
    low, high = (0.0, period) if period is not None else (float(along.min()), float(along.max()))
    nodes = np.linspace(low, high, max(4, round((high - low) / width) + 1))
    lag = along - nodes[:, None]
    if period is not None:
        lag = (lag + 0.5 * period) % period - 0.5 * period
    weight = np.exp(-0.5 * (lag / width) ** 2)
    total = weight.sum(axis=1)
    mean_lag = (weight * lag).sum(axis=1) / total
    mean = weight @ cells / total[:, None]
    centered = lag - mean_lag[:, None]
    variance = (weight * centered**2).sum(axis=1) / total
    slope = (weight * centered) @ cells / total[:, None] / np.maximum(variance, 1e-3 * width**2)[:, None]
    points = mean - mean_lag[:, None] * slope
    if period is not None:
        points[-1] = points[0]
    return points
