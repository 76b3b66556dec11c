"""KalmanSSL: what it recovers, settings and seeds, custom encoders, saving, loading and resuming."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from small_fits import TINY
from torch import nn

from kalmanssl import KalmanSSL, Recording
from kalmanssl.errors import InputError


@pytest.fixture(scope="module")
def rotation() -> tuple[np.ndarray, np.ndarray]:
    """A noisy rotation by 0.3 radians per bin in the plane, and 20 channels that observe it; 3000 bins."""
    rng = np.random.default_rng(1)
    state, turn = np.zeros((3000, 2)), 0.3
    A = 0.99 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    state[0] = rng.standard_normal(2)
    for t in range(1, 3000):
        state[t] = A @ state[t - 1] + np.sqrt(1 - 0.99**2) * rng.standard_normal(2)
    return state, state @ rng.standard_normal((2, 20)) + 2.0 * rng.standard_normal((3000, 20))


@pytest.fixture(scope="module")
def rotation_model(rotation) -> KalmanSSL:
    settings = {**TINY, "state_dim": 2, "hidden": (), "bins_per_step": 1, "window": 50, "unit_dropout": 0.0}
    settings |= {"epochs": 12, "steps_per_epoch": 25, "batch_size": 32, "learning_rate": 0.01}
    return KalmanSSL(**settings).fit(rotation[1][:2000])


def test_the_frequency_and_the_state_of_a_rotation_are_recovered(rotation, rotation_model):
    state, observed = rotation
    eigenvalues = np.linalg.eigvals(rotation_model.model_.predictor.A.detach().numpy())
    np.testing.assert_allclose(np.sort(np.angle(eigenvalues)), [-0.3, 0.3], atol=0.03)
    latents = {
        "filtered": rotation_model.transform(observed),
        "smoothed": rotation_model.transform(observed, smooth=True),
    }
    r2 = {
        name: LinearRegression().fit(z.mean[:2000], state[:2000]).score(z.mean[2000:], state[2000:])
        for name, z in latents.items()
    }
    r2["raw"] = LinearRegression().fit(observed[:2000], state[:2000]).score(observed[2000:], state[2000:])
    assert r2["filtered"] > r2["raw"] + 0.15
    assert r2["smoothed"] > r2["filtered"] + 0.02


def test_the_posterior_covariance_matches_the_error_of_the_filter(rotation, rotation_model):
    """The predictive distribution of the latents is calibrated: 90 % of them are inside the 90 % ellipse."""
    latents = rotation_model.transform(rotation[1])
    A = rotation_model.model_.predictor.A.detach().numpy()
    center = rotation_model.model_.predictor.center.detach().numpy()
    Q = np.diag(rotation_model.model_.predictor.process_noise().detach().numpy().reshape(-1))
    predicted = (latents.mean[1999:-1] - center) @ A.T + center
    cov = A @ latents.cov[1999:-1] @ A.T + Q + np.einsum("ti,ij->tij", latents.noise[2000:], np.eye(2))
    innovation = latents.latent[2000:] - predicted
    distance = np.einsum("ti,tij,tj->t", innovation, np.linalg.inv(cov), innovation)
    assert (distance < chi2(2).ppf(0.9)).mean() == pytest.approx(0.9, abs=0.06)


def test_the_seed_determines_the_model_and_the_global_generator_is_not_used(recording, fitted):
    state = torch.get_rng_state()
    again = clone(fitted).fit(recording)
    np.testing.assert_array_equal(again.transform(recording).mean, fitted.transform(recording).mean)
    assert torch.equal(torch.get_rng_state(), state)
    other = clone(fitted).set_params(random_state=1).fit(recording)
    assert np.abs(other.transform(recording).mean - fitted.transform(recording).mean).max() > 0.01


@pytest.mark.parametrize("noise", ["constant", "input", "state", "errors"])
@pytest.mark.parametrize("entropy", ["logdet", "knn", "kde", "stopgrad"])
def test_every_noise_trains_with_every_entropy(recording, noise, entropy):
    # The noise from errors has to be learned more slowly than the others.
    steps = 15 if noise == "errors" else 10
    settings = {**TINY, "epochs": 4, "steps_per_epoch": steps, "unit_dropout": 0.0}
    model = KalmanSSL(**settings, noise=noise, entropy=entropy, mutual_information=entropy != "stopgrad")
    latents = model.fit(recording).transform(recording)
    assert np.isfinite(latents.mean).all()
    assert latents.latent.std(axis=0).min() > 0.1
    if noise == "constant":
        np.testing.assert_array_equal(latents.noise, np.broadcast_to(latents.noise[0], latents.noise.shape))
    else:
        assert np.ptp(latents.noise, axis=0).min() > 1e-8
    loss = model.history_["loss"]
    if entropy == "stopgrad":  # its value is minus the alignment; only its gradient differs
        assert np.abs(loss).max() < 1e-6
    else:
        assert loss[-1] < loss[0] - 0.1


@pytest.mark.parametrize("options", [{"process_noise": "errors"}, {"mutual_information": False}, {"encoder_window": 3}])
def test_other_settings_train(recording, options):
    model = KalmanSSL(**{**TINY, "epochs": 2, "learning_rate": 0.01}, **options).fit(recording)
    assert np.isfinite(model.transform(recording).mean).all()
    assert model.history_["loss"][1] < model.history_["loss"][0]


class LinearEncoder(nn.Module):
    def __init__(self, out: int = 2) -> None:
        super().__init__()
        self.linear = nn.Linear(6, out)

    def forward(self, x):
        return self.linear(x)


def test_a_custom_encoder_is_copied_saved_without_its_code_and_checked(recording, tmp_path):
    encoder = LinearEncoder()
    before = encoder.linear.weight.detach().clone()
    model = KalmanSSL(**TINY, encoder=encoder).fit(recording)
    torch.testing.assert_close(encoder.linear.weight, before)
    model.save(tmp_path / "own")
    with pytest.raises(InputError, match="encoder of type 'LinearEncoder': pass one"):
        KalmanSSL.load(tmp_path / "own")
    loaded = KalmanSSL.load(tmp_path / "own", encoder=LinearEncoder())
    np.testing.assert_array_equal(loaded.transform(recording).mean, model.transform(recording).mean)
    with pytest.raises(InputError, match="must return"):
        KalmanSSL(**TINY, encoder=LinearEncoder(5)).fit(recording)


def test_a_loaded_model_gives_the_same_latents_and_scores(recording, fitted, tmp_path):
    fitted.save(tmp_path / "run")
    loaded = KalmanSSL.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.transform(recording).mean, fitted.transform(recording).mean)
    assert loaded.score(recording) == fitted.score(recording)
    assert loaded.history_ == fitted.history_
    assert loaded.unit_ids_ == fitted.unit_ids_
    assert loaded.get_params() == {**fitted.get_params(), "hidden": [8]}
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    assert metadata["settings"]["latent_dim"] == 2
    with pytest.raises(InputError, match="exists"):
        fitted.save(tmp_path / "run")
    with pytest.raises(InputError, match="built-in encoder"):
        KalmanSSL.load(tmp_path / "run", encoder=LinearEncoder())


def test_an_unfitted_model_raises_an_error(recording, tmp_path):
    with pytest.raises(NotFittedError):
        KalmanSSL().transform(recording)
    with pytest.raises(NotFittedError):
        KalmanSSL().score(recording)
    with pytest.raises(NotFittedError):
        KalmanSSL().save(tmp_path / "run")


def with_units(recording: Recording, order: list[int], names: list[str] | None = None) -> Recording:
    ids = names or [recording.unit_ids[i] for i in order]
    return Recording.from_arrays(recording.activity[:, order], time=recording.time, unit_ids=ids)


def test_units_in_another_order_give_the_same_latents(recording, fitted):
    shuffled = with_units(recording, [5, 3, 1, 0, 2, 4])
    np.testing.assert_array_equal(fitted.transform(shuffled).mean, fitted.transform(recording).mean)


def test_other_units_and_other_bins_raise_an_error_that_names_them(recording, fitted):
    with pytest.raises(InputError, match=r"other units than the fit: 2 missing \(u4, u5\)"):
        fitted.transform(with_units(recording, [0, 1, 2, 3]))
    with pytest.raises(InputError, match=r"1 missing \(u5\), 1 unknown \(new\)"):
        fitted.transform(with_units(recording, [0, 1, 2, 3, 4, 5], ["u0", "u1", "u2", "u3", "u4", "new"]))
    wide = Recording.from_arrays(recording.activity, bin_size=0.05, unit_ids=recording.unit_ids)
    with pytest.raises(InputError, match=r"bins of 0.025 s, the recording has bins of 0.05 s"):
        fitted.transform(wide)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 3}, "window must hold at least 2 steps of 2 bins, .* got 3 bins"),
        ({"bins_per_step": 400, "window": 800}, r"0 of 600 are in segments of at least 800 bins \(2 steps\)"),
        ({"bins_per_step": "long"}, "bins_per_step must be 'auto' or a number of bins, got 'long'"),
        ({"bins_per_step": 0}, "bins_per_step must be a whole number, at least 1; got 0"),
        ({"latent_dim": 0}, "latent_dim must be a whole number, at least 1; got 0"),
        ({"state_dim": 1}, "state_dim must be at least latent_dim"),
        ({"entropy": "knnn"}, "did you mean 'knn'"),
        ({"noise": "inputs"}, "did you mean 'input'"),
        ({"entropy": "stopgrad"}, "mutual_information=False"),
        ({"normalize": "log"}, "normalize must be one of"),
        ({"validation_fraction": 1.5}, "validation_fraction must be"),
        ({"learning_rate": -1}, "learning_rate must be positive"),
        ({"unit_dropout": 1.0}, "unit_dropout must be at least 0 and below 1; got 1.0"),
    ],
)
def test_wrong_settings_raise_an_error_that_names_them(recording, options, message):
    with pytest.raises(InputError, match=message):
        KalmanSSL(**{**TINY, **options}).fit(recording)


def test_a_normalization_for_counts_raises_an_error_for_signals():
    signal = np.random.default_rng(0).standard_normal((100, 3))
    with pytest.raises(InputError, match="is for counts"):
        KalmanSSL(**TINY, normalize="cosine").fit(signal)


def test_resume_without_a_folder_raises_an_error(recording):
    with pytest.raises(InputError, match="needs the checkpoint_dir"):
        KalmanSSL(**TINY).fit(recording, resume=True)


def test_a_fit_that_is_interrupted_before_its_training_has_no_history(recording, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    model = KalmanSSL(**TINY).fit(recording)
    assert model.history_["loss"]
    monkeypatch.setattr("kalmanssl.estimator._fitting.initialize", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(recording)
    assert model.history_ == {}
    assert model.noise_history_ == {}


def test_an_interrupted_model_can_be_used_and_resumed(recording, monkeypatch, tmp_path):
    from kalmanssl.models import SequenceModel

    real, calls = SequenceModel.after_step, []

    def interrupt(self):
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(SequenceModel, "after_step", interrupt)
    model = KalmanSSL(**TINY, checkpoint_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.fit(recording)
    assert np.isfinite(model.transform(recording).mean).all()
    assert len(model.history_["loss"]) == 1
    monkeypatch.setattr(SequenceModel, "after_step", real)
    resumed = KalmanSSL(**TINY, checkpoint_dir=tmp_path).fit(recording, resume=True)
    whole = KalmanSSL(**TINY).fit(recording)
    np.testing.assert_array_equal(resumed.transform(recording).mean, whole.transform(recording).mean)
