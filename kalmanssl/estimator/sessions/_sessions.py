"""The methods of `KalmanSSL` for several sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.estimator._segments import is_list_of_trials
from kalmanssl.estimator.sessions._alignment import SessionAlignment, align_session
from kalmanssl.estimator.sessions._behavior import session_features
from kalmanssl.estimator.sessions._folds import leave_out_sessions
from kalmanssl.estimator.sessions._inputs import check_same_kind, group_sessions, model_of_session

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["SessionsMixin"]


class SessionsMixin:
    """Access to the models of single sessions, and alignment of new sessions."""

    sessions_: tuple[str, ...]
    session_models_: dict[str, KalmanSSL]
    alignments_: dict[str, SessionAlignment]

    @property
    def _has_sessions(self) -> bool:
        """Whether the model was fitted on several sessions."""
        return len(getattr(self, "sessions_", ())) > 1

    def session(self, name: str) -> KalmanSSL:
        """Return the model of one session, which shares the dynamics with those of the other sessions.

        It has all methods of a model of one recording, such as `online`, and can be saved alone.

        Parameters
        ----------
        name : str
            One of `sessions_`.

        Raises
        ------
        InputError
            If there is no such session.
        """
        check_is_fitted(self, "model_")
        if name not in self.sessions_:
            known = ", ".join(map(repr, self.sessions_))
            raise InputError(f"the model was fitted on the sessions {known}, not on {name!r}", parameter="name")
        return self.session_models_[name] if self._has_sessions else cast("KalmanSSL", self)

    def align_session(self, X: Any, fitted: Any, y: Any = None, fitted_y: Any = None) -> Self:
        """Return a copy with one more session, whose encoder is fitted to the dynamics of this model without labels.

        The new session can have other units than the fitted ones, and the same behavior and environment are assumed.
        Its latents are mapped into the space of the fitted sessions such that they move between the same hidden states
        (`kalmanssl.alignment`), and the encoder is then trained with the objective of the fit. A decoder of the latents
        of the fitted sessions can decode the new session. Dynamics and encoders of the fitted sessions stay the same.

        If the match is ambiguous (a small margin), or the sessions differ much, behavior that is known in a few minutes
        of the new session decides which parts of both correspond.

        Parameters
        ----------
        X : Recording or list of Recording
            The new session, with a session name that is not one of `sessions_`. A list are its trials.
        fitted : Recording or list of Recording
            Recordings of fitted sessions, to match the latents with: those of the fit, or parts of them.
        y : (time,) or (time, dims), name of a behavior, or a list of these, optional
            Behavior of `X` as in `fit`, NaN where it is unknown. A list if `X` is a list.
        fitted_y : as y, optional
            The same of `fitted`. By default it has the name that `y` is.

        Returns
        -------
        KalmanSSL
            ``alignments_[name]`` says how well it went (`SessionAlignment`).

        Raises
        ------
        InputError
            If a session has no name or a wrong one, other bins, other units than in its fit, or too little data; if
            the behavior of one of them is unknown, or has another length.
        """
        check_is_fitted(self, "model_")
        recordings = _recordings("X", X)
        names = {one.session for one in recordings}
        name = recordings[0].session
        known = ", ".join(map(repr, self.sessions_))
        if len(names) > 1:
            raise InputError(f"X has {len(names)} sessions: align one after another", parameter="X")
        if not name or name in self.sessions_:
            what = f"has the session name {name!r}" if name else "has no session name"
            raise InputError(f"X {what}: give a new one; the model has the sessions {known}", parameter="X")
        if not all(self.sessions_):
            raise InputError(
                "the model was fitted on a recording without a session name: fit one with session=", parameter="X"
            )
        groups: dict[str, list[Recording]] = {}
        for one in _recordings("fitted", fitted):
            if one.session not in self.sessions_:
                raise InputError(
                    f"fitted has a recording of session {one.session!r}; give some of {known}", parameter="fitted"
                )
            groups.setdefault(one.session, []).append(one)
        check_same_kind(recordings[0], next(iter(groups.values()))[0])
        behavior = None
        if y is not None:
            if fitted_y is None and not isinstance(y, str):
                raise InputError("y needs the behavior of the fitted sessions: give fitted_y", parameter="fitted_y")
            given = [*_behavior("y", y, X), *_behavior("fitted_y", y if fitted_y is None else fitted_y, fitted)]
            both = [*recordings, *_recordings("fitted", fitted)]
            behavior = session_features(both, given, cast(Any, self).behavior_period)
        return cast(Self, align_session(cast("KalmanSSL", self), name, recordings, groups, behavior))

    def leave_out_sessions(self, X: Any, y: Any = None) -> Iterator[KalmanSSL]:
        """Fit models of all sessions but one, and align the one that is left out without labels, for each in turn.

        This shows how well a new session is aligned, from sessions with labels. `cross_fit` uses it for the calibration
        of a decoder. Each session is fitted by itself only once.

        Parameters
        ----------
        X : list of Recording
            At least two sessions.
        y : as in `fit`, optional
            Behavior by which the sessions that are not left out are matched.

        Yields
        ------
        KalmanSSL
            The session that is left out is the last of its `sessions_`. The settings are those of this model.

        Raises
        ------
        InputError
            As in `fit` and `align_session`.
        """
        sessions = group_sessions(X)
        if sessions is None:
            raise InputError("X must be recordings of at least two sessions", parameter="X")
        behavior = None
        if y is not None:
            given = _behavior("y", y, X)
            session_features(X, given, cast(Any, self).behavior_period)  # errors come before the fits
            behavior = {
                name: [part for one, part in zip(X, given, strict=True) if one.session == name] for name in sessions
            }
        return leave_out_sessions(cast("KalmanSSL", self), sessions, behavior)

    def _posterior_of_sessions(self, X: Any, smooth: bool, means_only: bool) -> Any:
        """Return the latents of a recording, or of each one in a list, from the encoder of its session."""
        if is_list_of_trials(X):
            return [self._posterior_of_sessions(one, smooth, means_only) for one in X]
        return model_of_session(self.session_models_, X).posterior(X, smooth, means_only=means_only)

    def _score_of_sessions(self, X: Any) -> float:
        """Return the mean score of sessions, weighted by their bins."""
        groups = group_sessions(X)
        if groups is None:
            one = X[0] if is_list_of_trials(X) else X
            return model_of_session(self.session_models_, one).score(X)
        scores = [model_of_session(self.session_models_, parts[0]).score(parts) for parts in groups.values()]
        return float(np.average(scores, weights=[sum(map(len, parts)) for parts in groups.values()]))

    def _require_one_session(self, method: str) -> None:
        """Raise an error if the model has several sessions."""
        if self._has_sessions:
            raise InputError(f"{method} needs the units of one session: use session(name).{method}", parameter="name")


def _recordings(name: str, X: Any) -> list[Recording]:
    """Return a recording or a list of recordings as a list."""
    found = list(X) if is_list_of_trials(X) else [X]
    if not all(isinstance(one, Recording) for one in found):
        raise InputError(f"{name} must be a Recording or a list of these", parameter=name)
    return found


def _behavior(name: str, y: Any, X: Any) -> list[Any]:
    """Return the behavior of a recording, or of a list of recordings, as a list."""
    if isinstance(y, str) or not is_list_of_trials(X):
        return [y] * len(_recordings("X", X))
    parts = list(y)
    if len(parts) != len(X):
        raise InputError(
            f"{name} has {len(parts)} entries and there are {len(X)} recordings: give one behavior for each",
            parameter=name,
        )
    return parts
