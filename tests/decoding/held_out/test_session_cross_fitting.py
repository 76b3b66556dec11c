"""Sessions that are left out in turn: models of the others, and held-out fits for the calibration of a decoder."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from simulated_sessions import TINY, make_session
from sklearn.base import BaseEstimator

from kalmanssl import KalmanSSL, PositionDecoder, cross_fit
from kalmanssl.decoding import HeldOutFit
from kalmanssl.errors import CalibrationWarning, InputError


@pytest.fixture(scope="module")
def sessions():
    units = (("a", 60), ("b", 40), ("c", 30))
    return [make_session(name, count, 10, seed=seed) for seed, (name, count) in enumerate(units)]


@pytest.fixture(scope="module")
def model(sessions) -> KalmanSSL:
    return KalmanSSL(**TINY).fit(sessions, "position")


@pytest.fixture(scope="module")
def held_out_fits(model, sessions) -> list[HeldOutFit]:
    return cross_fit(model, sessions, y="position")


def test_each_session_is_aligned_with_a_model_of_the_others(held_out_fits, sessions):
    assert [fit.left_out for fit in held_out_fits] == ["a", "b", "c"]
    by_hand = KalmanSSL(**TINY).fit([sessions[0], sessions[2]], "position")
    by_hand = by_hand.align_session(sessions[1], [sessions[0], sessions[2]])
    fit = held_out_fits[1]
    for smooth, found in ((False, fit.latents), (True, fit.smoothed)):
        expected = np.concatenate([by_hand.transform(one, smooth).mean for one in sessions])
        np.testing.assert_array_equal(found.mean, expected.astype(np.float32))
    assert fit.alignment == by_hand.alignments_["b"]


def test_one_session_is_aligned_with_a_model_of_the_other(sessions):
    aligned = list(KalmanSSL(**TINY).leave_out_sessions(sessions[:2]))
    assert [one.sessions_ for one in aligned] == [("b", "a"), ("a", "b")]
    expected = KalmanSSL(**TINY).fit(sessions[0]).align_session(sessions[1], sessions[0])
    np.testing.assert_array_equal(aligned[1].transform(sessions[1]).mean, expected.transform(sessions[1]).mean)


def test_labels_of_the_session_that_is_left_out_are_not_used(sessions, held_out_fits):
    """Its position is replaced by one that never agrees with the others."""
    wrong = replace(sessions[1], behavior={"position": sessions[1].behavior["position"][::-1].copy()})
    given = [wrong, sessions[0], sessions[2]]  # in this order it is left out first
    found = next(iter(KalmanSSL(**TINY).leave_out_sessions(given, "position")))
    assert found.sessions_ == ("a", "c", "b")
    expected = held_out_fits[1].latents.mean
    latents = np.concatenate([found.transform(one).mean for one in sessions])
    np.testing.assert_array_equal(latents.astype(np.float32), expected)


@pytest.mark.parametrize(("doubtful", "used"), [("c", "ab"), ("ac", "b"), ("abc", "abc")])
def test_sessions_with_a_doubtful_alignment_are_named_and_left_out_unless_all_are(
    model, sessions, held_out_fits, monkeypatch, doubtful, used
):
    left_out = []
    for fit in held_out_fits:
        distances = (0.2, 0.1) if fit.left_out in doubtful else (0.1, 0.2)
        one = copy(model)
        one.sessions_ = (*model.sessions_, fit.left_out)
        one.alignments_ = {
            fit.left_out: replace(
                fit.alignment, transition_distance=distances[0], other_transition_distance=distances[1]
            )
        }
        left_out.append(one)
    monkeypatch.setattr(KalmanSSL, "leave_out_sessions", lambda *_: left_out)
    names = ", ".join(repr(name) for name in doubtful)
    with pytest.warns(CalibrationWarning, match=f"the alignment of {names}, left out in turn, is doubtful"):
        found = cross_fit(model, sessions)
    assert [fit.left_out for fit in found] == list(used)


class Without(BaseEstimator):
    """An estimator of latents that cannot align sessions."""

    def fit(self, X):
        return self

    def transform(self, X, smooth=False):
        raise NotImplementedError


def test_held_out_sessions_are_checked(model, sessions, held_out_fits):
    with pytest.raises(InputError, match="model cannot align sessions") as caught:
        cross_fit(Without(), sessions)
    assert caught.value.parameter == "model"
    with pytest.raises(InputError, match="y has 1 entries and there are 3 recordings") as caught:
        cross_fit(model, sessions, y=[sessions[0].behavior["position"]])
    assert caught.value.parameter == "y"
    with pytest.raises(InputError, match="at least two sessions"):
        model.leave_out_sessions(sessions[0])
    with pytest.raises(InputError, match="y='speed' is not a behavior of the recording") as caught:
        model.leave_out_sessions(sessions[:2], "speed")
    assert caught.value.parameter == "y"
    latents = [replace(one, session=one.session + "2") for one in model.transform(sessions)]
    with pytest.raises(InputError, match="leave out session 'a', and latents are of 'a2', 'b2', 'c2'") as caught:
        PositionDecoder(regressor="linear").fit(
            latents, [one.behavior["position"] for one in sessions], held_out_fits=held_out_fits
        )
    assert caught.value.parameter == "held_out_fits"
