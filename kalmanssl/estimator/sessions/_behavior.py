"""Behavior of several sessions as features by which their latents are matched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.estimator._behavior import Behavior, behavior_columns, behavior_of_piece

__all__ = ["SessionBehavior", "session_features"]

_HALF_WIDTH = 0.25  # s: the displacement is that from so long before a bin to so long after it
_LARGEST = 3.0  # displacements are limited to this many standard deviations: directions count, not speeds


class SessionBehavior(NamedTuple):
    """Behavior of several sessions.

    Attributes
    ----------
    features : dict of str to (time, features)
        Features of every bin by the name of the session, NaN where they are unknown.
    are_labels : bool
        Whether the behavior consists of labels.
    """

    features: dict[str, np.ndarray]
    are_labels: bool


def session_features(recordings: Sequence[Recording], y: Any, period: Any) -> SessionBehavior:
    """Return features of the behavior of sessions.

    Features are the standardized behavior and its displacement from shortly before to shortly after the bin, since
    cells often depend on the direction of movement. Angles are embedded as cosine and sine, and labels as indicators
    without displacement.

    Parameters
    ----------
    recordings : sequence of Recording
        Recordings of several sessions.
    y : name of a behavior, or a list with one array of behavior or labels for each recording
    period : float or sequence of float or None, optional
        Period of circular behavior, one per dimension.

    Raises
    ------
    InputError
        If `y` does not have the bins of the recordings, or different kinds of behavior.
    """
    given = [y] * len(recordings) if isinstance(y, str) else list(y)
    if len(given) != len(recordings):
        raise InputError(
            f"y has {len(given)} entries and X {len(recordings)} recordings: give one behavior for each", parameter="y"
        )
    pieces = [
        behavior_of_piece(f"y[{number}]", one, part, len(one))
        for number, (one, part) in enumerate(zip(recordings, given, strict=True))
    ]
    if len({piece.shape[1:] for piece in pieces}) > 1:
        raise InputError(
            "y has different numbers of dimensions in the recordings: give the same in each", parameter="y"
        )
    columns, kinds = behavior_columns(np.concatenate(pieces), period)
    features = Behavior([], kinds).embed(columns)
    are_labels = not all(isinstance(kind, str) for kind in kinds)
    if not are_labels:
        features = np.concatenate([features, _displacement(recordings, features)], axis=1)
    found: dict[str, list[np.ndarray]] = {}
    for one, part in zip(recordings, np.split(features, np.cumsum([len(r) for r in recordings])[:-1]), strict=True):
        found.setdefault(one.session, []).append(part)
    return SessionBehavior({name: np.concatenate(parts) for name, parts in found.items()}, are_labels)


def _displacement(recordings: Sequence[Recording], values: np.ndarray) -> np.ndarray:
    """Return the displacement around each bin in the recordings, in standard deviations."""
    moved = np.empty_like(values)
    first = 0
    for one in recordings:
        half = max(1, round(_HALF_WIDTH / one.bin_size))
        for segment in one.segments():
            bins = np.arange(segment.start, segment.stop) + first
            later, earlier = (np.clip(bins + shift, bins[0], bins[-1]) for shift in (half, -half))
            moved[bins] = values[later] - values[earlier]
        first += len(one)
    sd = float(np.nanstd(moved))
    return np.clip(moved / sd, -_LARGEST, _LARGEST) if sd > 0 else moved
