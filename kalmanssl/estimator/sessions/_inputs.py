"""Which recordings of a list belong to which session, and which fitted session a recording belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.estimator._segments import is_list_of_trials

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["check_same_kind", "group_sessions", "model_of_session", "session_name"]


def group_sessions(X: Any) -> dict[str, list[Recording]] | None:
    """Return the recordings of each session by name; None if the data are not recordings of several sessions.

    Raises
    ------
    InputError
        If some recordings have no session name, or sessions have other bins or another kind of activity.
    """
    if not is_list_of_trials(X) or not all(isinstance(one, Recording) for one in X):
        return None
    sessions: dict[str, list[Recording]] = {}
    for one in X:
        sessions.setdefault(one.session, []).append(one)
    if len(sessions) == 1:
        return None
    if "" in sessions:
        named = ", ".join(repr(name) for name in sessions if name)
        raise InputError(
            f"X has {len(sessions[''])} recordings without a session beside those of {named}: give all a session=",
            parameter="X",
        )
    first, *others = (recordings[0] for recordings in sessions.values())
    for recording in others:
        check_same_kind(recording, first)
    return sessions


def check_same_kind(recording: Recording, other: Recording) -> None:
    """Check that a recording has the size of bins and the kind of activity of a recording of another session."""
    if not np.isclose(recording.bin_size, other.bin_size):
        raise InputError(
            f"session {recording.session!r} has bins of {recording.bin_size:g} s and session {other.session!r} has "
            f"bins of {other.bin_size:g} s: read both with the same bin_size",
            parameter="X",
        )
    if recording.kind != other.kind:
        raise InputError(
            f"session {recording.session!r} has {recording.kind} and session {other.session!r} has {other.kind}: "
            "use sessions of one kind of activity",
            parameter="X",
        )


def session_name(X: Any) -> str:
    """Return the session of the data of a fit to one session; "" if it has no name."""
    first = X[0] if is_list_of_trials(X) else X
    return first.session if isinstance(first, Recording) else ""


def model_of_session(models: Mapping[str, KalmanSSL], recording: Any) -> KalmanSSL:
    """Return the model of the session that a recording belongs to.

    Raises
    ------
    InputError
        If it is not a recording with the name of a fitted session.
    """
    known = ", ".join(map(repr, models))
    if not isinstance(recording, Recording):
        raise InputError(
            f"the model was fitted on the sessions {known}: give a Recording with the name of its session, or use "
            "session(name)",
            parameter="X",
        )
    if recording.session not in models:
        what = f"is of session {recording.session!r}" if recording.session else "has no session name"
        raise InputError(
            f"the recording {recording.source} {what}; the model was fitted on the sessions {known}: use one of these, "
            "or align_session",
            parameter="X",
        )
    return models[recording.session]
