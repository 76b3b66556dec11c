"""The data of a fit: activity and behavior side by side, as columns of the same segments."""

from __future__ import annotations

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
    """

    activity: list[np.ndarray]
    behavior: Behavior | None = None

    @property
    def segments(self) -> list[np.ndarray]:
        """Segments (time, columns) with the activity first and the behavior last."""
        if self.behavior is None:
            return self.activity
        return [np.concatenate(parts, axis=1) for parts in zip(self.activity, self.behavior.segments, strict=True)]

    @property
    def n_features(self) -> int:
        """Number of columns that are not behavior."""
        return self.activity[0].shape[1]

    def steps(self, segment: np.ndarray, bins_per_step: int, normalization: str) -> np.ndarray:
        """Return the columns of a segment at every step: activity over the bins of the step, behavior of its last bin.

        Parameters
        ----------
        segment : (time, columns)
            A part of one of the `segments`.
        bins_per_step : int
        normalization : str
        """
        n = self.n_features
        activity = step_activity(segment[:, :n], bins_per_step, normalization)
        return activity if self.behavior is None else np.concatenate([activity, segment[:, n:]], axis=1)
