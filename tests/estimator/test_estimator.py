"""KalmanSSL: what it recovers, its score, input validation, saving and loading."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from torch import nn

from kalmanssl import KalmanSSL, Recording
from kalmanssl.entropy import make_entropy
from kalmanssl.errors import InputError
from kalmanssl.training import hold_out_blocks, interleave, sum_bins

TINY = {
    "latent_dim": 2, "state_dim": 3, "hidden": (8,), "window": 8, "bins_per_step": 2, "batch_size": 16,
    "epochs": 2, "steps_per_epoch": 3, "validation_fraction": 0, "progress": False, "random_state": 0,
    "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Counts of six units that follow a rotating phase, in two segments of 400 and 200 bins."""
    rng = np.random.default_rng(0)
    phase = np.cumsum(0.2 + 0.05 * rng.standard_normal(600))
    rate = np.exp(1.5 * np.cos(phase[:, None] - np.arange(6)))
    time = 100 + 0.025 * np.arange(600)
    time[400:] += 5.0
    return Recording.from_arrays(rng.poisson(rate), time=time, unit_ids=[f"u{i}" for i in range(6)])


@pytest.fixture(scope="module")
def fitted(recording) -> KalmanSSL:
    return KalmanSSL(**{**TINY, "epochs": 4}).fit(recording)


def segment_of(recording: Recording, start: int, stop: int) -> Recording:
    return recording.restrict(recording.time[start] - 0.01, recording.time[stop - 1] + 0.01)


def repeated(recording: Recording, times: int) -> Recording:
    """Copies of a contiguous recording, with gaps between them."""
    length = recording.time[-1] - recording.time[0] + 1.0
    time = np.concatenate([recording.time + i * length for i in range(times)])
    return Recording.from_arrays(np.tile(recording.activity, (times, 1)), time=time, unit_ids=recording.unit_ids)


# What it recovers.


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


# Latents.


def test_latents_have_one_row_per_bin(recording, fitted):
    latents = fitted.transform(recording)
    assert latents.mean.shape == (600, 3)
    assert latents.cov.shape == (600, 3, 3)
    assert latents.latent.shape == latents.noise.shape == (600, 2)
    np.testing.assert_array_equal(latents.time, recording.time)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(latents.segment)), [399])
    assert np.linalg.eigvalsh(latents.cov).min() > 0
    assert (latents.noise > 0).all()
    np.testing.assert_array_equal(np.asarray(latents[:5]), latents.mean[:5])


def test_filtered_latents_do_not_depend_on_later_bins_and_smoothed_ones_do(recording, fitted):
    changed = recording.activity.copy()
    changed[200] += 5
    other = replace(recording, activity=changed)
    filtered, filtered_other = fitted.transform(recording), fitted.transform(other)
    np.testing.assert_array_equal(filtered.mean[:200], filtered_other.mean[:200])
    assert np.abs(filtered.mean[200:204] - filtered_other.mean[200:204]).max() > 1e-3
    smoothed, smoothed_other = fitted.transform(recording, smooth=True), fitted.transform(other, smooth=True)
    assert np.abs(smoothed.mean[190:200] - smoothed_other.mean[190:200]).max() > 1e-3
    np.testing.assert_array_equal(smoothed.mean[400:], smoothed_other.mean[400:])


def test_every_segment_is_filtered_by_itself(recording, fitted):
    whole = fitted.transform(recording)
    second = fitted.transform(recording.restrict(start=recording.time[400] - 0.01))
    np.testing.assert_allclose(whole.mean[400:], second.mean, atol=1e-12)


def test_the_encoder_receives_the_sum_of_the_bins_of_a_step(recording):
    model = KalmanSSL(**{**TINY, "bins_per_step": 3, "window": 9}).fit(recording)
    latents = model.transform(recording)
    encoder = model.model_.double().eval().encoder
    counts = recording.activity[:400]
    for t in (50, 51, 52):
        summed = torch.from_numpy(counts[t - 2 : t + 1].sum(0)).double()[None, None]
        np.testing.assert_allclose(latents.latent[t], encoder(summed)[0, 0].detach().numpy(), atol=1e-6)


# Recordings in pieces.

TRIALS = (40,) * 12
GAPS = (300, 1, 25, 90, 1, 2, 1, 60, 7, 1)


def in_pieces(recording: Recording, *lengths: int) -> Recording:
    """Return the first bins of a recording as segments of these lengths, with gaps of one second between them."""
    n_bins = sum(lengths)
    time = 0.025 * np.arange(n_bins) + np.repeat(np.arange(len(lengths)), lengths)
    return Recording.from_arrays(recording.activity[:n_bins], time=time, unit_ids=recording.unit_ids)


@pytest.mark.parametrize(("lengths", "window"), [(TRIALS, 40), (GAPS, 60)])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_recording_in_pieces_can_be_fitted_with_the_default_window(recording, lengths, window, smooth):
    pieces = in_pieces(recording, *lengths)
    model = KalmanSSL(**{**TINY, "window": 100, "bins_per_step": 4, "validation_fraction": 0.1}).fit(pieces)
    assert model.window_ == window
    assert np.isfinite(model.history_["held_out_score"]).all()
    latents = model.transform(pieces, smooth=smooth)
    assert len(latents) == sum(lengths)
    assert np.isfinite(latents.mean).all()
    assert np.isfinite(model.score(pieces))
    again = clone(model).fit(pieces).transform(pieces, smooth=smooth)
    np.testing.assert_array_equal(again.mean, latents.mean)


def test_the_held_out_part_of_a_recording_in_pieces_does_not_change_the_weights(recording):
    """Held-out trials have other counts: the model of the last epoch is the same if that epoch is the best or only."""
    pieces = in_pieces(recording, *TRIALS)
    settings = {**TINY, "epochs": 1, "window": 40, "validation_fraction": 0.1}
    _, held_out = hold_out_blocks([np.arange(a, a + 40)[:, None] for a in range(0, 480, 40)], 0.1, 40)
    changed = pieces.activity.copy()
    changed[np.concatenate(held_out)[:, 0]] += 1
    other = replace(pieces, activity=changed)
    models = [KalmanSSL(**settings).fit(data).model_ for data in (pieces, other)]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("bin_size", "rate", "kind", "steps"),
    [
        (0.025, 50.0, "counts", 4),  # 300 spikes per 100 ms
        (0.025, 5.0, "counts", 4),  # 3 spikes per 100 ms in all units, but 0.5 in each
        (0.025, 1.0, "counts", 8),  # 0.6 spikes per 100 ms
        (0.05, 1.0, "events", 4),  # six cells with real-valued events at 1 Hz
        (0.1, 1.0, "signal", 1),
        (0.5, 1.0, "counts", 1),
    ],
)
def test_steps_last_100_ms_and_twice_as_long_if_events_are_sparse(bin_size, rate, kind, steps, tmp_path):
    rng = np.random.default_rng(0)
    units = 6 if rate < 10 else 60
    activity = rng.poisson(rate * bin_size, (200, units)).astype(float)
    if kind == "events":
        activity *= rng.uniform(1, 30, activity.shape)
    kind = "signal" if kind == "signal" else "counts"
    recording = Recording.from_arrays(activity, bin_size=bin_size, kind=kind)
    settings = {**TINY, "bins_per_step": "auto", "window": 20, "epochs": 1, "steps_per_epoch": 1}
    model = KalmanSSL(**settings).fit(recording)
    assert model.bins_per_step_ == steps
    assert len(model.transform(recording)) == 200
    model.save(tmp_path / "run")
    assert KalmanSSL.load(tmp_path / "run").bins_per_step_ == steps


def test_an_array_without_a_bin_size_has_steps_of_four_bins():
    values = np.random.default_rng(0).standard_normal((100, 4))
    assert KalmanSSL(**{**TINY, "bins_per_step": "auto", "epochs": 1}).fit(values).bins_per_step_ == 4


def test_the_window_is_saved(recording, tmp_path):
    model = KalmanSSL(**{**TINY, "window": 100}).fit(in_pieces(recording, *TRIALS))
    model.save(tmp_path / "run")
    assert KalmanSSL.load(tmp_path / "run").window_ == model.window_ == 40


@pytest.mark.parametrize("entropy", ["knn", "kde"])
def test_the_held_out_entropy_of_a_short_recording_is_finite(recording, entropy):
    settings = {**TINY, "window": 30, "batch_size": 128, "validation_fraction": 0.1, "bins_per_step": 1}
    model = KalmanSSL(**settings, entropy=entropy).fit(recording)
    assert np.isfinite(model.history_["held_out_entropy"]).all()


# Score.


def test_the_score_is_higher_than_that_of_shuffled_bins(recording, fitted):
    order = np.random.default_rng(0).permutation(600)
    shuffled = replace(recording, activity=recording.activity[order])
    assert fitted.score(recording) > fitted.score(shuffled) + 0.05


@pytest.mark.parametrize("bins_per_step", [1, 2, 5])
@pytest.mark.parametrize("mutual_information", [True, False])
def test_the_score_times_the_bins_is_the_objective_of_one_interleaved_sequence(
    recording, bins_per_step, mutual_information
):
    """The filter passes 400 bins in 400 / bins_per_step steps, once for each of bins_per_step offsets."""
    settings = {**TINY, "epochs": 1, "window": 10, "mutual_information": mutual_information}
    model = KalmanSSL(**{**settings, "bins_per_step": bins_per_step}).fit(recording)
    segment = segment_of(recording, 0, 400)
    summed = sum_bins(segment.activity.astype(float), bins_per_step)
    sequences = torch.from_numpy(interleave(summed, bins_per_step))
    sequence_model = copy.deepcopy(model.model_).double().eval()
    steps = 400 // bins_per_step
    assert sequences.shape == (bins_per_step, steps, 6)
    with torch.no_grad():
        total = steps * float(-sequence_model.terms(sequences).loss)
        output = sequence_model(sequences[-1:])
    assert model.score(segment) * 400 == pytest.approx(total, rel=1e-9)
    of_one_offset = model.transform(segment).log_likelihood[bins_per_step - 1 :: bins_per_step]
    np.testing.assert_allclose(bins_per_step * of_one_offset, output.prediction.log_prob(output.latent)[0], rtol=1e-6)


def test_bins_before_the_first_complete_step_count_once(recording, fitted):
    """A segment that is no multiple of a step is padded with zeros; the padding does not count."""
    segment = segment_of(recording, 0, 399)
    latents = fitted.transform(segment)
    entropy = float(make_entropy("logdet")(torch.from_numpy(latents.latent)))
    assert len(latents) == 399
    expected = latents.log_likelihood.sum() / 399 + entropy / TINY["bins_per_step"]
    assert fitted.score(segment) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mutual_information", [True, False])
def test_copies_of_a_segment_have_the_score_of_one(recording, mutual_information):
    model = KalmanSSL(**TINY, mutual_information=mutual_information).fit(recording)
    one = segment_of(recording, 0, 400)
    # The unbiased covariance of N samples depends on N by about 1 / N, so the entropies are not quite the same.
    assert model.score(repeated(one, 3)) == pytest.approx(model.score(one), abs=2e-3)


def test_segments_count_in_proportion_to_their_bins(recording, fitted):
    long, short = segment_of(recording, 0, 400), segment_of(recording, 400, 600)
    latents = fitted.transform(recording)
    entropy = float(make_entropy("logdet")(torch.from_numpy(latents.latent))) / TINY["bins_per_step"]
    alignment = [fitted.transform(part).log_likelihood.mean() for part in (long, short)]
    expected = (400 * alignment[0] + 200 * alignment[1]) / 600 + entropy
    assert fitted.score(recording) == pytest.approx(expected, rel=1e-9)
    activity = recording.activity.copy()
    activity[400:] = activity[np.random.default_rng(1).permutation(np.arange(400, 600))]
    assert fitted.score(replace(recording, activity=activity)) < fitted.score(recording) - 0.01


@pytest.mark.parametrize("bins_per_step", [1, 4])
def test_the_held_out_loss_is_in_the_unit_of_the_score(recording, bins_per_step):
    """Training scores windows of the held-out blocks; their loss per bin is about the negative score."""
    settings = {**TINY, "bins_per_step": bins_per_step, "window": 80, "batch_size": 256, "validation_fraction": 0.25}
    settings |= {"epochs": 1, "activity_sampling_power": 0.0, "noise_epochs": 0}
    model = KalmanSSL(**settings).fit(recording)
    assert -model.history_["held_out_loss"][0] == pytest.approx(model.score(recording), abs=0.15 / bins_per_step)
    assert abs(model.score(recording)) > 0.3 / bins_per_step


def test_the_score_with_the_stop_gradient_entropy_is_zero(recording):
    model = KalmanSSL(**TINY, entropy="stopgrad", mutual_information=False).fit(recording)
    assert model.score(recording) == 0


# Training.


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
        ({"unit_dropout": 1.0}, r"must be in \[0, 1\)"),
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
