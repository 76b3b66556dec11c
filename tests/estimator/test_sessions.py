"""Several sessions with different units: fit, latents, alignment of a new session, saving and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_sessions import TINY, make_session
from sklearn.neighbors import KNeighborsRegressor

from kalmanssl import KalmanSSL, Recording
from kalmanssl.errors import InputError


@pytest.fixture(scope="module")
def sessions() -> list[Recording]:
    return [make_session("a", 60, seed=0), make_session("b", 50, seed=1)]


@pytest.fixture(scope="module")
def fitted(sessions) -> KalmanSSL:
    return KalmanSSL(**TINY).fit(sessions)


# Fit and latents.


def test_each_session_has_its_own_encoder_and_all_share_the_dynamics(fitted, sessions):
    assert fitted.sessions_ == ("a", "b")
    for recording in sessions:
        assert fitted.session(recording.session).unit_ids_ == recording.unit_ids
    first, second = (fitted.session(name).model_ for name in "ab")
    assert first.predictor is second.predictor
    assert first.encoder is not second.encoder
    assert len(fitted.history_["loss"]) == 2


def test_dynamics_are_fitted_to_the_latents_of_all_sessions(fitted, sessions):
    first_stage = KalmanSSL(**TINY, noise_epochs=0).fit(sessions)
    assert first_stage.noise_history_ == {}
    assert len(fitted.noise_history_["loss"]) == 4
    for before, after in zip(first_stage.transform(sessions), fitted.transform(sessions), strict=True):
        np.testing.assert_array_equal(before.latent, after.latent)  # the encoders are fixed
        assert after.log_likelihood.mean() > before.log_likelihood.mean() + 0.01


def test_dynamics_of_sessions_that_do_not_predict_better_are_not_kept(sessions, monkeypatch):
    from kalmanssl.estimator import _dynamics_fit

    values = iter([0.0, -1.0])
    monkeypatch.setattr(_dynamics_fit, "_held_out_likelihood", lambda *_: next(values))
    model = KalmanSSL(**TINY).fit(sessions)
    first_stage = KalmanSSL(**TINY, noise_epochs=0).fit(sessions)
    for before, after in zip(first_stage.transform(sessions), model.transform(sessions), strict=True):
        np.testing.assert_array_equal(before.mean, after.mean)


def test_sessions_are_matched_by_their_behavior():
    """The code is uniform, so that the latents alone do not tell a track from its mirror image."""
    pair = [make_session("a", 60, seed=0, symmetric=True), make_session("b", 50, seed=1, symmetric=True)]
    positions = [one.behavior["position"] for one in pair]
    for given in ("position", positions):
        model = KalmanSSL(**TINY).fit(pair, given)
        first, second = (model.transform(one, smooth=True).mean for one in pair)
        neighbors = KNeighborsRegressor(20).fit(first, positions[0])
        assert np.corrcoef(neighbors.predict(second), positions[1])[0, 1] > 0.9


def test_sessions_can_be_matched_by_a_part_of_the_behavior(sessions):
    partly = [np.where(np.arange(len(one)) < 400, one.behavior["position"], np.nan) for one in sessions]
    model = KalmanSSL(**TINY).fit(sessions, partly)
    first, second = (model.transform(one, smooth=True).mean for one in sessions)
    neighbors = KNeighborsRegressor(20).fit(first, sessions[0].behavior["position"])
    assert np.corrcoef(neighbors.predict(second), sessions[1].behavior["position"])[0, 1] > 0.95


@pytest.mark.parametrize("symmetric", [False, True])
def test_labels_decide_between_a_track_and_its_mirror_image(symmetric):
    pair = [make_session("a", 60, seed=0, symmetric=symmetric), make_session("b", 50, seed=1, symmetric=symmetric)]
    halves = [np.where(one.behavior["position"] < 0.5, "left", "right").astype(object) for one in pair]
    model = KalmanSSL(**TINY).fit(pair, halves)
    first, second = (model.transform(one, smooth=True).mean for one in pair)
    neighbors = KNeighborsRegressor(20).fit(first, pair[0].behavior["position"])
    assert np.corrcoef(neighbors.predict(second), pair[1].behavior["position"])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([np.zeros(3)], "y has 1 entries and X 2 recordings"),
        ([np.zeros(3), np.zeros(3)], r"y\[0\] has shape \(3,\)"),
        ("speed", "'speed' is not a behavior"),
        (lambda pair: [np.zeros(len(one)) for one in pair], "constant"),
        (lambda pair: [np.full(len(one), np.nan) for one in pair], "no known value"),
        (lambda pair: [np.arange(len(pair[0])), np.full(len(pair[1]), np.nan)], "too few bins to match"),
        (lambda pair: [np.arange(len(pair[0])), np.ones((len(pair[1]), 2))], "different numbers of dimensions"),
    ],
)
def test_behavior_that_cannot_match_sessions_is_refused(sessions, y, message):
    with pytest.raises(InputError, match=message) as caught:
        KalmanSSL(**TINY).fit(sessions, y(sessions) if callable(y) else y)
    assert caught.value.parameter == "y"


def test_the_encoder_is_chosen_by_the_session(fitted, sessions):
    both = fitted.transform(sessions)
    for recording, latents in zip(sessions, both, strict=True):
        np.testing.assert_array_equal(fitted.transform(recording).mean, latents.mean)
        np.testing.assert_array_equal(fitted.session(recording.session).transform(recording).mean, latents.mean)
        assert latents.shape == (len(recording), 8)


def test_files_with_the_same_unit_names_are_not_mixed_up():
    """The unit numbers of both sessions are the same, but the cells are not."""
    named = [
        replace(make_session(name, 40, seed=seed), unit_ids=tuple(map(str, range(40))))
        for seed, name in enumerate("ab")
    ]
    model = KalmanSSL(**TINY).fit(named)
    assert model.sessions_ == ("a", "b")
    mistaken = replace(named[0], session="b")
    assert not np.allclose(model.transform(mistaken).mean, model.transform(named[0]).mean)


def test_recordings_of_one_session_in_a_list_are_trials(sessions):
    first, second = sessions[0].split(at=40.0)
    with_name = KalmanSSL(**TINY).fit([first, second])
    without = KalmanSSL(**TINY).fit([replace(one, session="") for one in (first, second)])
    assert with_name.sessions_ == ("a",)
    np.testing.assert_array_equal(with_name.transform(first).mean, without.transform(first).mean)


def test_trials_of_several_sessions_are_fitted_by_session(sessions, fitted):
    pieces = [piece for recording in sessions for piece in recording.split(at=40.0)]
    model = KalmanSSL(**TINY).fit(pieces)
    assert model.sessions_ == ("a", "b")
    assert [len(one) for one in model.transform(pieces)] == [len(one) for one in pieces]


def test_score_online_and_forecast_of_several_sessions(fitted, sessions):
    scores = [fitted.score(one) for one in sessions]
    assert min(scores) < fitted.score(sessions) < max(scores)
    online = fitted.session("b").online()
    filtered = fitted.transform(sessions[1])
    for activity, mean in zip(sessions[1].activity[:20], filtered.mean, strict=False):
        np.testing.assert_allclose(online.step(activity).mean, mean, atol=1e-5)
    assert fitted.forecast(filtered, 2).mean.shape == (len(sessions[1]), 2, 8)


def test_a_saved_model_of_several_sessions_gives_the_same_latents(fitted, sessions, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = KalmanSSL.load(tmp_path / "model")
    assert loaded.sessions_ == fitted.sessions_
    for before, after in zip(fitted.transform(sessions), loaded.transform(sessions), strict=True):
        np.testing.assert_array_equal(before.mean, after.mean)
    loaded.session("b").save(tmp_path / "b")
    alone = KalmanSSL.load(tmp_path / "b")
    assert alone.sessions_ == ("b",)
    np.testing.assert_array_equal(alone.transform(sessions[1]).mean, fitted.transform(sessions[1]).mean)


# Alignment of a new session.


@pytest.fixture(scope="module")
def aligned(sessions) -> KalmanSSL:
    alone = KalmanSSL(**TINY).fit(sessions[0])
    return alone.align_session(sessions[1], sessions[0])


def test_a_new_session_is_decoded_without_its_labels(aligned, sessions):
    first, second = (aligned.transform(one, smooth=True).mean for one in sessions)
    neighbors = KNeighborsRegressor(20).fit(first, sessions[0].behavior["position"])
    decoded, true = neighbors.predict(second), sessions[1].behavior["position"]
    assert np.median(np.abs(decoded - true)) < 0.12  # 0.3 by chance
    assert np.corrcoef(decoded, true)[0, 1] > 0.8


def test_alignment_changes_neither_the_dynamics_nor_the_fitted_encoders(aligned, sessions):
    alone = KalmanSSL(**TINY).fit(sessions[0])
    np.testing.assert_array_equal(aligned.transform(sessions[0]).mean, alone.transform(sessions[0]).mean)
    A = aligned.session("b").model_.predictor.A.detach().numpy()
    np.testing.assert_array_equal(A, alone.model_.predictor.A.detach().numpy())


def test_the_result_of_an_alignment_says_how_well_it_went(aligned, sessions, tmp_path):
    found = aligned.alignments_["b"]
    assert found.score == pytest.approx(aligned.score(sessions[1]))
    assert found.fitted_scores == {"a": pytest.approx(aligned.score(sessions[0]))}
    assert 0 < found.distance < 1
    assert found.margin > 0
    assert 0 < found.transition_distance < 0.5
    assert not found.is_doubtful
    assert str(found).startswith("objective ")
    assert "doubtful" not in str(found)
    doubtful = replace(found, other_transition_distance=0.9 * found.transition_distance)
    assert doubtful.is_doubtful
    assert "doubtful: check it with a few minutes of behavior" in str(doubtful)
    assert not replace(doubtful, other_transition_distance=None).is_doubtful
    aligned.save(tmp_path / "model")
    assert KalmanSSL.load(tmp_path / "model").alignments_["b"] == found


def test_alignment_needs_a_new_name_fitted_recordings_and_the_same_bins(aligned, sessions):
    with pytest.raises(InputError, match="X has the session name 'b': give a new one") as caught:
        aligned.align_session(sessions[1], sessions[0])
    assert caught.value.parameter == "X"
    new = make_session("c", 40, seed=5)
    with pytest.raises(InputError, match="fitted has a recording of session 'd'; give some of 'a', 'b'") as caught:
        aligned.align_session(new, replace(sessions[0], session="d"))
    assert caught.value.parameter == "fitted"
    with pytest.raises(InputError, match=r"session 'c' has bins of 0\.1 s and session 'a' has bins of 0\.05 s"):
        aligned.align_session(make_session("c", 40, bin_size=0.1), sessions)
    with pytest.raises(InputError, match="X must be a Recording"):
        aligned.align_session(new.activity, sessions)
    with pytest.raises(InputError, match="session 'c' has signal and session 'a' has counts"):
        aligned.align_session(replace(new, kind="signal"), sessions)
    with pytest.raises(InputError, match=r"session 'a': the recording .* 1 missing \(a-0\)") as caught:
        aligned.align_session(new, sessions[0].select_units(list(sessions[0].unit_ids[1:])))
    assert caught.value.parameter == "fitted"
    with pytest.raises(InputError, match="session 'c': too few bins to fit on: the held-out windows hold 6 steps"):
        aligned.align_session(new[:30], sessions)


# Bad input.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b: [a, replace(b, session="")], "X has 1 recordings without a session beside those of 'a'"),
        (lambda a, b: [a, make_session("c", 20, bin_size=0.1)], "session 'c' has bins of 0.1 s and .* 'a' .* 0.05 s"),
        (lambda a, b: [a, replace(b, kind="signal")], "session 'b' has signal and session 'a' has counts"),
        (lambda a, b: [a, b, replace(b, unit_ids=("x", *b.unit_ids[1:]))], "session 'b': trial 1: .* unknown \\(x"),
        (lambda a, b: [a, b[:5]], "session 'b': too few bins to fit on"),
    ],
)  # fmt: skip
def test_sessions_that_cannot_be_fitted_together_are_named(sessions, change, message):
    with pytest.raises(InputError, match=message) as caught:
        KalmanSSL(**TINY).fit(change(*sessions))
    assert "\n" not in str(caught.value)
    assert caught.value.parameter == "X"


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [
        ({"noise": "activity"}, "noise"),
        ({"process_noise": "state"}, "process_noise"),
        ({"behavior_weight": 1.0}, "behavior_weight"),
    ],
)
def test_settings_that_depend_on_one_session_are_refused(sessions, settings, parameter):
    with pytest.raises(InputError, match="several sessions") as caught:
        KalmanSSL(**TINY, **settings).fit(sessions)
    assert caught.value.parameter == parameter


def test_recordings_of_unknown_sessions_have_no_latents(fitted, sessions):
    with pytest.raises(InputError, match="is of session 'c'; the model was fitted on the sessions 'a', 'b'"):
        fitted.transform(replace(sessions[0], session="c"))
    with pytest.raises(InputError, match="has no session name"):
        fitted.transform(replace(sessions[0], session=""))
    with pytest.raises(InputError, match="give a Recording with the name of its session"):
        fitted.transform(sessions[0].activity)
    with pytest.raises(InputError, match=r"use session\(name\)\.online"):
        fitted.online()


def test_names_of_sessions_are_strings():
    with pytest.raises(InputError, match="session") as caught:
        Recording.from_arrays(np.ones((10, 2)), session=3)
    assert caught.value.parameter == "session"


# Recordings.


def test_a_recording_keeps_its_session_in_selections_and_files(sessions, tmp_path):
    recording = sessions[0]
    assert "session a" in repr(recording)
    parts = [recording[5:20], *recording.split(at=10.0), *recording.trials([[1.0, 2.0], [3.0, 4.0]])]
    assert {one.session for one in parts} == {"a"}
    recording.to_nwb(tmp_path / "one.nwb")
    assert Recording.from_nwb(tmp_path / "one.nwb").session == "a"
    assert Recording.from_nwb(tmp_path / "one.nwb", session="other").session == "other"
