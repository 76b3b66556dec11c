"""KalmanSSL: scikit-learn's conventions, data at the door, saving and loading."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from kalmanssl import KalmanSSL, Recording
from kalmanssl.errors import InputError

TINY = {
    "latent_dim": 2, "state_dim": 3, "hidden": (8,), "window": 8, "bins_per_step": 2, "batch_size": 16,
    "epochs": 2, "steps_per_epoch": 3, "validation_fraction": 0, "progress": False, "random_state": 0,
    "device": "cpu",
}  # fmt: skip

NOT_APPLICABLE = {
    "check_methods_subset_invariance": "the posterior of a bin depends on the bins before it",
    "check_methods_sample_order_invariance": "the order of the samples is time",
}


def expected_to_fail(_estimator) -> dict[str, str]:
    return NOT_APPLICABLE


@parametrize_with_checks([KalmanSSL(**TINY)], expected_failed_checks=expected_to_fail)
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def recording() -> Recording:
    rng = np.random.default_rng(0)
    phase = np.cumsum(0.2 + 0.05 * rng.standard_normal(600))
    rate = np.exp(1.5 * np.cos(phase[:, None] - np.arange(6)))
    time = 100 + 0.025 * np.arange(600)
    time[400:] += 5.0
    return Recording.from_arrays(rng.poisson(rate), time=time, unit_ids=[f"u{i}" for i in range(6)])


@pytest.fixture(scope="module")
def fitted(recording) -> KalmanSSL:
    return KalmanSSL(**{**TINY, "epochs": 4}).fit(recording)


def test_path_of_a_recording(recording, fitted):
    path = fitted.transform(recording)
    assert path.mean.shape == (600, 3)
    assert path.cov.shape == (600, 3, 3)
    assert path.latent.shape == path.noise.shape == (600, 2)
    np.testing.assert_array_equal(path.time, recording.time)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(path.segment)), [399])
    assert np.linalg.eigvalsh(path.cov).min() > 0
    assert (path.noise > 0).all()
    np.testing.assert_array_equal(np.asarray(path[:5]), path.mean[:5])


def test_filtered_path_never_looks_ahead_and_smoothed_path_does(recording, fitted):
    changed = recording.activity.copy()
    changed[200] += 5
    other = replace(recording, activity=changed)
    filtered, filtered_other = fitted.transform(recording), fitted.transform(other)
    np.testing.assert_array_equal(filtered.mean[:200], filtered_other.mean[:200])
    assert np.abs(filtered.mean[200:204] - filtered_other.mean[200:204]).max() > 1e-3
    smoothed, smoothed_other = fitted.transform(recording, smooth=True), fitted.transform(other, smooth=True)
    assert np.abs(smoothed.mean[190:200] - smoothed_other.mean[190:200]).max() > 1e-3
    np.testing.assert_array_equal(smoothed.mean[400:], smoothed_other.mean[400:])


def test_stretches_are_filtered_on_their_own(recording, fitted):
    whole = fitted.transform(recording)
    second = fitted.transform(recording.restrict(start=recording.time[400] - 0.01))
    np.testing.assert_allclose(whole.mean[400:], second.mean, atol=1e-12)


def test_every_step_of_the_filter_sees_the_sum_of_its_bins(recording):
    model = KalmanSSL(**{**TINY, "bins_per_step": 3, "window": 9}).fit(recording)
    path = model.transform(recording)
    encoder = model.model_.double().eval().encoder
    counts = recording.activity[:400]
    for t in (50, 51, 52):
        seen = torch.from_numpy(counts[t - 2 : t + 1].sum(0)).double()[None, None]
        latent = encoder(seen)[0, 0].detach().numpy()
        np.testing.assert_allclose(path.latent[t], latent, atol=1e-6)


def test_score_is_the_objective(recording, fitted):
    shuffled = recording.activity[np.random.default_rng(0).permutation(600)]
    assert fitted.score(recording) > fitted.score(replace(recording, activity=shuffled))


def test_same_seed_same_path(recording, fitted):
    state = torch.get_rng_state()
    again = clone(fitted).fit(recording)
    np.testing.assert_array_equal(again.transform(recording).mean, fitted.transform(recording).mean)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("noise", ["constant", "input", "state", "errors"])
@pytest.mark.parametrize("entropy", ["logdet", "knn", "kde", "stopgrad"])
def test_every_combination_trains(recording, noise, entropy):
    model = KalmanSSL(**{**TINY, "epochs": 1}, noise=noise, entropy=entropy, mutual_information=entropy != "stopgrad")
    assert np.isfinite(model.fit(recording).transform(recording).mean).all()


@pytest.mark.parametrize("options", [{"process_noise": "errors"}, {"mutual_information": False}, {"encoder_window": 3}])
def test_other_settings_train(recording, options):
    model = KalmanSSL(**{**TINY, "epochs": 1}, **options).fit(recording)
    assert np.isfinite(model.transform(recording).mean).all()


class Own(nn.Module):
    def __init__(self, out: int = 2) -> None:
        super().__init__()
        self.linear = nn.Linear(6, out)

    def forward(self, x):
        return self.linear(x)


def test_own_encoder(recording, tmp_path):
    encoder = Own()
    before = encoder.linear.weight.detach().clone()
    model = KalmanSSL(**TINY, encoder=encoder).fit(recording)
    torch.testing.assert_close(encoder.linear.weight, before)
    model.save(tmp_path / "own")
    with pytest.raises(InputError, match="encoder of type Own: pass one"):
        KalmanSSL.load(tmp_path / "own")
    loaded = KalmanSSL.load(tmp_path / "own", encoder=Own())
    np.testing.assert_array_equal(loaded.transform(recording).mean, model.transform(recording).mean)
    with pytest.raises(InputError, match="must return"):
        KalmanSSL(**TINY, encoder=Own(5)).fit(recording)


def test_save_and_load(recording, fitted, tmp_path):
    fitted.save(tmp_path / "run")
    loaded = KalmanSSL.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.transform(recording).mean, fitted.transform(recording).mean)
    assert loaded.history_ == fitted.history_
    assert loaded.unit_ids_ == fitted.unit_ids_
    assert loaded.get_params() == {**fitted.get_params(), "hidden": [8]}
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    assert metadata["settings"]["latent_dim"] == 2
    with pytest.raises(InputError, match="exists"):
        fitted.save(tmp_path / "run")
    with pytest.raises(InputError, match="built-in encoder"):
        KalmanSSL.load(tmp_path / "run", encoder=Own())


def test_unfitted_model_does_not_save_or_transform(recording, tmp_path):
    with pytest.raises(NotFittedError):
        KalmanSSL().transform(recording)
    with pytest.raises(NotFittedError):
        KalmanSSL().save(tmp_path / "run")


def with_units(recording: Recording, order: list[int], names: list[str] | None = None) -> Recording:
    ids = names or [recording.unit_ids[i] for i in order]
    return Recording.from_arrays(recording.activity[:, order], time=recording.time, unit_ids=ids)


def test_units_in_another_order_are_put_in_order(recording, fitted):
    shuffled = with_units(recording, [5, 3, 1, 0, 2, 4])
    np.testing.assert_array_equal(fitted.transform(shuffled).mean, fitted.transform(recording).mean)


def test_other_units_and_other_bins_are_named(recording, fitted):
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
        ({"window": 500}, "longest segment without a gap has 400 bins, shorter than a window of 500"),
        ({"latent_dim": 0}, "latent_dim must be a whole number of at least 1, got 0"),
        ({"state_dim": 1}, "state_dim must be at least latent_dim"),
        ({"entropy": "knnn"}, "did you mean 'knn'"),
        ({"noise": "inputs"}, "did you mean 'input'"),
        ({"entropy": "stopgrad"}, "mutual_information=False"),
        ({"normalize": "log"}, "normalize must be one of"),
        ({"validation_fraction": 1.5}, "validation_fraction must be"),
        ({"learning_rate": -1}, "learning_rate must be positive"),
        ({"unit_dropout": 1.0}, r"must lie in \[0, 1\)"),
    ],
)
def test_bad_settings_are_named(recording, options, message):
    with pytest.raises(InputError, match=message):
        KalmanSSL(**{**TINY, **options}).fit(recording)


def test_counts_only_normalization_refuses_signals():
    signal = np.random.default_rng(0).standard_normal((100, 3))
    with pytest.raises(InputError, match="is for counts"):
        KalmanSSL(**TINY, normalize="cosine").fit(signal)


def test_resume_needs_a_folder(recording):
    with pytest.raises(InputError, match="needs the checkpoint_dir"):
        KalmanSSL(**TINY).fit(recording, resume=True)


def test_interrupt_leaves_a_usable_model(recording, monkeypatch, tmp_path):
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
    monkeypatch.setattr(SequenceModel, "after_step", real)
    resumed = KalmanSSL(**TINY, checkpoint_dir=tmp_path).fit(recording, resume=True)
    whole = KalmanSSL(**TINY).fit(recording)
    np.testing.assert_array_equal(resumed.transform(recording).mean, whole.transform(recording).mean)
