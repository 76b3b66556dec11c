"""Cross-fitting: latents of bins that a model was not fitted on, for the calibration of a decoder.

The latents of bins that a model was fitted on are better than those of other bins, and the neural code of a behavior
drifts with time. A decoder that is calibrated on the bins of its own fit therefore has intervals that are too narrow on
other bins. The calibration uses copies of the model that were fitted on a first part of the time only, and are scored
on the time after it, as the decoder will be used. No copy is scored on time before its fitted part: activity at the
beginning of a session differs from that at any later time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
from sklearn.base import clone

from kalmanssl.data import Latents, Recording, Trials, as_recording, infer_latents, is_pynapple, no_observations
from kalmanssl.decoding.inputs import join_trials
from kalmanssl.errors import CalibrationWarning, InputError
from kalmanssl.utils.segments import gap_starts
from kalmanssl.utils.validation import check_condition, check_numbers, short_repr

__all__ = ["HeldOutFit", "LatentEstimator", "cross_fit", "rehearse"]


class HeldOutFit:
    """Latents of all of the training time, or of all sessions, from a model that was fitted on only a part of it.

    Outside that part they are latents of data that the model has not seen, as those of a test part or of a new session
    are. Made by `kalmanssl.cross_fit`. Only what a decoder needs is kept: the means, in single precision, and the
    covariances.

    Parameters
    ----------
    latents : Latents, or list of Latents
        Filtered latents, over the same bins as the latents that the decoder is fitted on. A list for several sessions.
    smoothed : as latents, or callable
        Smoothed latents, or a function that returns them and is called when they are first needed.
    fit_interval : (start, stop), optional
        Part of the time that the model was fitted on, seconds. None if a session is left out.
    left_out : str, optional
        Session that the model was not fitted on; it was aligned without labels.
    alignment : optional
        How well that session is aligned (`kalmanssl.estimator.SessionAlignment`).
    """

    def __init__(
        self,
        latents: Latents | Sequence[Latents],
        smoothed: Latents | Sequence[Latents] | Callable[[], Any],
        fit_interval: tuple[float, float] | None = None,
        left_out: str | None = None,
        alignment: Any = None,
    ) -> None:
        self.latents, self.fit_interval = _reduced(latents), fit_interval
        self.left_out, self.alignment = left_out, alignment
        self._smoothed = smoothed if callable(smoothed) else _reduced(smoothed)

    @property
    def smoothed(self) -> Latents:
        """Smoothed latents, over the same bins as the filtered ones."""
        if not isinstance(self._smoothed, Latents):
            self._smoothed = _reduced(self._smoothed())
        return self._smoothed


def _reduced(latents: Latents | Sequence[Latents]) -> Latents:
    """Return latents, joined, with means in single precision and without the arrays that no decoder uses."""
    (latents,) = join_trials(latents)
    assert isinstance(latents, Latents)
    return replace(latents, mean=np.asarray(latents.mean, dtype=np.float32), **no_observations(len(latents)))


class LatentEstimator(Protocol):
    """An estimator of latents with the conventions of scikit-learn, such as `kalmanssl.KalmanSSL`."""

    def set_params(self, **settings: Any) -> Self:
        """Change settings by name."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to a recording, and to behavior if the model uses it."""

    def transform(self, X: Recording, smooth: bool = False) -> Latents:
        """Return the latents of a recording."""


def cross_fit(
    model: LatentEstimator, recording: Any, shares: Sequence[float] = (0.6, 0.8), y: Any = None, view: Any = None
) -> list[HeldOutFit]:
    """Fit copies of a model on first parts of its recording, for the calibration of a decoder.

    The copies have not seen the time after their parts, and a decoder learns from it how large errors are on new data.

    With several sessions, each is left out in turn. A copy is fitted on the other sessions, and the one that is left
    out is aligned with them without labels, as a new session is. A decoder with these held-out fits is calibrated for
    new sessions; its intervals are wider than needed in the sessions that it was fitted on, and too narrow in a session
    that is harder to decode than all of these. Sessions whose alignment is doubtful
    (`kalmanssl.estimator.SessionAlignment`) are not used, unless all are, and a `CalibrationWarning` names them.

    The fit of a copy takes its share of the duration of the fit of the model: if the model has the setting
    `steps_per_epoch`, copies make fewer steps, so that they see each bin as often.

    Parameters
    ----------
    model : LatentEstimator
        Its settings are used, its weights are not.
    recording : Recording, object of pynapple, or a list of trials in order of time, or of recordings of sessions
        The recording that the model was fitted on. Copies are fitted on the first trials of a list of trials.
    shares : sequence of float
        Fractions of the time that the copies are fitted on, inside (0, 1); gaps between segments do not count. The
        smallest sets the longest lag at which the intervals are calibrated. Not used with several sessions.
    y : (time,) or (time, dims), name of a behavior, object of pynapple, or a list of these, optional
        Behavior that the model was fitted on, over the same bins as the recording. Each copy is fitted on its part.
    view : Recording, object of pynapple, array, or a list of trials, optional
        Second view that the model was fitted on, over the same bins as the recording.

    Returns
    -------
    list of HeldOutFit
        For `PositionDecoder.fit`.

    Raises
    ------
    InputError
        If a share is not inside (0, 1), or leaves too little to fit on; if the model was fitted on two views and `view`
        is missing; if the recordings are several sessions and the model cannot align sessions.
    """
    usable = all(callable(getattr(model, name, None)) for name in ("fit", "transform", "set_params"))
    if isinstance(model, type) or not usable:
        raise InputError(
            f"model must be a fitted estimator of latents such as KalmanSSL, got {short_repr(model)}", parameter="model"
        )
    check_shares(shares)
    second = getattr(model, "view_", None)
    if second is not None and view is None:
        raise InputError("view is missing: the model was fitted on two views", parameter="view")
    if is_pynapple(view):
        view = as_recording("view", view, getattr(second, "bin_size_", None))
    if isinstance(recording, list | tuple | Trials):
        return _cross_fit_trials(model, recording, shares, y, view)
    recording = as_recording("recording", recording, getattr(model, "bin_size_", None))
    start = float(recording.time[0])
    held_out_fits = []
    for share in shares:
        stop = _time_at_share(recording.time, recording.bin_size, share)
        if stop - start < recording.bin_size:
            raise InputError(
                f"shares has {share:g}, which leaves no bin to fit on: use a larger one", parameter="shares"
            )
        copy = _fit_copy(model, share, recording.restrict(start, stop), y, view, len(recording))
        infer = partial(infer_latents, copy, recording, means_only=True)
        held_out_fits.append(HeldOutFit(infer(), partial(infer, smooth=True), (start, stop)))
    return held_out_fits


def check_shares(shares: Any) -> None:
    """Raise `InputError` unless all shares of the time are numbers inside (0, 1)."""
    requirement = "a sequence of numbers inside (0, 1), such as (0.6, 0.8)"
    check_numbers("shares", shares, requirement)
    check_condition("shares", shares, len(shares) > 0, requirement)
    for share in shares:
        check_condition("shares", share, 0 < share < 1, "inside (0, 1)")


def _fit_copy(model: LatentEstimator, share: float, part: Any, y: Any, view: Any, length: int) -> Any:
    """Return a copy of a model, fitted with a share of its training steps on a first part of the bins or trials.

    `y` and `view` are those of all bins or trials, whose number is `length`. The copy stores no checkpoints.
    """
    copy = clone(model).set_params(checkpoint_dir=None)
    steps = getattr(model, "steps_per_epoch", None)
    if steps is not None:
        copy = copy.set_params(steps_per_epoch=max(1, round(share * steps)))
    given: dict[str, Any] = {}
    if y is not None:
        is_selected_by_fit = isinstance(y, str) or is_pynapple(y)
        given["y"] = y if is_selected_by_fit else _first_entries("y", y, len(part), length)
    if view is not None:
        given["view"] = _first_entries("view", view, len(part), length)
    return copy.fit(part, **given)


def _first_entries(name: str, values: Any, count: int, length: int) -> Any:
    """Return the first entries of values that have one for each bin or trial."""
    if len(values) != length:
        raise InputError(
            f"{name} has {len(values)} entries and the recording {length}: give one for each", parameter=name
        )
    return values[:count] if isinstance(values, list | tuple | Recording | Trials) else np.asarray(values)[:count]


def _cross_fit_trials(
    model: LatentEstimator, trials: Any, shares: Sequence[float], y: Any, view: Any
) -> list[HeldOutFit]:
    """Fit copies of a model on the first trials; see `cross_fit`."""
    if len(trials) == 0:
        raise InputError("recording has no trials: give a recording, or a list of them", parameter="recording")
    pieces = [as_recording("recording", one, getattr(model, "bin_size_", None)) for one in trials]
    if len({one.session for one in pieces}) > 1:
        return _cross_fit_sessions(model, pieces, y)
    ends = np.cumsum([len(one) for one in pieces])
    held_out_fits = []
    for share in shares:
        count = int(np.argmin(np.abs(ends - share * ends[-1]))) + 1
        if count == len(pieces):
            raise InputError(
                f"shares has {share:g}, which leaves none of {count} trials to score: use a smaller share",
                parameter="shares",
            )
        copy = _fit_copy(model, share, pieces[:count], y, view, len(pieces))
        interval = (float(pieces[0].time[0]), float(pieces[count - 1].time[-1]))
        smoothed = partial(_infer_trials, copy, pieces, True)
        held_out_fits.append(HeldOutFit(_infer_trials(copy, pieces, False), smoothed, interval))
    return held_out_fits


def _cross_fit_sessions(model: Any, recordings: list[Recording], y: Any) -> list[HeldOutFit]:
    """Align each session with a copy of a model that was fitted on the others; see `cross_fit`."""
    if not hasattr(model, "leave_out_sessions"):
        raise InputError(
            "recording has several sessions, and model cannot align sessions: give a KalmanSSL", parameter="model"
        )
    held_out_fits = []
    for copy in model.leave_out_sessions(recordings, y):
        name = copy.sessions_[-1]
        alignment = copy.alignments_[name]
        infer = partial(infer_latents, copy, recordings, means_only=True)
        held_out_fits.append(HeldOutFit(infer(), partial(infer, smooth=True), None, name, alignment))
    return _without_doubtful(held_out_fits)


def _without_doubtful(held_out_fits: list[HeldOutFit]) -> list[HeldOutFit]:
    """Return the held-out fits without doubtful alignments, or all if all are doubtful, and warn of them.

    A single failed alignment, such as the mirror image of a track, makes all intervals as wide as the range of the
    behavior.
    """
    certain = [fit for fit in held_out_fits if not getattr(fit.alignment, "is_doubtful", False)]
    names = ", ".join(repr(fit.left_out) for fit in held_out_fits if fit not in certain)
    if not names:
        return held_out_fits
    consequence = "it is not used" if certain else "a decoder with these held-out fits can have very wide intervals"
    warnings.warn(
        f"the alignment of {names}, left out in turn, is doubtful, since a different match is closer: {consequence}",
        CalibrationWarning,
        stacklevel=5,
    )
    return certain or held_out_fits


def _infer_trials(model: LatentEstimator, pieces: list[Recording], smooth: bool) -> Latents:
    """Return the latents of all trials, one after another."""
    return Latents.concatenate(infer_latents(model, pieces, smooth, means_only=True))


def _time_at_share(time: np.ndarray, bin_size: float, share: float) -> float:
    """Return the time before which there is a share of the time that is not in gaps."""
    gaps = gap_starts(time, bin_size)
    durations = time[gaps] - time[gaps - 1] - bin_size
    length = share * (time[-1] - time[0] - durations.sum())
    length_before_gap = time[gaps - 1] - time[0] - (np.cumsum(durations) - durations)
    return float(time[0] + length + durations[length_before_gap < length].sum())


def rehearse(model: LatentEstimator, recording: Any, shares: Sequence[float] = (0.6, 0.8)) -> list[HeldOutFit]:
    """Call `cross_fit`, which replaces this name; it will be removed in version 0.2."""
    warnings.warn("rehearse is now called cross_fit and will be removed in 0.2", FutureWarning, stacklevel=2)
    return cross_fit(model, recording, shares)
