"""`KalmanSSL.online`: the same results as `transform`, gaps, missing and malformed bins, and states."""

import copy
import math

import numpy as np
import pytest
import small_fits
import torch
from stored_states import STORES, store_and_load
from torch import nn

from kalmanssl import KalmanSSL, Recording
from kalmanssl.errors import InputError
from kalmanssl.networks import MLPEncoder, WindowEncoder

TINY = small_fits.TINY | {"latent_dim": 3, "state_dim": 5, "window": 12, "bins_per_step": 3}


def make_recording(kind: str = "counts", sparse: bool = False) -> Recording:
    """Activity of six units that follow a rotating phase, in segments of 301, 150, 7 and 1 bins."""
    rng = np.random.default_rng(0)
    phase = np.cumsum(0.2 + 0.05 * rng.standard_normal(459))
    rate = np.exp((0.1 if sparse else 1.5) * np.cos(phase[:, None] - np.arange(6)) - 3.0 * sparse)
    activity = rng.poisson(rate) if kind == "counts" else rate + rng.standard_normal(rate.shape)
    time = 100 + 0.025 * np.arange(459)
    for first in (301, 451, 458):
        time[first:] += 0.8
    return Recording.from_arrays(activity, time=time, kind=kind)


def run(online, recording: Recording, first: int = 0, stop: int | None = None):
    bins = zip(recording.activity[first:stop], recording.time[first:stop], strict=True)
    return [online.step(activity, time) for activity, time in bins]


def assert_equal_to_transform(steps, latents) -> None:
    scale = np.abs(latents.mean).max()
    np.testing.assert_allclose(np.stack([step.mean for step in steps]), latents.mean, rtol=1e-9, atol=1e-10 * scale)
    np.testing.assert_allclose(np.stack([step.cov for step in steps]), latents.cov, rtol=1e-6, atol=1e-6)
    assert [step.time for step in steps] == latents.time.tolist()
    starts = np.append(True, np.diff(latents.segment) != 0)
    assert [step.is_start for step in steps] == starts.tolist()
    assert not any(step.is_missing for step in steps)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return make_recording()


@pytest.fixture(scope="module")
def fitted(recording) -> KalmanSSL:
    return KalmanSSL(**TINY).fit(recording)


# The same results as `transform`.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bins_per_step": 1},
        {"bins_per_step": 4, "window": 16},
        {"encoder_window": 3},
        {"normalize": "sqrt", "hidden": (8, 8)},
        {"normalize": "none", "hidden": ()},
        {"noise": "activity", "noise_epochs": 1},
        {"noise": "input", "noise_epochs": 0},
        {"process_noise": "activity", "noise_epochs": 0},
        {"process_noise": "errors", "noise_epochs": 0},
        {"noise": "state", "process_noise": "errors", "noise_epochs": 0},
    ],
    ids=str,
)
def test_bins_one_by_one_give_the_latents_of_the_recording(recording, settings):
    model = KalmanSSL(**{**TINY, **settings}).fit(recording)
    for head in model.model_.predictor.noise_heads:
        if hasattr(head, "set_varying"):
            head.set_varying(True)
            for parameter in head.network.parameters():
                nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    assert_equal_to_transform(run(model.online(), recording), model.transform(recording))


@pytest.mark.parametrize("settings", [{}, {"encoder_window": 3}, {"normalize": "standardize"}], ids=str)
def test_compiled_code_agrees_with_numpy(recording, settings, monkeypatch):
    model = KalmanSSL(**{**TINY, **settings}).fit(recording)
    compiled = run(model.online(), recording)
    for module in ("estimator._online", "models._online_filter", "networks._online_encoder"):
        monkeypatch.setattr(f"kalmanssl.{module}.has_compiler", lambda: False)
    plain = run(model.online(), recording)
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-11, atol=1e-12)
        np.testing.assert_array_equal(one.cov, other.cov)


def test_noise_of_the_activity_treats_steps_without_spikes_as_missing():
    recording = make_recording(sparse=True)
    model = KalmanSSL(**{**TINY, "noise": "activity", "noise_epochs": 0}).fit(recording)
    assert (recording.activity.sum(1) == 0).sum() > 100
    assert_equal_to_transform(run(model.online(), recording), model.transform(recording))


@pytest.mark.parametrize("normalize", ["standardize", "none"])
def test_signals(normalize):
    recording = make_recording("signal")
    model = KalmanSSL(**TINY, normalize=normalize).fit(recording)
    assert_equal_to_transform(run(model.online(), recording), model.transform(recording))


def test_activity_that_is_zero_in_most_bins_and_not_an_integer(recording):
    rng = np.random.default_rng(1)
    activity = recording.activity * (rng.random(recording.activity.shape) < 0.2) * rng.random(recording.activity.shape)
    sparse = Recording.from_arrays(activity, time=recording.time)
    model = KalmanSSL(**TINY, normalize="sqrt").fit(sparse)
    assert_equal_to_transform(run(model.online(), sparse), model.transform(sparse))


def test_a_model_of_an_array_counts_bins_from_zero(recording):
    values = recording.activity[:200].astype(float) / 3
    model = KalmanSSL(**TINY, normalize="standardize").fit(values)
    online = model.online()
    assert math.isnan(online.time)
    assert_equal_to_transform([online.step(row) for row in values], model.transform(values))
    assert online.time == 199.0


def test_filtered_latents_do_not_depend_on_later_bins(recording, fitted):
    whole = fitted.transform(recording.activity[:60])
    for n_bins in range(50, 60):
        np.testing.assert_allclose(fitted.transform(recording.activity[:n_bins]).mean, whole.mean[:n_bins], rtol=1e-12)


# Custom encoders.


class RunningMean(nn.Module):
    """A causal convolution of three steps and a linear map."""

    def __init__(self, ahead: int = 0) -> None:
        super().__init__()
        self.linear, self.ahead = nn.Linear(6, 3), ahead

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = nn.functional.pad(x, (0, 0, 2 - self.ahead, self.ahead))
        n_steps = x.shape[1]
        return self.linear(padded[:, :n_steps] + padded[:, 1 : n_steps + 1] + padded[:, 2 : n_steps + 2])


class Recurrent(nn.Module):
    """A recurrent network, which remembers all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.GRU(6, 3, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)[0]


@pytest.mark.parametrize(
    "encoder", [RunningMean(), nn.Sequential(nn.Linear(6, 3), nn.Tanh()), MLPEncoder(6, 3), WindowEncoder(6, 3, 2)]
)
def test_encoders_given_by_the_user(recording, encoder):
    model = KalmanSSL(**TINY, encoder=encoder).fit(recording)
    assert_equal_to_transform(run(model.online(), recording), model.transform(recording))


def test_an_encoder_that_uses_later_steps_is_refused(recording):
    model = KalmanSSL(**TINY, encoder=RunningMean(ahead=1)).fit(recording)
    with pytest.raises(InputError, match="RunningMean uses later steps"):
        model.online()


def test_an_encoder_with_a_long_memory_needs_its_length(recording):
    model = KalmanSSL(**TINY, encoder=Recurrent()).fit(recording)
    with torch.no_grad():  # the update gate is almost always open, so that the network forgets slowly
        model.model_.encoder.network.bias_ih_l0[3:6] = 5.0
    with pytest.raises(InputError, match="more than 64 steps") as caught:
        model.online()
    assert caught.value.parameter == "encoder_memory"
    assert_equal_to_transform(run(model.online(encoder_memory=150), recording), model.transform(recording))


# Missing bins.


def expected_with_missing_bins(model: KalmanSSL, activity: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Filter one segment with the steps that contain a missing bin masked."""
    n = model.bins_per_step_
    padded = np.zeros((-(-len(activity) // n) * n, activity.shape[1]))
    padded[: len(activity)] = np.where(missing[:, None], 0.0, activity)
    lost = np.zeros(len(padded), dtype=bool)
    lost[: len(missing)] = missing
    summed = np.stack([padded[max(t - n + 1, 0) : t + 1].sum(0) for t in range(len(padded))])
    hidden = np.array([lost[max(t - n + 1, 0) : t + 1].any() for t in range(len(padded))])
    sequence_model = copy.deepcopy(model.model_).double().eval()
    features = torch.from_numpy(summed.reshape(-1, n, summed.shape[1]).swapaxes(0, 1).copy())
    mask = torch.from_numpy(~hidden.reshape(-1, n).T.copy())
    with torch.no_grad():
        filtered = sequence_model.predictor(sequence_model.encoder(features), features, mask).filtered
    mean = filtered.filtered_mean.numpy().swapaxes(0, 1).reshape(len(padded), -1)
    return mean[: len(activity)], hidden[: len(activity)]


def test_steps_with_a_missing_bin_are_predictions(recording, fitted):
    activity = recording.activity[:120].astype(float)
    missing = np.zeros(120, dtype=bool)
    missing[[0, 40, 41, 60, 64, 100]] = True
    expected, hidden = expected_with_missing_bins(fitted, activity, missing)
    online = fitted.online()
    steps = [
        online.step(None if t % 2 and missing[t] else np.where(missing[t], np.nan, activity[t])) for t in range(120)
    ]
    np.testing.assert_allclose([step.mean for step in steps], expected, rtol=1e-9, atol=1e-9)
    assert [step.is_missing for step in steps] == hidden.tolist()
    assert 6 < hidden.sum() < 20


def test_a_bin_with_a_missing_unit_is_missing(recording, fitted):
    online = fitted.online()
    values = recording.activity[0].copy()
    values[2] = np.nan
    assert online.step(values).is_missing


# Bins that cannot be used.


@pytest.mark.parametrize(
    ("activity", "time", "parameter", "message"),
    [
        ([1.0, 2.0], None, "activity", "one bin of 6 numbers"),
        (np.ones((2, 6)), None, "activity", r"got shape \(2, 6\)"),
        ([[1.0], [1.0, 2.0]], None, "activity", "one bin of 6 numbers"),
        (3, None, "activity", r"got shape \(\)"),
        ("spikes", None, "activity", "got 'spikes'"),
        (["a"] * 6, None, "activity", "one bin of 6 numbers"),
        ([None] * 6, None, "activity", "one bin of 6 numbers"),
        ([1, 1, 1, 1, 1, -1], None, "activity", "not be negative.*got -1"),
        ([1, 1, 1, 1, 1, np.inf], None, "activity", "finite"),
        ([1, 1, 1, 1, 1, -np.inf], None, "activity", "finite"),
        (np.full(6, 1e300), None, "activity", "too large"),
        (np.ones(6), 100.0, "time", "must increase"),
        (np.ones(6), 100.475, "time", "must increase"),
        (np.ones(6), np.nan, "time", "finite"),
        (np.ones(6), "now", "time", "a number"),
    ],
)
def test_a_bin_that_cannot_be_used_leaves_the_state_unchanged(recording, fitted, activity, time, parameter, message):
    online, undisturbed = fitted.online(), fitted.online()
    run(online, recording, 0, 20)
    run(undisturbed, recording, 0, 20)
    before = online.state_dict()
    with pytest.raises(InputError, match=message) as caught:
        online.step(activity, time)
    assert caught.value.parameter == parameter
    assert all(np.array_equal(value, before[name]) for name, value in online.state_dict().items())
    after, expected = online.step(recording.activity[20]), undisturbed.step(recording.activity[20])
    np.testing.assert_array_equal(after.mean, expected.mean)


class FailsAbove(nn.Module):
    """A linear encoder that fails on large activity."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.max()) > 1e6:
            raise RuntimeError("too large")
        return self.linear(x)


@pytest.mark.parametrize("time", [None, 500.0])
def test_an_encoder_that_fails_leaves_the_state_unchanged(recording, time):
    online = KalmanSSL(**TINY, encoder=FailsAbove()).fit(recording).online()
    run(online, recording, 0, 20)
    before = online.state_dict()
    with pytest.raises(RuntimeError, match="too large"):
        online.step(np.full(6, 1e7), time)
    assert all(np.array_equal(value, before[name]) for name, value in online.state_dict().items())


# State and memory.


@pytest.mark.parametrize("settings", [{}, {"encoder_window": 3, "process_noise": "errors", "noise_epochs": 0}])
@pytest.mark.parametrize("store", STORES)
def test_a_stored_state_continues_where_it_was(recording, settings, store, tmp_path):
    model = KalmanSSL(**TINY, **settings).fit(recording)
    online = model.online()
    run(online, recording, 0, 98)
    online.step(None)
    state = store_and_load(online.state_dict(), store, tmp_path)
    again = model.online()
    again.load_state_dict(state)
    for expected, step in zip(run(online, recording, 100), run(again, recording, 100), strict=True):
        np.testing.assert_allclose(step.mean, expected.mean, rtol=1e-12)
        np.testing.assert_allclose(step.cov, expected.cov, rtol=1e-6)
        assert step[3:] == expected[3:]


def test_a_state_does_not_change_with_later_bins(recording, fitted):
    online = fitted.online()
    run(online, recording, 0, 50)
    state = online.state_dict()
    copied = {name: value.copy() for name, value in state.items()}
    run(online, recording, 50, 100)
    assert all(np.array_equal(value, copied[name]) for name, value in state.items())
    online.load_state_dict(state)
    run(online, recording, 50, 100)
    assert all(np.array_equal(value, copied[name]) for name, value in state.items())


def test_states_of_other_models_are_refused(recording, fitted):
    other = KalmanSSL(**{**TINY, "random_state": 1}).fit(recording)
    larger = KalmanSSL(**{**TINY, "state_dim": 6}).fit(recording)
    online = fitted.online()
    run(online, recording, 0, 5)
    before = online.state_dict()
    for state, message in (
        (other.online().state_dict(), "another model"),
        (larger.online().state_dict(), "another model"),
        ({**before, "bins": before["bins"][1:]}, "has shape"),
        ({"origin": 0.0}, "other entries"),
        ({**before, "bins": "none"}, "numbers"),
        (None, "what state_dict returned"),
    ):
        with pytest.raises(InputError, match=message):
            online.load_state_dict(state)
    assert all(np.array_equal(value, before[name], equal_nan=True) for name, value in online.state_dict().items())


def test_the_memory_does_not_grow(recording, fitted):
    online = fitted.online()

    def size() -> int:
        return sum(value.nbytes for value in online.state_dict().values())

    run(online, recording, 0, 10)
    before = size()
    for _ in range(3):
        for activity in recording.activity:
            online.step(activity)
    assert size() == before
