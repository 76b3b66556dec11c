"""Positions in x and y on a track, projected to the distance along it."""

from __future__ import annotations

from typing import Any

from kalmanssl.data._principal_curve import find_track
from kalmanssl.data._pynapple import is_pynapple
from kalmanssl.data._track import LinearPosition, Track
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_floats

__all__ = ["linearize_track"]


def linearize_track(
    position: Any, waypoints: Any = None, edges: Any = None, gap: float | None = None
) -> LinearPosition:
    """Project positions in x and y on a track to the distance along it.

    Every position is projected to the nearest point of the track, independently of the positions before and after it.
    Where two arms are closer together than the errors of the tracker, single positions can therefore be assigned to the
    wrong arm; smooth the positions before. Tracks without branches can be found from the positions, as their middle
    line; for mazes give the way points of the arms. `Recording.linearize` replaces a behavior in this way.

    Parameters
    ----------
    position : (time, 2), or TsdFrame of pynapple
        NaN where unknown.
    waypoints : Track, (points, 2), or dict of (points, 2), optional
        The track, in the unit of the position: points on it in order, or those of each arm by its name. By default a
        principal curve of the positions. A loop ends where it begins.
    edges : sequence of (int, int), optional
        Pairs of numbers of way points that are joined, for tracks with branches in one array.
    gap : float, optional
        Length between two arms on the coordinate, by default a tenth of the length of all arms.

    Returns
    -------
    LinearPosition
        The distance along the track and from it, the arm, and the track, for other positions (`Track.project`).

    Raises
    ------
    InputError
        If positions or way points are not points in the plane, an edge has no such way point, or without way points
        the positions branch, fill an area, or are too few.

    Examples
    --------
    >>> import numpy as np
    >>> from kalmanssl.data import linearize_track
    >>> found = linearize_track([[0.1, 0.5], [1.2, 2.0]], waypoints=[[0, 0], [0, 2], [3, 2]])
    >>> found.distance, found.offset
    (array([0.5, 3.2]), array([0.1, 0. ]))
    """
    xy = as_floats("position", position.values if is_pynapple(position, "TsdFrame") else position)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise InputError(f"position must be (time, 2), x and y; got shape {xy.shape}", parameter="position")
    if waypoints is None:
        if edges is not None:
            raise InputError("edges join way points: give waypoints, too", parameter="edges")
        return find_track(xy).project(xy)
    track = waypoints if isinstance(waypoints, Track) else Track.of(waypoints, edges, gap)
    return track.project(xy)
