"""The second view of a fit: an estimator with an encoder of its own and the dynamics of the first view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from kalmanssl.errors import InputError
from kalmanssl.estimator._segments import Prepared, prepare
from kalmanssl.models import SequenceModel, TwoViewModel
from kalmanssl.utils.validation import check_condition

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["prepare_view", "share_dynamics", "unfitted_view", "views_of"]


def views_of(estimator: KalmanSSL) -> list[KalmanSSL]:
    """Return the estimators of all views of a fit, the given one first."""
    return [estimator] if estimator.view_ is None else [estimator, estimator.view_]


def unfitted_view(estimator: KalmanSSL) -> KalmanSSL:
    """Return an estimator for the second view, with the settings of the first one that apply to any view."""
    view: KalmanSSL = clone(estimator)
    view.view_ = None
    return view.set_params(normalize="auto", bins_per_step=estimator.bins_per_step_, checkpoint_dir=None)


def prepare_view(estimator: KalmanSSL, view: Any, prepared: Prepared) -> list[np.ndarray]:
    """Check the second view of the prepared data, set `view_`, and return the view in the same segments.

    Raises
    ------
    InputError
        If the view cannot be used or has other bins, or a setting does not work with two views.
    """
    for name in ("noise", "process_noise"):
        value = getattr(estimator, name)
        check_condition(name, value, value == "constant", "'constant' with two views")
    check_condition("encoder", estimator.encoder, estimator.encoder is None, "None with two views")
    second = unfitted_view(estimator)
    second.sessions_, second.session_models_ = estimator.sessions_, {}
    try:
        found = prepare(second, view, fitting=True)
    except InputError as error:
        raise InputError(f"view: {error}", parameter="view") from error
    _check_same_bins(estimator, second, prepared, found)
    estimator.view_ = second
    lengths = [len(segment) for segment in prepared.segments]
    return np.split(np.concatenate(found.segments), np.cumsum(lengths)[:-1])


def _check_same_bins(first: KalmanSSL, second: KalmanSSL, prepared: Prepared, found: Prepared) -> None:
    """Check that both views have the same trials, bins and times."""
    if (prepared.n_segments is None) != (found.n_segments is None):
        raise InputError("view must be a list of trials if X is one, and only then", parameter="view")
    counts = [_bins_of_trials(one) for one in (prepared, found)]
    if counts[0] != counts[1]:
        raise InputError(f"view has {counts[1]} bins and X {counts[0]}: give both over the same bins", parameter="view")
    if np.isnan(first.bin_size_) or np.isnan(second.bin_size_):
        return
    if not np.isclose(first.bin_size_, second.bin_size_):
        message = f"view has bins of {second.bin_size_:g} s and X of {first.bin_size_:g} s: use the same bins for both"
        raise InputError(message, parameter="view")
    distance = np.abs(prepared.time - found.time)
    if distance.max() > 0.5 * first.bin_size_:
        at = int(distance.argmax())
        message = f"view has a bin at {found.time[at]:g} s where X has {prepared.time[at]:g} s: give the same bins"
        raise InputError(message, parameter="view")


def _bins_of_trials(prepared: Prepared) -> int | list[int]:
    """Return the number of bins of each trial, or of the whole data."""
    lengths = np.array([len(segment) for segment in prepared.segments])
    if prepared.n_segments is None:
        return int(lengths.sum())
    ends = np.cumsum(prepared.n_segments)
    return [int(lengths[end - n : end].sum()) for end, n in zip(ends, prepared.n_segments, strict=True)]


def share_dynamics(estimator: KalmanSSL, view: KalmanSSL) -> TwoViewModel:
    """Give the second view the predictor of the first one; return the model of both."""
    first = estimator.model_
    view.model_ = SequenceModel(view.model_.encoder, first.predictor, first.objective)
    return TwoViewModel(first, view.model_, estimator.n_features_in_)
