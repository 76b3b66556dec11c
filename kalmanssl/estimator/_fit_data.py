"""The data of a fit: activity, a second view and behavior side by side, as columns of the same segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kalmanssl.estimator._behavior import Behavior
from kalmanssl.estimator._inputs import step_activity

__all__ = ["FitData"]


class FitData(NamedTuple):
    """Contiguous segments of all that a model is fitted on.

    Attributes
    ----------
    activity : list of (time, features) float32
        Normalized.
    behavior : Behavior or None
    view : list of (time, features) float32, or None
        The second view, normalized.
    """

    activity: list[np.ndarray]
    behavior: Behavior | None = None
    view: list[np.ndarray] | None = None

    @property
    def segments(self) -> list[np.ndarray]:
        """Segments (time, columns) with the activity first, then the second view, and the behavior last."""
        behavior = None if self.behavior is None else self.behavior.segments
        parts = [part for part in (self.activity, self.view, behavior) if part is not None]
        if len(parts) == 1:
            return self.activity
        return [np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)]

    @property
    def n_active(self) -> int:
        """Number of columns of the activity."""
        return self.activity[0].shape[1]

    @property
    def n_features(self) -> int:
        """Number of columns that are not behavior."""
        return self.n_active + (0 if self.view is None else self.view[0].shape[1])

    def steps(self, segment: np.ndarray, bins_per_step: int, normalizations: Sequence[str]) -> np.ndarray:
        """Return the columns of a segment at every step: activity over the bins of the step, behavior of its last bin.

        Parameters
        ----------
        segment : (time, columns)
            A part of one of the `segments`.
        bins_per_step : int
        normalizations : sequence of str
            Normalizations of the activity and, if there is one, of the second view.
        """
        borders = [0, self.n_active, self.n_features]
        parts = [
            step_activity(segment[:, start:stop], bins_per_step, normalization)
            for start, stop, normalization in zip(borders, borders[1:], normalizations, strict=False)
        ]
        parts += [] if self.behavior is None else [segment[:, self.n_features :]]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
