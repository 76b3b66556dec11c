"""Forecasts of latents: equal to the filter without later data, calibrated, and consistent with samples."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_fits import TINY
from torch import nn

from kalmanssl import KalmanSSL, Recording
from kalmanssl.errors import InputError
from kalmanssl.kalman import kalman_filter, sample_prior
from kalmanssl.networks import make_noise

A = np.array([[0.95, 0.25, 0.0], [-0.25, 0.9, 0.1], [0.0, 0.0, 0.8]])


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Counts in two segments of 300 and 200 bins."""
    rng = np.random.default_rng(0)
    time = 10 + 0.05 * np.arange(500)
    time[300:] += 3.0
    rate = np.exp(np.sin(np.arange(500)[:, None] / 10 + np.arange(5)))
    return Recording.from_arrays(rng.poisson(rate), time=time, bin_size=0.05)


@pytest.fixture(scope="module")
def model(recording) -> KalmanSSL:
    return KalmanSSL(**TINY).fit(recording)


@pytest.mark.parametrize("origin", [0, 101, 299, 420])
def test_forecast_equals_the_filter_with_later_observations_missing(model, recording, origin):
    latents, steps = model.transform(recording), 4
    predictor = copy.deepcopy(model.model_.predictor).double().requires_grad_(False)
    first = 300 * (origin >= 300)
    bins = np.arange(first + (origin - first) % 2, origin + 1, 2)  # the interleaved sequence that ends at the origin
    y = torch.from_numpy(np.concatenate([latents.latent[bins], np.zeros((steps, 2))]))[None]
    mask = torch.arange(y.shape[1])[None] < len(bins)
    R, Q = (head() for head in predictor.noise_heads)
    expected = kalman_filter(y, **predictor.dynamics(), Q=Q, R=R, mask=mask)
    found = model.forecast(latents, steps, at=recording.time[origin])
    np.testing.assert_array_equal(found.origin, [origin])
    np.testing.assert_allclose(found.mean[0], expected.predicted_mean[0, -steps:], atol=1e-6)
    np.testing.assert_allclose(found.cov[0], expected.predicted_cov[0, -steps:], rtol=1e-4, atol=1e-6)
    innovation_cov = expected.predicted_cov[0, -steps:, :2, :2] + torch.diag(R)
    np.testing.assert_allclose(found.latent_cov[0], innovation_cov, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.latent_mean, found.mean[..., :2])
    np.testing.assert_allclose(found.time[0], recording.time[origin] + 0.1 * np.arange(1, steps + 1))


def test_forecasts_from_all_bins_are_those_from_each(model, recording):
    latents = model.transform(recording)
    everywhere = model.forecast(latents, 3)
    times = latents.time[[7, 450]] + 0.02  # inside the bins
    some = model.forecast(latents, 3, at=times)
    assert len(everywhere) == len(latents)
    np.testing.assert_allclose(everywhere.mean[[7, 450]], some.mean)
    np.testing.assert_allclose(everywhere.cov[[7, 450]], some.cov)


@pytest.mark.parametrize(("horizon", "steps"), [(0.3, 3), (0.25, 3), (0.301, 4), (0.01, 1), (2, 20)])
def test_a_horizon_in_seconds_has_the_steps_that_reach_it(model, recording, horizon, steps):
    latents = model.transform(recording)
    found, expected = model.forecast(latents, horizon=horizon, at=12.0), model.forecast(latents, steps, at=12.0)
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_allclose(found.time[0] - latents.time[found.origin[0]], 0.1 * np.arange(1, steps + 1))
    assert found.time[0, -1] >= latents.time[found.origin[0]] + horizon - 1e-9


def test_either_the_horizon_or_the_steps_are_given(model, recording, known):
    latents = model.transform(recording)
    for given, message in (
        ({}, "horizon .seconds. or steps .filter steps. must be given, and not both"),
        ({"horizon": 1.0, "steps": 2}, "not both"),
        ({"horizon": -1.0}, "horizon must be positive"),
        ({"horizon": np.inf}, "horizon must be positive and finite"),
    ):
        with pytest.raises(InputError, match=message) as error:
            model.forecast(latents, **given)
        assert error.value.parameter == "horizon"
    of_array = known[0]
    with pytest.raises(InputError, match="fitted on an array: give steps instead"):
        of_array.forecast(of_array.transform(np.zeros((20, 2))), horizon=1.0)


@pytest.fixture(scope="module")
def known() -> tuple[KalmanSSL, dict[str, torch.Tensor]]:
    """A model whose latents are the data and whose dynamics are known, and its parameters."""
    settings = TINY | {"bins_per_step": 1, "encoder": nn.Linear(2, 2), "normalize": "none", "epochs": 1}
    model = KalmanSSL(**settings).fit(np.random.default_rng(0).standard_normal((100, 2)))
    predictor, encoder = model.model_.predictor, model.model_.encoder
    Q, R = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.3, 0.1])
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(2))
        encoder.bias.zero_()
        predictor.A.copy_(torch.from_numpy(A))
        predictor.center.copy_(torch.tensor([1.0, -1.0, 0.5]))
        predictor.process_noise.set_variance(Q)
        predictor.observation_noise.set_variance(R)
        return model, {**{name: value.clone() for name, value in predictor.dynamics().items()}, "Q": Q, "R": R}


def test_intervals_of_simulated_data_cover_at_their_nominal_level(known):
    model, parameters = known
    y = sample_prior(600, 26, **parameters, generator=torch.Generator().manual_seed(1)).observations.numpy()
    latents = model.transform(list(y))
    for level in (0.5, 0.9):
        found = [model.forecast(one, 10, at=15).interval(level) for one in latents]
        lower, upper = (np.concatenate(ends) for ends in zip(*found, strict=True))
        inside = (lower <= y[:, 16:]) & (y[:, 16:] <= upper)  # (sequences, steps, latent)
        error = np.sqrt(level * (1 - level) / len(y))
        np.testing.assert_allclose(inside.mean(axis=0), level, atol=4 * error)
        assert abs(inside.mean() - level) < 2 * error


def test_samples_have_the_moments_of_the_forecast(known):
    model, parameters = known
    y = sample_prior(1, 30, **parameters, generator=torch.Generator().manual_seed(2)).observations[0].numpy()
    found = model.forecast(model.transform(y), 6, at=[10, 20])
    n = 20_000
    for observed, mean, cov in ((False, found.mean, found.cov), (True, found.latent_mean, found.latent_cov)):
        drawn = found.sample(n, observed=observed, random_state=0)
        assert drawn.shape == (n, *mean.shape)
        sd = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
        assert (np.abs(drawn.mean(axis=0) - mean) < 5 * sd / np.sqrt(n)).all()
        deviation = drawn - mean
        empirical = np.einsum("nosi,nosj->osij", deviation, deviation) / n
        scale = sd[..., None] * sd[..., None, :]
        assert (np.abs(empirical - cov) / scale).max() < 5 * np.sqrt(2 / n)


def test_successive_samples_follow_the_dynamics(known):
    model, parameters = known
    found = model.forecast(model.transform(np.zeros((20, 2))), 2, at=19)
    states = found.sample(20_000, random_state=0)[:, 0]
    np.testing.assert_array_equal(found.sample(20_000, random_state=0)[:, 0], states)
    shocks = states[:, 1] - states[:, 0] @ A.T - parameters["b"].numpy()
    np.testing.assert_allclose(np.cov(shocks.T), np.diag(parameters["Q"]), atol=0.01)
    assert np.abs(np.corrcoef(shocks.T, states[:, 0].T)[:3, 3:]).max() < 0.03


def test_unusable_input_is_named(model, recording):
    latents = model.transform(recording)
    for given, message in (
        ((np.ones((9, 3)), 2), "latents must be those of `transform`, got ndarray"),
        ((model.transform(recording, smooth=True), 2), "latents are smoothed"),
        ((replace(latents, mean=latents.mean[:, :2]), 2), "latents have 2 dimensions and the state 3"),
        ((latents, 0), "steps must be a whole number, at least 1"),
        ((latents, 2, 5.0), "at has 1 times without a bin, such as 5 s; the latents cover 10 to 37.95 s"),
        ((latents, 2, [12.0, 26.5]), "at has 1 times without a bin, such as 26.5 s"),
        ((latents, 2, np.nan), "at must be one or more finite times"),
        ((latents, 10**8), "need too much memory"),
    ):
        with pytest.raises(InputError, match=message):
            model.forecast(*given)
    with pytest.raises(InputError, match="level must be a number between 0 and 1"):
        model.forecast(latents, 2).interval(1.0)


def test_process_noise_that_varies_is_refused(model, recording):
    varying = copy.deepcopy(model)
    head = make_noise("activity", dim=3, counts=True)
    varying.model_.predictor.process_noise = head
    latents = model.transform(recording)
    with pytest.raises(InputError, match="process_noise varies with the data"):
        varying.forecast(latents, 2)
    head.set_varying(False)
    assert len(varying.forecast(latents, 2)) == len(latents)


def test_observation_noise_that_varies_is_that_of_the_origin(model, recording):
    latents = model.transform(recording)
    latents = replace(latents, noise=latents.noise * np.linspace(1, 2, len(latents))[:, None])
    found = model.forecast(latents, 2, at=latents.time[[50, 60]])
    expected = found.cov[..., :2, :2] + latents.noise[[50, 60], None, :, None] * np.eye(2)
    np.testing.assert_allclose(found.latent_cov, expected, rtol=1e-6)
