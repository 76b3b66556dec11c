"""Tracks of one or several arms, and the projection of positions in x and y to the distance along them."""

from __future__ import annotations

import csv
import itertools
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.paths import as_path
from kalmanssl.utils.validation import check_not_negative, short_repr

__all__ = ["LinearPosition", "Track"]

_GAP = 0.1  # of the length of all arms
_CHUNK = 20_000  # positions that are projected at a time


@dataclass(frozen=True)
class LinearPosition:
    """Positions along a track.

    Attributes
    ----------
    distance : (time,)
        Distance along the track from its beginning, in the unit of the position; NaN where the position is unknown.
        The arms of a track follow each other with gaps between them.
    offset : (time,)
        Distance of the position from the track.
    arm : (time,) int
        Number of the arm; -1 where the position is unknown.
    track : Track
    """

    distance: np.ndarray
    offset: np.ndarray
    arm: np.ndarray
    track: Track


@dataclass(frozen=True, eq=False)
class Track:
    """A track in the plane: arms that are lines through way points.

    Attributes
    ----------
    arms : dict of (points, 2)
        The way points of each arm in order, in the unit of the position. Their order is that of the coordinate.
    gap : float
        Length on the coordinate between two arms, unless the second begins where the first ends. It keeps places apart
        that are distant from each other on the track. By default a tenth of the length of all arms.
    """

    arms: dict[str, np.ndarray]
    gap: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.arms, Mapping) or not self.arms:
            raise InputError(
                f"waypoints of arms must be a dict with at least one; got {short_repr(self.arms)}",
                parameter="waypoints",
            )
        if self.gap is not None:
            check_not_negative("gap", self.gap)
        arms = {str(name): _checked_points(str(name), points) for name, points in self.arms.items()}
        object.__setattr__(self, "arms", arms)

    @classmethod
    def of(cls, waypoints: Any, edges: Any = None, gap: float | None = None) -> Track:
        """Make a track from way points.

        Parameters
        ----------
        waypoints : (points, 2), or dict of (points, 2)
            The way points of the only arm in order, or those of each arm by its name.
        edges : sequence of (int, int), optional
            Pairs of numbers of way points that are joined. Arms then begin and end where a point has another number of
            edges than two, and have the names "arm 1", "arm 2" and so on, in the order of their first edge.
        gap : float, optional

        Raises
        ------
        InputError
            If way points are not finite, an arm has no length, or an edge has no such way point.
        """
        if isinstance(waypoints, Mapping):
            if edges is not None:
                raise InputError("edges are for way points in one array: leave them out", parameter="edges")
            return cls(dict(waypoints), gap)
        points = _checked_points("", waypoints, least=2, may_repeat=edges is not None)
        if edges is None:
            return cls({"track": points}, gap)
        chains = _chains(_checked_edges(edges, len(points)))
        return cls({f"arm {number}": points[chain] for number, chain in enumerate(chains, start=1)}, gap)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str], gap: float | None = None) -> Track:
        """Read a track from a table with the columns x and y, and arm for the name of the arm if there are several.

        Raises
        ------
        InputError
            If the file or a column is missing, or a value is not a number.
        """
        file = as_path("waypoints", path)
        try:
            if not stat.S_ISREG(file.stat().st_mode):  # reading a pipe or a device could block
                raise OSError("it is not a file")
            with file.open(newline="", encoding="utf-8-sig") as opened:
                rows = [{str(key).strip(): value for key, value in row.items()} for row in csv.DictReader(opened)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise InputError(f"waypoints {str(file)[:200]} cannot be read: {reason}", parameter="waypoints") from error
        if not rows or not {"x", "y"} <= set(rows[0]):
            raise InputError(
                f"waypoints {file} must be a table with the columns x and y, and arm if there are several arms",
                parameter="waypoints",
            )
        arms: dict[str, list[tuple[float, float]]] = {}
        for number, row in enumerate(rows, start=2):
            try:
                point = (float(row["x"] or ""), float(row["y"] or ""))
            except ValueError as error:
                message = f"waypoints {file} has no numbers in line {number}: repair the table"
                raise InputError(message, parameter="waypoints") from error
            arms.setdefault((row.get("arm") or "track").strip(), []).append(point)
        return cls({name: np.array(points) for name, points in arms.items()}, gap)

    @property
    def lengths(self) -> np.ndarray:
        """Length of each arm, (arms,)."""
        return np.array([np.linalg.norm(np.diff(points, axis=0), axis=1).sum() for points in self.arms.values()])

    @property
    def starts(self) -> np.ndarray:
        """Coordinate at which each arm begins, (arms,)."""
        lengths, points = self.lengths, list(self.arms.values())
        gap = _GAP * float(lengths.sum()) if self.gap is None else self.gap
        joined = [bool(np.allclose(one[-1], two[0])) for one, two in itertools.pairwise(points)]
        gaps = [0.0 if is_joined else gap for is_joined in joined]
        return np.concatenate([[0.0], np.cumsum(lengths[:-1] + gaps)])

    @property
    def length(self) -> float:
        """Largest coordinate: the length of all arms and of the gaps between them."""
        return float(self.starts[-1] + self.lengths[-1])

    @property
    def is_loop(self) -> bool:
        """Whether the track has one arm that ends where it begins; its coordinate has the period `length`."""
        points = next(iter(self.arms.values()))
        return len(self.arms) == 1 and bool(np.allclose(points[0], points[-1]))

    def project(self, position: Any) -> LinearPosition:
        """Project positions (time, 2) to the nearest points of the track.

        Raises
        ------
        InputError
            If the positions are not (time, 2).
        """
        xy = as_floats("position", position)
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise InputError(f"position must be (time, 2), x and y; got shape {xy.shape}", parameter="position")
        begins = np.concatenate([points[:-1] for points in self.arms.values()])
        vectors = np.concatenate([np.diff(points, axis=0) for points in self.arms.values()])
        squared = (vectors**2).sum(axis=1)
        arm_of = np.repeat(np.arange(len(self.arms)), [len(points) - 1 for points in self.arms.values()])
        before = [
            np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))[:-1]])
            for p in self.arms.values()
        ]
        starts = self.starts[arm_of] + np.concatenate(before)
        distance, offset = np.full(len(xy), np.nan), np.full(len(xy), np.nan)
        arm = np.full(len(xy), -1)
        known = np.flatnonzero(np.isfinite(xy).all(axis=1))
        for first in range(0, len(known), _CHUNK):
            rows = known[first : first + _CHUNK]
            away = xy[rows, None] - begins
            share = np.clip((away * vectors).sum(axis=2) / squared, 0.0, 1.0)
            off = np.linalg.norm(away - share[..., None] * vectors, axis=2)
            nearest = off.argmin(axis=1)
            each = np.arange(len(rows))
            distance[rows] = starts[nearest] + share[each, nearest] * np.sqrt(squared[nearest])
            offset[rows], arm[rows] = off[each, nearest], arm_of[nearest]
        if self.is_loop:
            distance = np.where(distance >= self.length, 0.0, distance)
        return LinearPosition(distance, offset, arm, self)

    def locate(self, distance: Any) -> np.ndarray:
        """Return the points (time, 2) of the track at distances (time,); those in a gap are at the nearest arm."""
        values = as_floats("distance", distance)
        coordinates, points = [], []
        for start, arm in zip(self.starts, self.arms.values(), strict=True):
            steps = np.linalg.norm(np.diff(arm, axis=0), axis=1)
            coordinates.append(start + np.concatenate([[0.0], np.cumsum(steps)]))
            points.append(arm)
            if len(points) > 1 and coordinates[-1][0] > coordinates[-2][-1]:  # nothing lies between two arms
                middle = 0.5 * (coordinates[-1][0] + coordinates[-2][-1])
                coordinates[-2] = np.append(coordinates[-2], middle)
                points[-2] = np.concatenate([points[-2], points[-2][-1:]])
                coordinates[-1] = np.concatenate([[middle], coordinates[-1]])
                points[-1] = np.concatenate([arm[:1], arm])
        at, xy = np.concatenate(coordinates), np.concatenate(points)
        return np.stack([np.interp(values, at, column) for column in xy.T], axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """Return the track as lists, numbers and text, for JSON."""
        return {"arms": {name: points.tolist() for name, points in self.arms.items()}, "gap": self.gap}


def _checked_points(name: str, points: Any, least: int = 2, may_repeat: bool = False) -> np.ndarray:
    """Return way points (points, 2) as floats, without repeated ones."""
    values = as_floats("waypoints", points)
    where = f" of arm {name!r:.60}" if name else ""
    if values.ndim != 2 or values.shape[1:] != (2,) or len(values) < least:
        raise InputError(
            f"waypoints{where} must be at least two points (points, 2), x and y; got shape {values.shape}",
            parameter="waypoints",
        )
    if not np.isfinite(values).all():
        raise InputError(f"waypoints{where} has NaN or infinite coordinates: give every point", parameter="waypoints")
    if may_repeat:
        return values
    kept = values[np.concatenate([[True], (np.diff(values, axis=0) != 0).any(axis=1)])]
    if len(kept) < 2:
        raise InputError(f"waypoints{where} has no length: its points are all the same", parameter="waypoints")
    return kept


def _checked_edges(edges: Any, n_points: int) -> list[tuple[int, int]]:
    """Return pairs of numbers of way points."""
    pairs = as_floats("edges", edges)
    valid = pairs.ndim == 2 and pairs.shape[1] == 2 and len(pairs) > 0 and bool((pairs == np.round(pairs)).all())
    if not valid or pairs.min() < 0 or pairs.max() >= n_points or (pairs[:, 0] == pairs[:, 1]).any():
        raise InputError(
            f"edges must be pairs of different numbers of way points, 0 to {n_points - 1}; got {short_repr(edges)}",
            parameter="edges",
        )
    return list({frozenset((int(a), int(b))): (int(a), int(b)) for a, b in pairs[::-1]}.values())[::-1]


def _chains(edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the chains of way points between ends and junctions, in the order of their first edge."""
    neighbors: dict[int, list[int]] = {}
    for a, b in edges:
        neighbors.setdefault(a, []).append(b)
        neighbors.setdefault(b, []).append(a)
    left = {frozenset(edge) for edge in edges}
    chains = []
    for edge in edges:
        if frozenset(edge) not in left:
            continue
        left.discard(frozenset(edge))
        chain = list(edge)
        for _ in range(2):  # extend the end, then the beginning
            while len(neighbors[chain[-1]]) == 2:
                onward = [n for n in neighbors[chain[-1]] if frozenset((chain[-1], n)) in left]
                if not onward:
                    break
                left.discard(frozenset((chain[-1], onward[0])))
                chain.append(onward[0])
            chain.reverse()
        chains.append(chain)
    return chains
