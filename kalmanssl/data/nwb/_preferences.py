"""Order of the series of a file among which nothing but a name decides: what most analyses use comes first."""

from __future__ import annotations

import re

from kalmanssl.utils.measurement_units import long_unit

__all__ = ["activity_order", "behavior_order", "is_background", "is_of_eyes", "is_turned_wheel"]

_EYES = re.compile(r"eye|pupil|gaze", re.IGNORECASE)
# The angle that a wheel has turned in all, without a limit: its position says nothing about the animal.
_TURNED_WHEEL = re.compile(r"wheel_?(position|rotation)", re.IGNORECASE)
_BEHAVIORS = (
    re.compile(r"position|(^|[_/])pos([_/]|$)", re.IGNORECASE),
    re.compile(r"direction|heading|azimuth|orientation", re.IGNORECASE),
    re.compile(r"speed|velocity|(^|[_/])vel([_/]|$)", re.IGNORECASE),
)
_SECONDARY = re.compile(r"accel|energy|lick|raw|timestamp|_times$|unfiltered", re.IGNORECASE)
_BACKGROUND = re.compile(r"neuropil|background|isosbestic|baseline", re.IGNORECASE)
_CORRECTED = re.compile(r"correct|subtract|remov", re.IGNORECASE)  # traces of cells, "NeuropilCorrected"
_TRACES = tuple(
    re.compile(kind, re.IGNORECASE) for kind in (r"df_?over_?f|dff|df_f", r"deconv|event|spike|inferred", r"denoised")
)


def is_of_eyes(path: str) -> bool:
    """Return whether a series is the gaze or the pupil, which few analyses decode."""
    return _EYES.search(path.split("/", 1)[-1]) is not None


def is_turned_wheel(path: str) -> bool:
    """Return whether a series is the total angle that a wheel has turned."""
    return _TURNED_WHEEL.search(path.rsplit("/", 1)[-1]) is not None


def is_background(path: str) -> bool:
    """Return whether traces are those of the background, such as the neuropil, and not of cells."""
    name = path.rsplit("/", 1)[-1]
    return _BACKGROUND.search(name) is not None and _CORRECTED.search(name) is None


def behavior_order(path: str, unit: str = "") -> tuple[int, ...]:
    """Return a key that sorts behaviors: position, direction, speed, others; then eyes and measures of the movement.

    Of two of one kind, pixels come after other units.
    """
    name = path.split("/", 1)[-1]
    kind = next((i for i, pattern in enumerate(_BEHAVIORS) if pattern.search(name)), len(_BEHAVIORS))
    is_secondary = _SECONDARY.search(name) is not None or is_turned_wheel(path)
    return (int(is_of_eyes(path)), int(is_secondary), kind, int(long_unit(unit) == "pixels"))


def activity_order(path: str) -> tuple[int, ...]:
    """Return a key that sorts traces: dF/F, deconvolved events, denoised traces, others, the background."""
    kind = next((i for i, pattern in enumerate(_TRACES) if pattern.search(path)), len(_TRACES))
    return (int(is_background(path)), kind)
