"""Co-smoothing of a model: it is fitted without some units, and its latents predict their spikes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from kalmanssl.data import Recording, infer_latents
from kalmanssl.errors import InputError
from kalmanssl.estimator import KalmanSSL
from kalmanssl.probes import BitsPerSpike, co_smoothing
from kalmanssl.utils.validation import check_condition, check_seed, unknown_name_error

__all__ = ["score_held_out_units"]


def score_held_out_units(
    model: KalmanSSL,
    training: Recording,
    test: Recording,
    held_out: Any = 0.25,
    *,
    smooth: bool = True,
    penalty: float | None = None,
    random_state: int | None = 0,
) -> tuple[BitsPerSpike, tuple[str, ...]]:
    """Fit a model without some units, and compute how well its latents predict their spikes, in bits per spike.

    A clone of the model is fitted on the other units of the training part. A Poisson regression from its latents to the
    counts of the held-out units is fitted on the training part and scored on the test part, see
    `kalmanssl.probes.co_smoothing`.

    Parameters
    ----------
    model : KalmanSSL
        Its parameters are used; it does not have to be fitted and does not change.
    training, test : Recording
        Counts of the same units.
    held_out : float or sequence of str
        Fraction of the units that are held out, drawn at random, or their names.
    smooth : bool
        Whether the latents of a bin may depend on later bins of the other units, as in the benchmark.
    penalty : float, optional
        Penalty of the regression; chosen from the training part by default.
    random_state : int or None
        Seed for the choice of the held-out units.

    Returns
    -------
    BitsPerSpike
    tuple of str
        Names of the held-out units, in the order of the arrays of the score.

    Raises
    ------
    InputError
        If the recordings are not counts of the same units, or no unit is left on one side.

    References
    ----------
    Pei, Ye et al. (2021), Neural Latents Benchmark, arXiv 2109.04463.
    """
    check_seed(random_state)
    for name, recording in (("training", training), ("test", test)):
        if recording.kind != "counts":
            raise InputError(f"{name} is a signal: bits per spike are defined for counts", parameter=name)
    if set(training.unit_ids) != set(test.unit_ids):
        raise InputError("test has other units than training: read both with the same units", parameter="test")
    names = _held_out_units(training.unit_ids, held_out, random_state)
    others = tuple(unit for unit in training.unit_ids if unit not in names)
    if not names or not others:
        message = f"held_out leaves {len(others)} units for the model: hold out at least one and not all of them"
        raise InputError(message, parameter="held_out")
    used = [recording.select_units(others) for recording in (training, test)]
    fitted = clone(model).fit(used[0])
    latents = [infer_latents(fitted, recording, smooth=smooth) for recording in used]
    counts = [recording.select_units(names).activity for recording in (training, test)]
    return co_smoothing(latents[0], counts[0], latents[1], counts[1], penalty), names


def _held_out_units(unit_ids: tuple[str, ...], held_out: Any, random_state: int | None) -> tuple[str, ...]:
    """Return the names of the held-out units, in the order of the recording."""
    if isinstance(held_out, float | int | np.number):
        fraction = float(held_out)
        check_condition("held_out", held_out, 0 < fraction < 1, "a fraction between 0 and 1, or names of units")
        count = max(1, round(fraction * len(unit_ids)))
        chosen = np.random.default_rng(random_state).permutation(len(unit_ids))[:count]
        return tuple(unit_ids[i] for i in np.sort(chosen))
    check_condition("held_out", held_out, isinstance(held_out, list | tuple | np.ndarray), "a fraction or a list")
    wanted = {str(unit) for unit in held_out}
    for unit in wanted - set(unit_ids):
        raise unknown_name_error("unit", unit, unit_ids)
    return tuple(unit for unit in unit_ids if unit in wanted)
