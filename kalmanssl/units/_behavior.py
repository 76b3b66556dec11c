"""What the contribution of a unit is compared with: the latents, or the tracked behavior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kalmanssl.data import Recording, infer_latents
from kalmanssl.errors import InputError
from kalmanssl.estimator import KalmanSSL
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.circular import Periods, embed_circular
from kalmanssl.utils.validation import unknown_name_error

__all__ = ["Target", "behavior_target"]


@dataclass(frozen=True, eq=False)
class Target:
    """The latents with all units (`behavior` is None), or the tracked behavior.

    Attributes
    ----------
    behavior : (bins, dims), optional
        Circular dimensions are replaced by cosine and sine; NaN where unknown.
    periods : tuple of float or None
        Period of each dimension of the behavior before that.
    """

    behavior: np.ndarray | None = None
    periods: Periods = ()

    def embed(self, decoded: Any) -> np.ndarray:
        """Return decoded behavior with circular dimensions replaced by cosine and sine, (bins, dims)."""
        return embed_circular(_as_columns(np.asarray(decoded, dtype=float)), self.periods)

    def score(self, base: np.ndarray, contribution: np.ndarray, is_gradient: bool) -> float:
        """Return the score of a unit, see `unit_importance`.

        Parameters
        ----------
        base : (bins, dims)
            Latents or decoded behavior without the unit.
        contribution : (bins, dims)
            The change by the unit, or its first-order approximation.
        is_gradient : bool
            Whether it is the approximation; the change of the squared error is then approximated, too.
        """
        values = base + contribution if self.behavior is None else self.behavior
        known = np.isfinite(values).all(axis=1) & np.isfinite(contribution).all(axis=1)
        values, base, contribution = values[known], base[known], contribution[known]
        deviation = values - values.mean(axis=0)
        if self.behavior is None:
            change = contribution * deviation
        else:
            change = 2 * contribution * (values - base) - (0 if is_gradient else contribution**2)
        return float(change.sum() / max((deviation**2).sum(), 1e-300))


def behavior_target(recording: Recording, behavior: Any, decoder: Any, model: KalmanSSL, smooth: bool) -> Target:
    """Return the tracked behavior, checked against the output of the decoder."""
    if isinstance(behavior, str):
        if behavior not in recording.behavior:
            raise unknown_name_error("behavior", behavior, recording.behavior)
        behavior = recording.behavior[behavior]
    if not callable(getattr(decoder, "predict", None)):
        raise InputError(f"decoder must have a method predict; got {type(decoder).__name__}", parameter="decoder")
    tracked = _as_columns(as_floats("behavior", behavior))
    decoded = decoder.predict(infer_latents(model, recording, smooth=smooth))
    values = _as_columns(as_floats("decoded behavior", decoded))
    if tracked.shape != values.shape:
        message = f"behavior has shape {tracked.shape} and the decoder predicts {values.shape}: give the same behavior"
        raise InputError(message, parameter="behavior")
    if np.isfinite(tracked).all(axis=1).sum() < 2:
        raise InputError("behavior is NaN in all bins but one: give bins with behavior", parameter="behavior")
    periods = tuple(getattr(decoded, "periods", (None,) * tracked.shape[1]))
    return Target(embed_circular(tracked, periods), periods)


def _as_columns(values: np.ndarray) -> np.ndarray:
    """Return (bins,) as (bins, 1)."""
    return values[:, None] if values.ndim == 1 else values
