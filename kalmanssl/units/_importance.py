"""Which units matter: how much latents or decoded behavior depend on each unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Recording, infer_latents
from kalmanssl.errors import InputError
from kalmanssl.estimator import KalmanSSL
from kalmanssl.units._behavior import Target, behavior_target
from kalmanssl.utils.validation import (
    check_choice,
    check_condition,
    check_integer,
    check_positive,
    check_seed,
    unknown_name_error,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

__all__ = ["UnitImportance", "unit_importance"]

_GRADIENT_STEP = 1e-3  # of the forward difference, as a fraction of the deviation from the mean


@dataclass(frozen=True, eq=False)
class UnitImportance:
    """Importance of each unit, with its distribution if the unit had no relation to the others.

    Attributes
    ----------
    unit_ids : tuple of str
    score : (units,)
        Share of the variance of the latents that is due to the unit; the shares of all units add up to about one. For
        behavior, the decrease of R² without the unit.
    null : (units, shifts)
        The same after the activity of the unit was shifted in time.
    """

    unit_ids: tuple[str, ...]
    score: np.ndarray
    null: np.ndarray

    @property
    def p_value(self) -> np.ndarray:
        """One-sided p value of each unit (units,): how often a shifted unit, or itself, has at least its score.

        The values are not corrected for the number of units.
        """
        return (1 + (self.null >= self.score[:, None]).sum(axis=1)) / (1 + self.null.shape[1])

    def null_quantile(self, level: float = 0.95) -> np.ndarray:
        """Return a quantile of the scores after shifts (units,).

        Parameters
        ----------
        level : float
            Between 0 and 1.
        """
        check_condition("level", level, 0 < level < 1, "a number between 0 and 1")
        return np.quantile(self.null, level, axis=1)

    def to_dataframe(self, level: float = 0.95) -> pandas.DataFrame:
        """Return a table with one row per unit: columns `score`, `null_quantile`, `p_value`, index `unit`."""
        import pandas

        columns = {"score": self.score, "null_quantile": self.null_quantile(level), "p_value": self.p_value}
        return pandas.DataFrame(columns, index=pandas.Index(self.unit_ids, name="unit"))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the score of each unit and the 95 % quantile of its null distribution.

        Parameters
        ----------
        ax : Axes, optional
            See `kalmanssl.plotting.plot_unit_importance`.
        """
        from kalmanssl.plotting import plot_unit_importance

        return plot_unit_importance(self.score, self.null_quantile(), self.unit_ids, ax=ax)


def unit_importance(
    model: KalmanSSL,
    recording: Recording,
    *,
    decoder: Any = None,
    behavior: Any = None,
    method: str = "occlusion",
    units: Any = None,
    n_shifts: int = 99,
    min_shift: float = 5.0,
    smooth: bool = False,
    random_state: int | None = 0,
) -> UnitImportance:
    """Compute how much the latents, or the decoded behavior, depend on each unit, with a null distribution.

    A unit is left out by replacing its activity with its mean. Its score for the latents is the covariance of the
    change that it causes with the latents, divided by the variance of the latents, both summed over dimensions. Its
    score for behavior is the decrease of the coefficient of determination R² of the decoded behavior when it is left
    out. The null distribution has the scores after random circular shifts of the activity of the unit in time, which
    keep its autocorrelation and remove its relation to the other units and to the behavior. A unit whose activity is
    independent noise also changes the latents; its score can be large, but not larger than after a shift.
    Compare a score with its null distribution, not with zero: an encoder that is not linear, such as one that takes the
    square root of counts, receives a constant mean activity as a different pattern.

    Use a recording that the model and the decoder were not fitted on: a fit to noise makes noise look informative. One
    call infers the latents once for each unit and shift; restrict `recording`, `units` or `n_shifts` if this is slow.

    Parameters
    ----------
    model : KalmanSSL
        Fitted.
    recording : Recording
        Units of the fit.
    decoder : object with a method `predict`, optional
        Fitted `PositionDecoder`, or a regressor of scikit-learn, on latents of the model. Without it the score is that
        of the latents: the coordinates of the state that the encoder observes.
    behavior : str, (bins,) or (bins, dims), optional
        Tracked behavior, or its name in the recording, for `decoder`. Bins with NaN are left out.
    method : {"occlusion", "gradient"}
        "occlusion": the change if the unit is replaced by its mean activity. "gradient": the same to first order in the
        deviation of the unit from its mean activity, with the derivative at the mean (a finite difference).
    units : sequence of str, optional
        Names of the units to test; all by default.
    n_shifts : int
        Number of shifts; the smallest p value is ``1 / (n_shifts + 1)``.
    min_shift : float
        Smallest shift, seconds. It should be longer than the behavior is correlated with itself.
    smooth : bool
        Whether to use smoothed latents.
    random_state : int or None
        Seed of the shifts.

    Returns
    -------
    UnitImportance

    Raises
    ------
    InputError
        If a unit or behavior is unknown, the behavior does not fit the decoder, or the recording is too short.

    References
    ----------
    Occlusion: Zeiler & Fergus (2014), arXiv 1311.2901. Gradient times input: Shrikumar et al. (2017),
    arXiv 1605.01713. Test by circular shifts: Harris (2021), Nonsense correlations in neuroscience, bioRxiv
    2020.11.29.402719.
    """
    if not isinstance(recording, Recording):
        raise InputError("recording must be a Recording: use Recording.from_arrays", parameter="recording")
    check_choice("method", method, ("occlusion", "gradient"))
    check_seed(random_state)
    names = _checked_units(recording, units)
    rng = np.random.default_rng(random_state)
    shifts = _draw_shifts(recording, n_shifts, min_shift, rng)
    if (decoder is None) != (behavior is None):
        missing = "decoder" if decoder is None else "behavior"
        raise InputError(f"give decoder and behavior, or none of them: {missing} is missing", parameter=missing)

    def output(activity: np.ndarray) -> np.ndarray:
        """Return the latents or the decoded behavior for some activity, (bins, dims)."""
        latents = infer_latents(model, replace(recording, activity=activity), smooth=smooth)
        if decoder is None:
            return latents.mean[:, : latents.latent.shape[1]]
        return target.embed(decoder.predict(latents))

    target = Target() if decoder is None else behavior_target(recording, behavior, decoder, model, smooth)
    score, null = np.zeros(len(names)), np.zeros((len(names), len(shifts)))
    for row, name in enumerate(names):
        scores = _scores_of_unit(recording.activity, recording.unit_ids.index(name), shifts, output, target, method)
        score[row], null[row] = scores[0], scores[1:]
    return UnitImportance(names, score, null)


def _scores_of_unit(
    activity: np.ndarray,
    unit: int,
    shifts: np.ndarray,
    output: Callable[[np.ndarray], np.ndarray],
    target: Target,
    method: str,
) -> np.ndarray:
    """Return the score of a unit, and its score after each shift, (1 + shifts,)."""
    without = activity.copy()
    without[:, unit] = activity[:, unit].mean()
    base = output(without)
    scores = []
    for shift in (0, *shifts):
        changed = without.copy()
        deviation = np.roll(activity[:, unit], shift) - without[:, unit]
        step = 1.0 if method == "occlusion" else _GRADIENT_STEP
        changed[:, unit] += step * deviation
        contribution = (output(changed) - base) / step
        scores.append(target.score(base, contribution, method == "gradient"))
    return np.array(scores)


def _checked_units(recording: Recording, units: Any) -> tuple[str, ...]:
    """Return the names of the units to test."""
    if units is None:
        return recording.unit_ids
    valid = isinstance(units, list | tuple | np.ndarray) and len(units) > 0
    check_condition("units", units, valid, "a list of names of units")
    names = tuple(str(unit) for unit in units)
    for name in names:
        if name not in recording.unit_ids:
            raise unknown_name_error("unit", name, recording.unit_ids)
    return names


def _draw_shifts(recording: Recording, n_shifts: int, min_shift: float, rng: np.random.Generator) -> np.ndarray:
    """Return different random shifts (shifts,) in bins, at least `min_shift` in both directions."""
    check_integer("n_shifts", n_shifts, 1)
    check_positive("min_shift", min_shift)
    first = max(1, round(min_shift / recording.bin_size))
    possible = np.arange(first, len(recording) - first + 1)
    if len(possible) < n_shifts:
        message = (
            f"the recording has {len(recording)} bins, which allow {len(possible)} shifts of at least {min_shift:g} s: "
            f"use a longer recording, a shorter min_shift or fewer than {n_shifts} shifts"
        )
        raise InputError(message, parameter="n_shifts")
    return rng.choice(possible, n_shifts, replace=False)
