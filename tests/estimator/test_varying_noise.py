"""The second stage of fits of `KalmanSSL`, and what noise that varies gains on a recording with known noise."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from kalmanssl import KalmanSSL
from kalmanssl.datasets import ring_cells
from kalmanssl.errors import InputError
from kalmanssl.kalman import whiten

SETTINGS = {
    "latent_dim": 4, "state_dim": 6, "hidden": (16,), "batch_size": 32, "epochs": 3, "progress": False,
    "device": "cpu",
}  # fmt: skip
TINY = {**SETTINGS, "epochs": 2, "steps_per_epoch": 10, "noise_epochs": 2, "window": 40, "random_state": 0}


@pytest.fixture(scope="module")
def recording():
    return ring_cells(n_units=12, duration=60.0, gain_sd=1.5, random_state=0)


@pytest.fixture(scope="module")
def constant(recording):
    return KalmanSSL(**TINY).fit(recording)


@pytest.fixture(scope="module")
def varying(recording):
    return KalmanSSL(**TINY, noise="activity").fit(recording)


def test_noise_that_varies_leaves_the_encoder_unchanged(recording, constant, varying):
    one, two = constant.model_.encoder.state_dict(), varying.model_.encoder.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    np.testing.assert_array_equal(constant.transform(recording).latent, varying.transform(recording).latent)
    assert constant.history_ == varying.history_
    for model in (constant, varying):
        assert len(model.noise_history_["loss"]) == 2


def test_constant_noise_and_dynamics_are_fitted_to_the_latents(recording, constant):
    first_stage = KalmanSSL(**{**TINY, "noise_epochs": 0}).fit(recording)
    assert first_stage.noise_history_ == {}
    assert first_stage.history_ == constant.history_
    before, after = first_stage.transform(recording), constant.transform(recording)
    np.testing.assert_array_equal(before.latent, after.latent)
    assert after.log_likelihood.mean() > before.log_likelihood.mean() + 0.01


def test_dynamics_that_do_not_predict_better_are_not_kept(recording, constant, monkeypatch):
    from kalmanssl.estimator import _dynamics_fit

    values = iter([0.0, -1.0])
    monkeypatch.setattr(_dynamics_fit, "_held_out_likelihood", lambda *_: next(values))
    model = KalmanSSL(**TINY).fit(recording)
    first_stage = KalmanSSL(**{**TINY, "noise_epochs": 0}).fit(recording)
    np.testing.assert_array_equal(model.transform(recording).mean, first_stage.transform(recording).mean)
    assert not np.array_equal(model.transform(recording).mean, constant.transform(recording).mean)


def test_without_held_out_data_the_dynamics_are_fitted_once(recording):
    model = KalmanSSL(**TINY, validation_fraction=0.0).fit(recording)
    assert model.noise_history_ == {}


@pytest.mark.parametrize("settings", [{}, {"encoder_window": 3}, {"bins_per_step": 1}])
def test_the_second_stage_sees_the_latents_of_inference(recording, settings, monkeypatch):
    from kalmanssl.estimator import _fitting

    seen = []
    real = _fitting._latents
    monkeypatch.setattr(_fitting, "_latents", lambda *given: seen.append(real(*given)) or seen[-1])
    model = KalmanSSL(**TINY, **settings).fit(recording)
    latent = model.transform(recording).latent
    first = seen[0][0]  # the segment before the first held-out block
    start = model.bins_per_step_ * model.encoder_window  # zeros before the segment count until here
    np.testing.assert_allclose(first[start:], latent[start : len(first)], rtol=1e-4, atol=1e-5)


def test_variances_follow_the_activity_within_a_factor_of_ten(recording, varying):
    latents = varying.transform(recording)
    base = varying.model_.predictor.observation_noise.log_variance.detach().exp().numpy()
    ratio = latents.noise / base
    assert ratio.min() > 0.0999
    assert ratio.max() < 10.01
    step = varying.bins_per_step_
    activity = np.convolve(recording.activity.sum(1), np.ones(step))[: len(latents.noise)]
    assert (latents.log_likelihood[activity == 0] == 0).all()  # these bins are missing
    correlation = np.corrcoef(np.log(ratio[activity > 0]).mean(1), np.log(activity[activity > 0]))[0, 1]
    assert correlation < -0.8


@pytest.mark.parametrize("noise", ["activity", "input", "state", "errors"])
def test_few_training_steps_do_not_let_the_variance_collapse(recording, constant, noise):
    model = KalmanSSL(**TINY, noise=noise).fit(recording)
    reference = constant.transform(recording)
    latents = model.transform(recording)
    assert (latents.noise / reference.noise).min() > 0.05
    assert latents.latent.std(0).min() > 0.5 * reference.latent.std(0).min()


@pytest.mark.parametrize("noise", ["activity", "input"])
def test_noise_can_be_trained_together_with_the_encoder(recording, constant, noise):
    model = KalmanSSL(**{**TINY, "noise_epochs": 0}, noise=noise).fit(recording)
    assert model.noise_history_ == {}
    assert model.model_.predictor.observation_noise.varies
    assert np.ptp(model.transform(recording).noise, axis=0).min() > 1e-3
    one, two = constant.model_.encoder.state_dict(), model.model_.encoder.state_dict()
    assert any(not torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("process_noise", ["activity", "state"])
def test_process_noise_can_vary(recording, constant, process_noise):
    model = KalmanSSL(**TINY, process_noise=process_noise).fit(recording)
    latents = model.transform(recording, smooth=True)
    np.testing.assert_array_equal(latents.noise, np.broadcast_to(latents.noise[0], latents.noise.shape))
    assert np.isfinite(latents.mean).all()
    assert len(model.noise_history_["loss"]) == 2


def test_noise_that_does_not_predict_better_stays_constant(recording, monkeypatch):
    from kalmanssl.estimator import _dynamics_fit

    values = iter([0.0, -1.0])
    monkeypatch.setattr(_dynamics_fit, "_held_out_likelihood", lambda *_: next(values))
    model = KalmanSSL(**TINY, noise="activity").fit(recording)
    assert not model.model_.predictor.observation_noise.varies
    first_stage = KalmanSSL(**{**TINY, "noise_epochs": 0}).fit(recording)
    np.testing.assert_array_equal(model.transform(recording).mean, first_stage.transform(recording).mean)


def test_a_saved_model_keeps_its_noise(recording, varying, tmp_path):
    varying.save(tmp_path / "model")
    loaded = KalmanSSL.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.transform(recording).noise, varying.transform(recording).noise)
    assert loaded.noise_history_ == varying.noise_history_


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("noise", ["constant", "activity"])
def test_an_interrupted_fit_is_resumed_in_either_stage(
    recording, constant, varying, noise, stage, monkeypatch, tmp_path
):
    from kalmanssl.models import PredictorFit, SequenceModel

    uninterrupted = constant if noise == "constant" else varying
    kind = SequenceModel if stage == 1 else PredictorFit
    real, calls = kind.after_step, []

    def interrupt(self):
        calls.append(0)
        if len(calls) == 15:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(kind, "after_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clone(uninterrupted).set_params(checkpoint_dir=tmp_path).fit(recording)
    monkeypatch.setattr(kind, "after_step", real)
    resumed = clone(uninterrupted).set_params(checkpoint_dir=tmp_path).fit(recording, resume=True)
    np.testing.assert_array_equal(resumed.transform(recording).mean, uninterrupted.transform(recording).mean)


@pytest.mark.parametrize("noise", ["constant", "activity"])
def test_after_more_epochs_of_the_first_stage_the_second_one_begins_anew(recording, noise, tmp_path):
    settings = {**TINY, "noise": noise}
    KalmanSSL(**settings, checkpoint_dir=tmp_path).fit(recording)
    assert (tmp_path / "noise" / "last.safetensors").is_file()
    resumed = KalmanSSL(**{**settings, "epochs": 3}, checkpoint_dir=tmp_path).fit(recording, resume=True)
    assert len(resumed.history_["loss"]) == 3
    assert len(resumed.noise_history_["loss"]) == 2
    anew = KalmanSSL(**settings, checkpoint_dir=tmp_path).fit(recording)
    expected = KalmanSSL(**settings).fit(recording)
    np.testing.assert_array_equal(anew.transform(recording).mean, expected.transform(recording).mean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"noise": "variance-network"},
            "there is no noise .variance-network.: use one of .constant., .activity., .input., .state., .errors.",
        ),
        ({"process_noise": "inputs"}, "there is no process_noise .inputs.: did you mean .input."),
        ({"noise": "activity", "noise_epochs": -1}, "noise_epochs must be a whole number, at least 0; got -1"),
    ],
)
def test_wrong_settings_raise_an_error_that_names_them(recording, options, message):
    with pytest.raises(InputError, match=message):
        KalmanSSL(**{**TINY, **options}).fit(recording)


def true_log_variance(model, rate, bin_size, rng):
    """Mean over channels of the logarithm of the variance of the latents, from repeated draws of the counts."""
    step = model.bins_per_step_
    total = np.cumsum(rate * bin_size, axis=0)
    expected = torch.from_numpy(total[step:] - total[:-step])[None]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    with torch.no_grad():
        draws = [model.model_.encoder(torch.poisson(expected, generator=generator).float())[0] for _ in range(30)]
    return torch.stack(draws).var(0).log().mean(1).numpy()


def nis_by_decile(model, recording):
    """Mean squared whitened innovation by decile of the predicted variance; 1 if the covariances are right."""
    predictor = model.model_.double().predictor
    (features,) = model.encoder_input(recording)
    with torch.no_grad():
        filtered = predictor(model.model_.encoder(features), features).filtered
        cov = filtered.innovation_cov.expand(*filtered.innovation.shape, -1)
        active = (features != 0).any(-1)[:, 2:]
        square = whiten(filtered.innovation, cov).square().mean(-1)[:, 2:][active]
    order = torch.linalg.slogdet(cov).logabsdet[:, 2:][active].argsort(stable=True)
    model.model_.float()
    return np.array([float(part.mean()) for part in square[order].chunk(10)])


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_follows_the_known_variance_and_predicts_better_on_new_time(seed):
    whole = ring_cells(n_units=30, duration=400.0, random_state=seed)
    training, later = whole.split(at=280.0)
    # Without a preference for active windows, the constant noise is right on average.
    settings = {**SETTINGS, "activity_sampling_power": 0.0, "random_state": seed}
    models = {n: KalmanSSL(**settings, noise=n).fit(training) for n in ("constant", "activity")}
    latents = {n: model.transform(later) for n, model in models.items()}
    model = models["activity"]
    true = true_log_variance(model, later.behavior["rate"], later.bin_size, np.random.default_rng(seed))
    found = np.log(latents["activity"].noise[model.bins_per_step_ :]).mean(1)
    observed = latents["activity"].log_likelihood[model.bins_per_step_ :] != 0
    # The gain has about 60 independent values in this time, so that a chance correlation has a standard error of 0.13.
    assert np.corrcoef(found[observed], true[observed])[0, 1] > 0.6
    gain = latents["activity"].log_likelihood - latents["constant"].log_likelihood
    gain = gain[latents["activity"].log_likelihood != 0]  # bins without activity are missing
    blocks = np.array([block.mean() for block in np.array_split(gain, 20)])
    assert gain.mean() > 3 * blocks.std(ddof=1) / len(blocks) ** 0.5
    assert gain.mean() > 0.02
    deciles = nis_by_decile(model, later)
    assert deciles.min() > 0.65
    assert deciles.max() < 1.35
    assert abs(deciles.mean() - 1) < 0.15
