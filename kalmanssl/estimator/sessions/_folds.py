"""Models of all sessions but one, with which the one that is left out is aligned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from kalmanssl.data import Recording
from kalmanssl.estimator.sessions._alignment import align_session
from kalmanssl.estimator.sessions._behavior import session_features
from kalmanssl.estimator.sessions._data import FirstStage
from kalmanssl.estimator.sessions._fit import fit_sessions
from kalmanssl.utils.seeds import draw_seed

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["leave_out_sessions"]


def leave_out_sessions(
    estimator: KalmanSSL, sessions: Mapping[str, Sequence[Recording]], behavior: Mapping[str, Sequence[Any]] | None
) -> Iterator[KalmanSSL]:
    """Yield for each session a model of the others, with which it was aligned without labels.

    Parameters
    ----------
    estimator : KalmanSSL
        Its settings are used.
    sessions : mapping of str to recordings
        At least two.
    behavior : mapping of str to sequence, optional
        Behavior of each recording, by which the other sessions are matched.
    """
    given = estimator.random_state
    seed = given if isinstance(given, int | np.integer) else draw_seed(given)  # the same in all models
    settings = {"checkpoint_dir": None, "random_state": seed}
    first_stage = FirstStage()
    for name, left_out in sessions.items():
        others = {other: recordings for other, recordings in sessions.items() if other != name}
        recordings = [one for parts in others.values() for one in parts]
        model: KalmanSSL = clone(estimator).set_params(**settings)
        if len(others) == 1:
            model.fit(recordings)
        else:
            y = None if behavior is None else [one for other in others for one in behavior[other]]
            features = None if y is None else session_features(recordings, y, model.behavior_period)
            fit_sessions(model, others, features, False, first_stage)
        yield align_session(model, name, left_out, others, first_stage=first_stage)
