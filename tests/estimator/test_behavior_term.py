"""Latents that are fitted with behavior: what they gain, bad input, and that fits without a weight do not change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm, vonmises
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from small_fits import TINY_WITH_HELD_OUT as TINY

from kalmanssl import BlockedTimeSeriesSplit, InputError, KalmanSSL, PositionDecoder, Recording, cross_fit
from kalmanssl.estimator._behavior import Behavior
from kalmanssl.estimator._fit_data import FitData
from kalmanssl.estimator._initialization import _explained_covariance, predictable_components
from kalmanssl.models import BehaviorReadout, SequenceModel


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Counts of six units in two segments of 400 and 200 bins, with behavior of four kinds; each has unknown bins."""
    rng = np.random.default_rng(0)
    phase = np.cumsum(0.1 + 0.05 * rng.standard_normal(600))
    time = 100 + 0.025 * np.arange(600)
    time[400:] += 5.0
    position = np.cos(phase)
    position[100:120] = np.nan
    plane = np.stack([position, 3 + 2 * np.sin(phase)], axis=1)
    arm = np.where(np.sin(phase) > 0, "left", "right").astype(object)
    arm[:10] = None
    behavior = {"position": position, "plane": plane, "heading": phase % (2 * np.pi), "arm": arm}
    rate = np.exp(1.5 * np.cos(phase[:, None] - np.arange(6)))
    return Recording.from_arrays(rng.poisson(rate), time=time, behavior=behavior)


def same_weights(a: KalmanSSL, b: KalmanSSL) -> bool:
    first, second = a.model_.state_dict(), b.model_.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# The readout.


def test_the_density_of_real_behavior_is_gaussian():
    readout = BehaviorReadout(3, ["real"])
    with torch.no_grad():
        readout.log_variance.fill_(math.log(0.25))
        state = torch.randn(5, 7, 3)
        value = torch.randn(5, 7)
        expected = norm(readout.linear(state)[..., 0].numpy(), 0.5).logpdf(value.numpy()).mean()
        assert float(readout.log_prob(state, value[..., None])) == pytest.approx(expected, rel=1e-5)


def test_the_density_of_angles_is_von_mises():
    readout = BehaviorReadout(3, ["angle"])
    with torch.no_grad():
        state = 3 * torch.randn(5, 7, 3)
        angle = 10 * torch.randn(5, 7)
        vector = readout.linear(state).numpy()
        mean, concentration = np.arctan2(vector[..., 1], vector[..., 0]), np.linalg.norm(vector, axis=-1)
        expected = vonmises(concentration, mean).logpdf(angle.numpy()).mean()
        assert float(readout.log_prob(state, angle[..., None])) == pytest.approx(expected, rel=1e-4)


def test_the_density_of_labels_is_their_log_probability():
    readout = BehaviorReadout(3, [4])
    with torch.no_grad():
        state, label = torch.randn(5, 7, 3), torch.randint(4, (5, 7))
        probability = readout.linear(state).softmax(-1).gather(-1, label[..., None])
        found = float(readout.log_prob(state, label[..., None].float()))
    assert found == pytest.approx(float(probability.log().mean()), rel=1e-5)


def test_columns_of_behavior_are_added_and_unknown_values_left_out():
    readout = BehaviorReadout(3, ["real", "angle", 2])
    state = torch.randn(40, 3, requires_grad=True)
    behavior = torch.stack([torch.randn(40), torch.randn(40), torch.randint(2, (40,)).float()], dim=1)
    unknown = behavior.clone()
    unknown[:30, 0] = torch.nan
    unknown[:, 1] = torch.nan
    found = readout.log_prob(state, unknown)
    with torch.no_grad():
        nothing = torch.full_like(behavior, torch.nan)
        real, label = nothing.clone(), nothing.clone()
        real[30:, 0], label[:, 2] = behavior[30:, 0], behavior[:, 2]
        assert float(found) == pytest.approx(float(readout.log_prob(state, real) + readout.log_prob(state, label)))
        assert float(readout.log_prob(state, nothing)) == 0
    found.backward()
    assert state.grad.isfinite().all()


def test_the_gradient_of_the_readout_is_that_of_finite_differences():
    torch.manual_seed(0)
    readout = BehaviorReadout(3, ["real", "angle", 3]).double()
    with torch.no_grad():
        readout.network[-1].weight.normal_()
    behavior = torch.tensor([[0.3, 2.0, 1.0], [math.nan, -1.0, 2.0]], dtype=torch.float64)
    state = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: readout.log_prob(s, behavior), [state])


@pytest.mark.parametrize("kind", ["number", 1])
def test_unknown_kinds_of_behavior_are_refused(kind):
    with pytest.raises(InputError, match="kinds must be"):
        BehaviorReadout(3, [kind])


# What behavior changes.


def test_without_weight_the_behavior_is_ignored(recording):
    plain = KalmanSSL(**TINY).fit(recording)
    ignored = KalmanSSL(**TINY, behavior_weight=0.0).fit(recording, "no such behavior")
    assert same_weights(plain, ignored)
    assert plain.history_ == ignored.history_
    assert "behavior" not in plain.history_


def autoregression(rng: np.random.Generator, n_bins: int, dims: int) -> np.ndarray:
    state = np.zeros((n_bins, dims))
    for t in range(1, n_bins):
        state[t] = 0.97 * state[t - 1] + np.sqrt(1 - 0.97**2) * rng.standard_normal(dims)
    return state


@pytest.mark.parametrize("seed", range(3))
def test_few_latents_contain_a_behavior_of_few_units_if_it_has_a_weight(seed):
    """Four of thirty channels have the behavior; the others follow three stronger processes."""
    rng = np.random.default_rng(seed)
    behavior, other = autoregression(rng, 3000, 1), autoregression(rng, 3000, 3)
    clean = np.concatenate([0.8 * behavior @ rng.choice([-1, 1], (1, 4)), other @ rng.standard_normal((3, 26))], axis=1)
    activity = clean + rng.standard_normal(clean.shape)
    settings = {**TINY, "hidden": (), "unit_dropout": 0.0, "bins_per_step": 1, "window": 50, "batch_size": 32}
    settings |= {"state_dim": 4, "epochs": 6, "steps_per_epoch": 25, "learning_rate": 5e-3, "random_state": seed}
    r2 = []
    for weight in (0.0, 3.0):
        model = KalmanSSL(**settings, behavior_weight=weight).fit(activity[:2000], behavior[:2000])
        latents = model.transform(activity).mean
        r2.append(LinearRegression().fit(latents[:2000], behavior[:2000]).score(latents[2000:], behavior[2000:]))
    assert r2[0] < 0.3
    assert r2[1] > 0.6
    assert model.history_["held_out_behavior"][-1] > model.history_["held_out_behavior"][0]


def test_the_start_prefers_components_that_are_related_to_the_behavior():
    """Of two equally predictable features, the one that is related to the behavior comes first, whichever it is."""
    features = torch.from_numpy(autoregression(np.random.default_rng(0), 4000, 3)).float()
    for column in range(3):
        behavior = features[:, column] + 0.5 * torch.randn(4000)
        behavior[::7] = torch.nan
        explained = _explained_covariance([features[None]], [behavior[None, :, None]])
        first = predictable_components(features[1:], features[:-1], 1, 2.0 * explained)[0].abs()
        assert first.argmax() == column
        assert explained[column, column] == pytest.approx(1 / 1.25 * float(features[:, column].var()), rel=0.1)


def test_a_step_has_the_behavior_of_its_last_bin():
    activity, behavior = np.arange(12.0).reshape(6, 2), np.arange(6.0)[:, None]
    data = FitData([activity], Behavior([behavior], ("real",)))
    steps = data.steps(data.segments[0], 2, ("none",))
    np.testing.assert_array_equal(steps[1:, :2], (activity[1:] + activity[:-1]) / 2)
    np.testing.assert_array_equal(steps[:, 2], behavior[:, 0])


@pytest.mark.parametrize(
    ("name", "period"), [("position", None), ("plane", None), ("heading", 2 * np.pi), ("arm", None)]
)
def test_every_kind_of_behavior_can_be_used_and_the_score_contains_it(recording, name, period):
    model = KalmanSSL(**TINY, behavior_weight=2.0, behavior_period=period).fit(recording, name)
    plain = KalmanSSL(**TINY).fit(recording)
    assert not same_weights(model, plain)
    history = model.history_
    assert len(history["behavior"]) == len(history["held_out_behavior"]) == 2
    for part in ("", "held_out_"):
        terms = [np.array(history[part + term]) for term in ("loss", "alignment", "entropy", "behavior")]
        np.testing.assert_allclose(terms[0], -(terms[1] + terms[2] + 2.0 * terms[3]), rtol=1e-5, atol=1e-6)
    given = KalmanSSL(**TINY, behavior_weight=2.0, behavior_period=period).fit(recording, recording.behavior[name])
    assert same_weights(model, given)


def test_unknown_behavior_does_not_change_the_fit_where_it_is_replaced(recording):
    settings = {**TINY, "behavior_weight": 1.0, "validation_fraction": 0}
    position = recording.behavior["position"]
    values = np.where(np.isnan(position), 0.0, position)
    known = KalmanSSL(**settings).fit(recording.activity, values)
    unknown = KalmanSSL(**settings).fit(recording.activity, position)
    assert not same_weights(known, unknown)
    assert np.isfinite(unknown.history_["loss"]).all()


def test_trials_take_a_list_of_behaviors_or_a_name(recording):
    trials = [recording[:150], recording[150:400], recording[400:]]
    settings = {**TINY, "behavior_weight": 1.0}
    named = KalmanSSL(**settings).fit(trials, "position")
    given = KalmanSSL(**settings).fit(trials, [one.behavior["position"] for one in trials])
    assert same_weights(named, given)


def test_a_series_of_pynapple_is_interpolated_to_the_bins(recording):
    pynapple = pytest.importorskip("pynapple")
    time = np.arange(95, 125, 0.01)
    series = pynapple.Tsd(t=time, d=np.sin(time))
    settings = {**TINY, "behavior_weight": 1.0}
    interpolated = KalmanSSL(**settings).fit(recording, series)
    given = KalmanSSL(**settings).fit(recording, np.sin(recording.time))
    np.testing.assert_allclose(interpolated.history_["behavior"], given.history_["behavior"], rtol=1e-3)
    with pytest.raises(InputError, match="the bins have none") as error:
        KalmanSSL(**settings).fit(recording.activity, series)
    assert error.value.parameter == "y"


def test_noise_that_varies_is_fitted_after_the_fit_with_behavior(recording):
    model = KalmanSSL(**TINY, behavior_weight=1.0, noise="activity", noise_epochs=1).fit(recording, "position")
    assert "behavior" in model.history_
    assert "behavior" not in model.noise_history_
    joint = KalmanSSL(**TINY, behavior_weight=1.0, noise="activity", noise_epochs=0).fit(recording, "position")
    assert joint.noise_history_ == {}


# Around the fit.


def test_a_fit_with_behavior_resumes_as_if_it_had_not_been_interrupted(recording, tmp_path, monkeypatch):
    settings = {**TINY, "behavior_weight": 1.0}
    whole = KalmanSSL(**settings).fit(recording, "position")
    real, calls = SequenceModel.after_step, []

    def interrupt(self):
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(SequenceModel, "after_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        KalmanSSL(**{**settings, "checkpoint_dir": tmp_path}).fit(recording, "position")
    monkeypatch.setattr(SequenceModel, "after_step", real)
    resumed = KalmanSSL(**{**settings, "checkpoint_dir": tmp_path}).fit(recording, "position", resume=True)
    assert same_weights(whole, resumed)
    assert whole.history_ == resumed.history_
    other = {**settings, "behavior_weight": 2.0, "checkpoint_dir": tmp_path}
    with pytest.raises(InputError, match="another model"):
        KalmanSSL(**other).fit(recording, "position", resume=True)


def test_a_saved_model_has_the_latents_of_the_fit_and_no_readout(recording, tmp_path):
    model = KalmanSSL(**TINY, behavior_weight=1.0, behavior_period=(None,)).fit(recording, "position")
    model.save(tmp_path / "model")
    loaded = KalmanSSL.load(tmp_path / "model")
    assert loaded.behavior_weight == 1.0
    assert same_weights(model, loaded)
    np.testing.assert_array_equal(loaded.transform(recording).mean, model.transform(recording).mean)


def test_the_weight_can_be_chosen_by_cross_validation(recording):
    position = np.nan_to_num(recording.behavior["position"])
    pipeline = make_pipeline(KalmanSSL(**TINY), PositionDecoder(regressor="linear", calibrate=False))
    grid = {"kalmanssl__behavior_weight": [0.0, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=BlockedTimeSeriesSplit(2), error_score="raise")
    search.fit(recording.activity, position)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert clone(KalmanSSL(behavior_weight=1.0)).behavior_weight == 1.0


def test_cross_fit_passes_the_behavior_of_each_part(recording):
    model = KalmanSSL(**TINY, behavior_weight=1.0).fit(recording, "position")
    fits = [cross_fit(model, recording, shares=(0.6,), y=y)[0] for y in ("position", recording.behavior["position"])]
    np.testing.assert_array_equal(fits[0].latents.mean, fits[1].latents.mean)
    trials = [recording[:150], recording[150:400], recording[400:]]
    (fit,) = cross_fit(model, trials, shares=(0.6,), y=[one.behavior["position"] for one in trials])
    assert len(fit.latents) == 600
    with pytest.raises(InputError, match="y is missing"):
        cross_fit(model, recording)
    with pytest.raises(InputError, match="y has 10 entries and the recording 600") as error:
        cross_fit(model, recording, y=recording.behavior["position"][:10])
    assert error.value.parameter == "y"


@pytest.mark.parametrize(
    ("settings", "y", "message", "parameter"),
    [
        ({"behavior_weight": -1.0}, "position", "at least 0", "behavior_weight"),
        ({"behavior_weight": math.inf}, "position", "at least 0 and finite", "behavior_weight"),
        ({"behavior_weight": "1"}, "position", "a number", "behavior_weight"),
        ({}, None, "y is missing", "y"),
        ({}, "speed", "y='speed' is not a behavior of the recording", "y"),
        ({}, np.zeros(599), "y has shape .599,. and X 600 bins", "y"),
        ({}, np.zeros((600, 2, 2)), "give .time,. or .time, dims.", "y"),
        ({}, np.full(600, np.nan), "no known value in dimension 0", "y"),
        ({}, np.ones(600), "is constant .1. in dimension 0", "y"),
        ({}, np.r_[np.inf, np.ones(599)], "infinite", "y"),
        ({}, np.array(["left"] * 600), "y has the label 'left' only", "y"),
        ({"behavior_period": (1.0, None)}, "position", "behavior_period has 2 entries", "behavior_period"),
        ({"behavior_period": -1.0}, "position", "behavior_period must be positive", "behavior_period"),
        ({"behavior_period": 1.0}, "arm", "behavior_period must be None for labels", "behavior_period"),
    ],
)
def test_bad_behavior_is_refused(recording, settings, y, message, parameter):
    with pytest.raises(InputError, match=message) as error:
        KalmanSSL(**{**TINY, "behavior_weight": 1.0, **settings}).fit(recording, y)
    assert error.value.parameter == parameter


def test_behavior_of_trials_must_fit_the_trials(recording):
    trials = [recording[:200], recording[200:400]]
    model = KalmanSSL(**TINY, behavior_weight=1.0)
    with pytest.raises(InputError, match="y has 1 entries and X 2 trials"):
        model.fit(trials, [np.zeros(200)])
    with pytest.raises(InputError, match=r"y\[1\] has shape"):
        model.fit(trials, [np.zeros(200), np.zeros(100)])
    with pytest.raises(InputError, match="different numbers of dimensions"):
        model.fit(trials, [np.zeros(200), np.zeros((200, 2))])
