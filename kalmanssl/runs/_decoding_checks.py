"""Checks of the settings of a decoder before the model is fitted."""

from __future__ import annotations

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.runs._behavior import longest_constant
from kalmanssl.runs._labels import check_label_settings, consists_of_labels
from kalmanssl.runs._running import where_running
from kalmanssl.runs._seeds import check_seeds
from kalmanssl.runs._settings import RunSettings
from kalmanssl.utils.validation import check_choice, check_condition, check_positive

__all__ = ["DECODERS", "check_decoding"]

DECODERS = ("ensemble", "mlp", "linear")
_FROZEN = 0.95  # share of the tracked bins with one value without a break from which on a behavior is refused


def check_decoding(settings: RunSettings, training: Recording, behavior: str | None) -> None:
    """Check the settings of the decoder before the model is fitted, which takes much longer.

    Raises
    ------
    InputError
        If a setting is out of range, or if there is no bin to fit the decoder on.
    """
    check_seeds(settings.seeds)
    if settings.level is not None:
        check_condition("level", settings.level, 0 < settings.level < 1, "between 0 and 1, such as 0.95")
    if settings.decoder is not None:
        check_choice("decoder", settings.decoder, DECODERS)
    if settings.period is not None:
        check_positive("period", settings.period)
    if behavior is None:
        return
    position = training.behavior[behavior]
    if consists_of_labels(settings, position):
        check_label_settings(settings, behavior, position)
        return
    if not np.isfinite(position).any():
        raise InputError(
            f"behavior {behavior!r} has no known value in the fitted part: fit a longer part, or give 'none'",
            parameter="behavior",
        )
    share, first, last = longest_constant(position)
    if share >= _FROZEN:
        at = position[first] if position.ndim == 1 else tuple(position[first].tolist())
        raise InputError(
            f"behavior {behavior!r} has the same value, {at}, for {100 * share:.0f} % of the tracked time of the "
            f"fitted part, from {training.time[first]:.7g} to {training.time[last]:.7g} s: the tracker may be frozen; "
            "fit another part, or set the behavior to NaN where it is unknown",
            parameter="behavior",
        )
    where = where_running(settings, training, behavior)
    if where is not None and not where.any():
        name = "end_zones" if settings.end_zones else "min_speed"
        raise InputError(
            f"{name}={getattr(settings, name)}: the animal never runs in the fitted part; {behavior} ranges from "
            f"{np.nanmin(position):.4g} to {np.nanmax(position):.4g}",
            parameter=name,
        )
