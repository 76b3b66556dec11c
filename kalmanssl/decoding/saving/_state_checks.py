"""Checks of a decoder's state that was read from a file: types, shapes and ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kalmanssl.decoding.calibration import NOMINAL_LEVELS, AdaptiveLevels
from kalmanssl.decoding.grids import Periods, group_dimensions
from kalmanssl.decoding.movement import COMBINATIONS
from kalmanssl.decoding.saving._readout_state_checks import (
    StoredGrid,
    check_readout,
    stored_grid,
    stored_grids,
    stored_periods,
)
from kalmanssl.utils.stored_values import StoredValues, is_number

__all__ = ["check_decoder_state"]

_REQUIRED = (  # settings on which predictions depend
    "level", "posterior", "n_samples", "calibrate", "readout_settings", "calibration_settings", "drift_settings",
    "movement_settings", "time_scales",
)  # fmt: skip
_KINDS = ("filtered", "smoothed", "array")
_TINY = 1e-300  # the smallest positive number
_LONGEST_CONTEXT = 1e7  # bins; averages over more would take too long
_ROUNDING = 1e-6  # levels of earlier versions exceed one by so much, from sums in single precision


def check_decoder_state(state: Any) -> None:
    """Check what `PositionDecoder.to_state` returned, after it was stored.

    Raises
    ------
    InputError
        If an entry is missing, or has another type, size or range than the other entries require.
    """
    stored = StoredValues(state, "the state", "decoder")
    settings = stored.group("settings")
    regressor = settings.choice("regressor", ("ensemble", "mlp", "linear"))
    settings.choice("posterior", ("mean", "quadrature", "samples"))
    missing = [name for name in _REQUIRED if name not in settings]
    if missing:
        raise stored.error("settings", f"complete, but {missing[0]} is missing", list(settings.values))
    periods = stored_periods(settings, "period")
    features = stored.integer("features", 1)
    stored.flag("timed")
    stored.flag("flat")
    if "sessions" in stored:
        _check_sessions(stored.group("sessions"))
    labels = stored.get("labels", _is_labels, "null, or a list of different labels")
    if labels is not None and periods != (None,):
        raise stored.error("settings.period", "null for labels", periods)
    decoders = stored.group("decoders")
    if not decoders.values or not set(decoders.values) <= set(_KINDS):
        raise stored.error("decoders", f"an object with some of {', '.join(_KINDS)}", list(decoders.values))
    for kind in decoders.values:
        decoder = decoders.group(kind)
        inputs = features * (1 + _n_averages(decoder))
        if labels is None:
            _check_latent_decoder(decoder, features, inputs, periods, regressor)
        else:
            _check_label_decoder(decoder, inputs, len(labels))
    if "adaptations" in stored:
        adaptations = stored.group("adaptations")
        if not set(adaptations.values) <= set(decoders.values):
            raise stored.error("adaptations", "those of the decoders", list(adaptations.values))
        for kind in adaptations.values:
            dims = 0 if labels is not None else len(periods)
            _check_adaptation(adaptations.group(kind), features, dims, _n_beliefs(decoders.group(kind)))


def _check_sessions(s: StoredValues) -> None:
    """Check names of sessions, and the time of the end of the fit in each."""
    names, ends = s.texts("names"), s.get("ends", _are_times, "a list of finite times")
    if not len(names) == len(set(names)) == len(ends):
        raise s.error("names", f"{len(ends)} different names", names)


def _n_averages(s: StoredValues) -> int:
    """Check the temporal context, and return the number of its time scales."""
    context = s.get("context", _are_positive, "a list of positive numbers")
    bin_size = s.number("bin_size")
    if context and not (0 < bin_size < math.inf and max(context) < _LONGEST_CONTEXT * bin_size):
        raise s.error("bin_size", f"positive, and the context at most {_LONGEST_CONTEXT:g} bins", bin_size)
    return len(context)


def _check_latent_decoder(s: StoredValues, features: int, inputs: int, periods: Periods, regressor: str) -> None:
    """Check a decoder of numbers from latents of a number of features, or of inputs with their averages."""
    dims = len(periods)
    grids = stored_grids(s, periods)
    check_readout(s.group("readout"), features, inputs, periods, grids, regressor)
    drift = s.group("drift")
    drift.number_in("rate", -1e300, 1e300, "a finite number")
    drift.array("center", (features,))
    drift.array("scale", (features,), minimum=_TINY)
    drift.array("weight", (features, dims))
    drift.array("offset", (dims,))
    s.number_in("end", -1e300, 1e300, "a finite time")
    groups = len(grids)
    occupancies, movements, regions = (s.entries(name, groups) for name in ("occupancies", "movements", "regions"))
    for number, (grid, scores) in enumerate(zip(grids, s.groups("movement_scores", groups), strict=True)):
        _check_probabilities(occupancies, str(number), grid.shape, minimum=_TINY)
        _check_mixture(movements, str(number), grid, regressor)
        _check_numbers(scores)
        _check_region(regions, str(number))
    if "trust" in s:
        trust = s.group("trust")
        count = len(trust.array("unusual", (None,)))
        for name in ("distance", "agreement", "unusual"):
            if (np.diff(trust.array(name, (count,))) < 0).any():
                raise trust.error(name, "increasing", trust.values[name])
        trust.array("weights", (2,), minimum=0.0)
        trust.number_in("threshold", 0.0, 1.0, "a number from 0 to 1")
    for calibration in s.groups("calibrations", dims):
        for name in ("floor", "rate", "longest_lag"):
            calibration.number_in(name, 0.0, 1e300, "a finite number, at least 0")
        calibration.number_in("lag", -1e300, 1e300, "a finite number")
        calibration.number_in("border", 0.0, math.inf, "a number, at least 0")
        calibration.number_in("effective", 0.0, math.inf, "a number, at least 0")
        _check_levels(calibration, (2, len(NOMINAL_LEVELS)))


def _check_label_decoder(s: StoredValues, inputs: int, n_labels: int) -> None:
    """Check a decoder of labels."""
    grid = StoredGrid(((-0.5, 1.0, n_labels, None, True),))
    check_readout(s.group("readout"), inputs, inputs, (None,), [grid], "mlp")
    chain = s.group("chain")
    statistics = chain.group("statistics")
    _check_probabilities(statistics, "occupancy", (n_labels,), minimum=_TINY)
    statistics.number_in("reset", 0.0, 1.0, "a number from 0 to 1")
    factor = "width_factor" if "width_factor" in chain else "reset_factor"  # the first is the name of earlier versions
    chain.number_in(factor, _TINY, 1e300, "positive")
    _check_power_and_jump(chain)
    (choice,) = s.groups("choices", 1)
    choice.choice("kind", ("none", "chain"))
    _check_numbers(choice.group("scores"))
    _check_levels(s.group("sets"), (len(NOMINAL_LEVELS),))


def _check_mixture(movements: StoredValues, number: str, grid: StoredGrid, regressor: str) -> None:
    """Check the movement priors over a grid."""
    components = movements.groups(number)
    weights = [part.number_in("weight", 0.0, 1.0, "a number from 0 to 1") for part in components]
    if abs(sum(weights) - 1) > _ROUNDING:
        raise movements.error(number, "components whose weights sum to one", weights)
    for part in components:
        kind = part.choice("kind", ("none", "walk", "states"))
        part.choice("combination", COMBINATIONS if regressor == "ensemble" else COMBINATIONS[:1])
        familiarity = part.group("familiarity")
        familiarity.number_in("usual", 0.0, math.inf, "a number, at least 0")
        familiarity.number_in("power", 0.0, 1e300, "a finite number, at least 0")
        if (part.values.get("movement") is None) != (kind == "none"):
            raise part.error("kind", "that of the movement prior", kind)
        if kind != "none":
            _check_movement(part.group("movement"), grid)


def _check_movement(s: StoredValues, grid: StoredGrid) -> None:
    """Check a movement prior over a grid."""
    statistics = s.group("statistics")
    found = stored_grid(statistics, "grid", [axis[3] for axis in grid.axes])
    if found != grid:
        raise statistics.error("grid", "that of the decoder", found)
    occupancy = _check_probabilities(statistics, "occupancy", (None, *grid.shape))
    if not (occupancy.sum(axis=0) > 0).all():
        raise statistics.error("occupancy", "positive in each cell", occupancy.min())
    states, dims = len(occupancy), len(grid.axes)
    statistics.array("drift", (states, dims))
    statistics.array("sd", (states, dims), minimum=0.0)
    _check_probabilities(statistics, "switching", (states, states), axis=1)
    s.number_in("width_factor", _TINY, 1e300, "positive")
    _check_power_and_jump(s)


def _check_probabilities(
    s: StoredValues, name: str, shape: Sequence[int | None], axis: int | None = None, minimum: float = 0.0
) -> np.ndarray:
    """Return an array of probabilities, whose sum, or sum along an axis, is one."""
    array = s.array(name, shape, minimum=minimum)
    total = array.sum(axis=axis)
    if array.size == 0 or not np.allclose(total, 1.0, rtol=0, atol=1e-4):
        raise s.error(name, "probabilities whose sum is one", np.asarray(total).tolist())
    return array


def _check_power_and_jump(s: StoredValues) -> None:
    """Check the settings that a movement prior and a chain of labels share."""
    s.number_in("power", _TINY, 1e300, "positive")
    s.number_in("jump", 0.0, 1.0, "a number from 0 to 1")


def _check_numbers(s: StoredValues) -> None:
    for name in s.values:
        s.number(name)


def _check_region(regions: StoredValues, number: str) -> None:
    """Check the calibration of regions; earlier versions stored the levels alone."""
    if isinstance(regions.values[number], np.ndarray | list):
        _check_levels(StoredValues({"calibrated_levels": regions.values[number]}, "the state", "decoder"))
    else:
        _check_levels(regions.group(number))


def _check_levels(s: StoredValues, shape: Sequence[int] = (len(NOMINAL_LEVELS),)) -> None:
    """Check a conformal map: levels that increase from 0 to 1."""
    levels = s.array("calibrated_levels", shape, minimum=0.0)
    if levels.max() > 1 + _ROUNDING or (np.diff(levels, axis=-1) < 0).any():
        raise s.error("calibrated_levels", "levels that increase from 0 to 1", levels.tolist())
    if "bins_per_error" in s:
        s.number_in("bins_per_error", 1.0, 1e300, "a finite number, at least 1")


def _n_beliefs(decoder: StoredValues) -> int:
    """Return how many filtered distributions a checked decoder continues: one for each movement prior."""
    if "chain" in decoder:
        return 1
    movements = decoder.entries("movements")
    return sum(len(movements.entries(number).values) for number in movements.values)


def _check_adaptation(s: StoredValues, features: int, dims: int, n_beliefs: int) -> None:
    """Check what was learned after the fit of a decoder of a number of dimensions, or of labels (0)."""
    shape = AdaptiveLevels.identity().weight.shape
    groups = max(1, len(group_dimensions(dims)))
    for name, count in (("intervals", dims), ("regions", groups)):
        for levels in s.groups(name, count):
            levels.array("log_factor", shape)
            _check_probabilities(levels, "weight", shape, axis=1)
            levels.integer("n_bins")
    if s.values.get("end") is not None:
        end = s.group("end")
        end.number_in("time", -1e300, 1e300, "a finite time")
        end.array("mean", (None, features), missing=True)
        beliefs = end.entries("beliefs", n_beliefs)
        for number, belief in beliefs.values.items():
            if belief is not None:
                _check_probabilities(beliefs, number, (None, None, None))


def _is_labels(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, list) or len(value) < 2:
        return False
    kinds = {type(one) for one in value}
    return (kinds in ({str}, {bool}) or (kinds <= {int, float} and all(map(is_number, value)))) and len(
        set(value)
    ) == len(value)


def _are_positive(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(is_number(one) and 0 < one < 1e300 for one in value)


def _are_times(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(is_number(one) and abs(one) < 1e300 for one in value)
