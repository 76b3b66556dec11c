"""The held-out gain of a model with its standard error, in numbers and in words."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Gain", "gain_line", "gain_text", "gain_values", "held_out_gain"]


class Gain(NamedTuple):
    """How much better the past predicts the latents than their average does, nats per bin, on held-out blocks.

    Attributes
    ----------
    value : float
    error : float
        One standard error over blocks of time; NaN if it is unknown.
    """

    value: float
    error: float

    def __str__(self) -> str:
        return gain_text(self.value, self.error)


def held_out_gain(model: Any) -> Gain | None:
    """Return the gain of a fitted `KalmanSSL`, of the stage of the fit where it is higher; None if nothing is held out.

    The score of an epoch with a `behavior_weight` is the gain plus the weighted log-density of the behavior; the latter
    is left out, and the error is unknown.
    """
    stages = (_stage_gain(model, history) for history in (model.history_, model.noise_history_))
    return max((gain for gain in stages if gain is not None), key=lambda gain: gain.value, default=None)


def _stage_gain(model: Any, history: dict[str, Any]) -> Gain | None:
    """Return the gain of the best epoch of a stage; None if nothing was held out."""
    scores, errors = gain_values(history)
    if not np.isfinite(scores).any():
        return None
    kept = int(np.nanargmax(scores))
    value, error = float(scores[kept]), float(errors[kept])
    if (behavior := history.get("held_out_behavior")) and model.behavior_weight:
        value, error = value - float(model.behavior_weight) * float(behavior[kept]), math.nan
    return Gain(value, error)


def gain_line(model: Any) -> str:
    """Return one line of text about the gain; empty if nothing was held out.

    The stages of the fit compare with the average over other bins, so that both gains are given.
    """
    gain = held_out_gain(model)
    if gain is None:
        return ""
    first, second = (_stage_gain(model, history) for history in (model.history_, model.noise_history_))
    shown = f"{gain} nats per bin"
    if first is not None and second is not None and model.activity_sampling_power > 0:
        shown = f"{second} nats per bin, and {first} in windows with much activity"
    error = "; ± is one standard error over blocks of time" if math.isfinite(gain.error) else ""
    return (
        f"gain of the latents: {shown} (how much better their past predicts them than their average does, "
        f"on held-out blocks of the fitted part{error})"
    )


def gain_values(history: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the held-out scores of the epochs and their standard errors, (epochs,) each; NaN where unknown."""
    scores = np.array(history.get("held_out_score") or [], dtype=float)
    errors = np.array(history.get("held_out_score_error") or [], dtype=float)  # not in runs of earlier versions
    return scores, errors if len(errors) == len(scores) else np.full(len(scores), np.nan)


def gain_text(value: float, error: float) -> str:
    """Return a gain with its standard error, such as "0.97 ± 0.31", or with three digits if that is unknown."""
    if not math.isfinite(value):
        return "–"
    if not math.isfinite(error) or error <= 0:
        return f"{value:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"
