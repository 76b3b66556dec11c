"""Models of two views: the shared latents, the objective, each view by itself, saving, and views that do not match."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from small_fits import TINY_WITH_HELD_OUT as TINY

from kalmanssl import InputError, KalmanSSL, Recording, cross_fit
from kalmanssl.entropy import make_entropy
from kalmanssl.estimator._initialization import shared_components
from kalmanssl.models import LDM, KalmanPredictor, SequenceModel, TwoViewModel
from kalmanssl.networks import ConstantNoise


def autoregression(rng: np.random.Generator, n_bins: int, dims: int, coefficient: float) -> np.ndarray:
    state = np.zeros((n_bins, dims))
    for t in range(1, n_bins):
        noise = np.sqrt(1 - coefficient**2) * rng.standard_normal(dims)
        state[t] = coefficient * state[t - 1] + noise
    return state


def shared_and_private(seed: int) -> tuple[np.ndarray, ...]:
    """Two processes in both views, three stronger and slower ones in each view alone; 4000 bins, noise of variance 1.

    Returns the shared processes, those of the first view alone, and both views.
    """
    rng = np.random.default_rng(seed)
    shared = autoregression(rng, 4000, 2, 0.9)
    private = [autoregression(rng, 4000, 3, 0.97) for _ in range(2)]
    views = [
        0.7 * shared @ rng.standard_normal((2, n)) + 1.5 * own @ rng.standard_normal((3, n))
        + rng.standard_normal((4000, n))
        for own, n in zip(private, (20, 15), strict=True)
    ]  # fmt: skip
    return shared, private[0], views[0], views[1]


def canonical_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    first, second = (np.linalg.qr(x - x.mean(0))[0] for x in (a, b))
    return np.linalg.svd(first.T @ second)[1]


@pytest.fixture(scope="module")
def recordings() -> tuple[Recording, Recording]:
    """Counts of six units and two channels of a signal that follow one phase, in two segments of 400 and 200 bins."""
    rng = np.random.default_rng(0)
    phase = np.cumsum(0.2 + 0.05 * rng.standard_normal(600))
    time = 100 + 0.025 * np.arange(600)
    time[400:] += 5.0
    counts = rng.poisson(np.exp(1.5 * np.cos(phase[:, None] - np.arange(6))))
    signal = np.stack([np.cos(phase), np.sin(phase)], axis=1) + 0.3 * rng.standard_normal((600, 2))
    unit_ids = [f"u{i}" for i in range(6)]
    return Recording.from_arrays(counts, time=time, unit_ids=unit_ids), Recording.from_arrays(
        signal, time=time, kind="signal", unit_ids=["a", "b"]
    )


@pytest.fixture(scope="module")
def fitted(recordings) -> KalmanSSL:
    return KalmanSSL(**TINY).fit(recordings[0], view=recordings[1])


# What two views recover.


@pytest.mark.parametrize("seed", range(3))
def test_two_views_recover_the_shared_processes_and_one_view_its_own(seed):
    shared, private, first, second = shared_and_private(seed)
    settings = {**TINY, "unit_dropout": 0.0, "bins_per_step": 1, "window": 50, "batch_size": 32, "state_dim": 4}
    settings |= {"epochs": 4, "steps_per_epoch": 25, "learning_rate": 5e-3, "random_state": seed}
    train, test = slice(0, 3000), slice(3000, 4000)
    alone = KalmanSSL(**settings).fit(first[train]).transform(first).latent[test]
    both = KalmanSSL(**settings).fit(first[train], view=second[train])
    latents = [both.transform(first).latent[test], both.view_.transform(second).latent[test]]
    assert canonical_correlations(alone, private[test]).min() > 0.9
    assert canonical_correlations(alone, shared[test]).max() < 0.5
    for found in latents:
        assert canonical_correlations(found, shared[test]).min() > 0.8
        assert canonical_correlations(found, private[test]).max() < 0.5
    # both encoders have the same coordinates
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(latents[0].T, latents[1].T, strict=True)]
    assert min(correlation) > 0.6


def test_shared_components_are_the_canonical_correlations_with_the_last_step():
    shared, _, first, second = shared_and_private(0)
    views = [torch.from_numpy(view).float() for view in (first, second)]
    weights = shared_components(*[(view[1:], view[:-1]) for view in views], 2)
    found = [view.double() @ w.T for view, w in zip(views, weights, strict=True)]
    for z in found:
        assert canonical_correlations(z.numpy(), shared).min() > 0.8
        assert z.std(0).max() == pytest.approx(1, abs=0.05)
    assert all(np.corrcoef(*pair)[0, 1] > 0.6 for pair in zip(found[0].T, found[1].T, strict=True))


def test_shared_components_of_more_features_than_the_limit_are_found(monkeypatch):
    monkeypatch.setattr("kalmanssl.estimator._initialization._MAX_FEATURES", 14)
    shared, _, first, second = shared_and_private(0)
    views = [torch.from_numpy(view).float() for view in (first, second)]
    weights = shared_components(*[(view[1:], view[:-1]) for view in views], 2)
    assert [w.shape for w in weights] == [(2, 20), (2, 15)]
    assert canonical_correlations(first @ weights[0].numpy().T, shared).min() > 0.6


# The objective.


def models(entropy: str, mutual_information: bool) -> tuple[TwoViewModel, torch.Tensor]:
    torch.manual_seed(0)
    predictor = KalmanPredictor(2, 3, ConstantNoise(2), ConstantNoise(3))
    objective = LDM(make_entropy(entropy), mutual_information)
    first, second = (SequenceModel(torch.nn.Linear(4, 2), predictor, objective) for _ in range(2))
    return TwoViewModel(first, second, 4).double(), torch.randn(6, 9, 8, dtype=torch.float64)


@pytest.mark.parametrize(("entropy", "mutual_information"), [("logdet", True), ("logdet", False), ("stopgrad", False)])
def test_two_equal_views_have_the_objective_of_one(entropy, mutual_information):
    model, x = models(entropy, mutual_information)
    model.second.encoder.load_state_dict(model.first.encoder.state_dict())
    same = torch.cat([x[..., :4], x[..., :4]], dim=-1)
    both, one = model.terms(same), model.first.terms(x[..., :4])
    for name in ("alignment", "entropy", "loss"):
        found, expected = getattr(both, name).detach(), getattr(one, name).detach()
        assert float(found) == pytest.approx(float(expected), rel=1e-6)
    reference = torch.randn_like(same)
    reference[..., 4:] = reference[..., :4]
    assert model.held_out_scores(same, reference).mean().item() == pytest.approx(
        model.first.predictive_gain(x[..., :4], reference[..., :4]).item(), rel=1e-6
    )


def test_the_alignment_is_the_density_of_one_view_given_the_past_of_the_other():
    model, x = models("logdet", True)
    first, second = model(x)
    expected = []
    for source, target in ((first, second), (second, first)):
        filtered = source.prediction.filtered
        mean = source.latent - filtered.innovation
        normal = torch.distributions.MultivariateNormal(mean, filtered.innovation_cov)
        expected.append(float(normal.log_prob(target.latent).mean()))
    assert float(model.terms(x).alignment) == pytest.approx(np.mean(expected), rel=1e-9)


def test_without_mutual_information_the_entropy_is_given_the_past_of_the_other_view():
    model, x = models("logdet", False)
    latents = [output.latent.detach() for output in model(x)]

    def log_determinant(z: torch.Tensor) -> float:
        return 0.5 * float(torch.logdet(2 * np.pi * np.e * torch.cov(z.T)))

    expected = []
    for past, present in (latents, latents[::-1]):
        before, now = past[:, :-1].flatten(0, 1), present[:, 1:].flatten(0, 1)
        expected.append(log_determinant(torch.cat([now, before], 1)) - log_determinant(before))
    assert float(model.terms(x).entropy.detach()) == pytest.approx(np.mean(expected), abs=0.02)


def test_the_gradient_of_the_objective_is_that_of_finite_differences():
    model, x = models("logdet", True)
    weight = model.second.encoder.weight
    loss = model.terms(x).loss
    (gradient,) = torch.autograd.grad(loss, weight)
    direction, step = torch.randn_like(weight), 1e-5
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            weight.add_(sign * step * direction)
            values.append(float(model.terms(x).loss))
            weight.sub_(sign * step * direction)
    found = float((gradient * direction).sum())
    assert found == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


# Each view by itself.


def test_every_view_has_its_own_normalization_and_the_same_dynamics(recordings, fitted):
    assert (fitted.normalize_, fitted.view_.normalize_) == ("cosine", "standardize")
    assert fitted.view_.unit_ids_ == ("a", "b")
    assert fitted.view_.model_.predictor is fitted.model_.predictor
    assert fitted.view_.bins_per_step_ == fitted.bins_per_step_
    for model, recording in ((fitted, recordings[0]), (fitted.view_, recordings[1])):
        latents = model.transform(recording)
        assert latents.mean.shape == (600, 3)
        online = model.online()
        for bin_ in recording.activity[:20]:
            last = online.step(bin_)
        np.testing.assert_allclose(last.mean, latents.mean[19], atol=1e-5)
        assert len(model.forecast(latents, 2, at=110.0)) == 1
    assert len(fitted.history_["held_out_score"]) == 2


def test_dynamics_are_fitted_to_the_latents_of_both_views(recordings, fitted):
    first_stage = KalmanSSL(**TINY, noise_epochs=0).fit(recordings[0], view=recordings[1])
    assert first_stage.noise_history_ == {}
    assert len(fitted.noise_history_["loss"]) == 4
    likelihoods = []
    for model in (first_stage, fitted):
        found = [model.transform(recordings[0]), model.view_.transform(recordings[1])]
        likelihoods.append(np.mean([one.log_likelihood.mean() for one in found]))
    assert likelihoods[1] > likelihoods[0]
    assert fitted.view_.model_.predictor is fitted.model_.predictor


def test_without_a_second_view_there_is_none(recordings):
    assert KalmanSSL(**TINY).fit(recordings[0]).view_ is None


def test_arrays_and_trials_can_have_two_views(recordings):
    first, second = recordings
    arrays = KalmanSSL(**TINY).fit(first.activity, view=second.activity)
    assert arrays.view_.transform(second.activity).mean.shape == (600, 3)
    mixed = KalmanSSL(**TINY).fit(first, view=second.activity)
    whole = KalmanSSL(**TINY).fit(first, view=second)
    np.testing.assert_array_equal(mixed.transform(first).mean, whole.transform(first).mean)
    cuts = (slice(0, 150), slice(150, 400), slice(400, 600))
    trials = KalmanSSL(**TINY).fit([first[cut] for cut in cuts], view=[second[cut] for cut in cuts])
    assert [len(one) for one in trials.view_.transform([second[cut] for cut in cuts])] == [150, 250, 200]


def test_behavior_can_be_added_to_two_views(recordings):
    first, second = recordings
    model = KalmanSSL(**TINY, behavior_weight=1.0).fit(first, np.sin(np.arange(600) / 20), view=second)
    assert len(model.history_["held_out_behavior"]) == 2


def test_a_saved_model_has_both_views(recordings, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = KalmanSSL.load(tmp_path / "model")
    assert loaded.view_.model_.predictor is loaded.model_.predictor
    for one, same, recording in zip((fitted, fitted.view_), (loaded, loaded.view_), recordings, strict=True):
        np.testing.assert_array_equal(one.transform(recording).mean, same.transform(recording).mean)
    fitted.view_.save(tmp_path / "view")
    alone = KalmanSSL.load(tmp_path / "view")
    np.testing.assert_array_equal(alone.transform(recordings[1]).mean, fitted.view_.transform(recordings[1]).mean)
    assert alone.view_ is None
    assert not hasattr(clone(fitted), "view_")


def test_a_fit_of_two_views_can_be_resumed(recordings, tmp_path):
    model = KalmanSSL(**TINY, checkpoint_dir=tmp_path).fit(recordings[0], view=recordings[1])
    again = KalmanSSL(**TINY, checkpoint_dir=tmp_path).fit(recordings[0], view=recordings[1], resume=True)
    for one, same, recording in zip((model, model.view_), (again, again.view_), recordings, strict=True):
        np.testing.assert_array_equal(one.transform(recording).mean, same.transform(recording).mean)


def test_cross_fit_fits_both_views(recordings, fitted):
    first, second = recordings
    (of_recording,) = cross_fit(fitted, first, shares=(0.6,), view=second)
    (of_array,) = cross_fit(fitted, first, shares=(0.6,), view=second.activity)
    np.testing.assert_array_equal(of_recording.latents.mean, of_array.latents.mean)
    (alone,) = cross_fit(KalmanSSL(**TINY), first, shares=(0.6,))
    assert np.abs(alone.latents.mean - of_recording.latents.mean).max() > 1e-3
    cuts = (slice(0, 150), slice(150, 400), slice(400, 600))
    trials = [[one[cut] for cut in cuts] for one in recordings]
    (of_trials,) = cross_fit(fitted, trials[0], shares=(0.6,), view=trials[1])
    assert len(of_trials.latents) == 600
    for view, message in ((None, "view is missing"), (second[:10], "view has 10 entries and the recording 600")):
        with pytest.raises(InputError, match=message) as error:
            cross_fit(fitted, first, view=view)
        assert error.value.parameter == "view"


def test_views_that_do_not_match_are_refused(recordings):
    first, second = recordings
    model = KalmanSSL(**TINY)
    late = Recording.from_arrays(second.activity, time=second.time + 0.1, kind="signal")
    wide = Recording.from_arrays(second.activity, time=100 + 0.05 * np.arange(600), bin_size=0.05, kind="signal")
    missing = second.activity.copy()
    missing[5] = np.nan
    for view, message in (
        (second[:599], "view has 599 bins and X 600"),
        (late, "view has a bin at .* s where X has"),
        (wide, "view has bins of 0.05 s and X of 0.025 s"),
        (missing, "view: .*NaN"),
        ([second[:400], second[400:]], "view must be a list of trials if X is one"),
        (second.activity[:, 0], "view: "),
    ):
        with pytest.raises(InputError, match=message) as error:
            model.fit(first, view=view)
        assert error.value.parameter == "view"
    with pytest.raises(InputError, match=r"view has \[300, 300\] bins and X \[400, 200\]"):
        model.fit([first[:400], first[400:]], view=[second[:300], second[300:]])
    with pytest.raises(InputError, match="too few bins to fit on"):
        model.fit(first.activity[:10], view=second.activity[:10])


def test_settings_that_do_not_work_with_two_views_are_refused(recordings):
    for name, value in (("noise", "activity"), ("process_noise", "errors"), ("encoder", torch.nn.Linear(6, 2))):
        with pytest.raises(InputError, match=f"{name} must be .* with two views") as error:
            KalmanSSL(**TINY, **{name: value}).fit(recordings[0], view=recordings[1])
        assert error.value.parameter == name
