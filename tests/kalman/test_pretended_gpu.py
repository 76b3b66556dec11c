"""The filter and what surrounds it keep all tensors on the device of the data."""

from __future__ import annotations

import pytest
import torch
from dense_joint import make_problem
from pretended_gpu import DEVICE, OnDevice, pretended_gpu

from kalmanssl.errors import InputError
from kalmanssl.kalman import (
    LinearGaussianSSM,
    diagnose_innovations,
    discretize,
    forecast,
    innovation_diagnostics,
    kalman_filter,
    kalman_predict,
    kalman_smoother,
    kalman_step,
    kalman_update,
    sample_posterior,
    sample_prior,
    steady_state,
    whiten,
)
from kalmanssl.kalman.backends import BACKENDS


@pytest.fixture(autouse=True)
def gpu():
    with pretended_gpu():
        yield


def problem(dtype=torch.float64, **settings):
    made = make_problem(time=70, **settings)
    made.parameters["A"] = 0.5 * made.parameters["A"]
    values = {name: value.to(DEVICE, dtype).requires_grad_() for name, value in made.parameters.items()}
    y = torch.nan_to_num(made.y, nan=0.3)
    return y.to(DEVICE, dtype), values, None if made.mask is None else made.mask.to(DEVICE)


def test_the_device_refuses_what_a_gpu_refuses():
    x, other = torch.ones(3, device=DEVICE), torch.ones(3)
    with pytest.raises(RuntimeError, match="same device"):
        x + other
    with pytest.raises(RuntimeError, match="same device"):
        torch.cat([x, other])
    with pytest.raises(RuntimeError, match="numpy"):
        x.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=DEVICE, generator=torch.Generator())
    assert torch.equal((x + torch.tensor(1.0)).cpu(), 2 * other)  # a scalar may be on the CPU
    assert x.device == DEVICE
    assert not x.is_cpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("missing", ["none", "channels"])
@pytest.mark.parametrize("varies", ["none", "both"])
@pytest.mark.parametrize("implementation", BACKENDS)
@pytest.mark.parametrize("function", [kalman_filter, kalman_smoother])
def test_moments_and_gradients_are_on_the_device(function, implementation, varies, missing, dtype):
    y, values, mask = problem(dtype, varies=varies, missing=missing)
    out = function(y, **values, mask=mask, implementation=implementation)
    found = list(out.tensors().values())
    assert all(isinstance(value, OnDevice) for value in found)
    sum(value.sum() for value in found).backward()
    assert all(isinstance(value.grad, OnDevice) for value in values.values())
    on_cpu = {name: value.detach().cpu() for name, value in values.items()}
    expected = function(y.cpu(), **on_cpu, mask=None if mask is None else mask.cpu())
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    for mine, plain in zip(found, expected.tensors().values(), strict=True):
        torch.testing.assert_close(mine.detach().cpu(), plain, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("missing", ["none", "channels"])
def test_diagnostics_and_samples(missing):
    y, values, mask = problem(missing=missing)
    values = {name: value.detach() for name, value in values.items()}
    out = kalman_filter(y, **values, mask=mask)
    assert isinstance(innovation_diagnostics(out).consistent, bool)
    diagnose_innovations(out.innovation, out.innovation_cov, mask=mask)
    assert isinstance(whiten(out.innovation, out.innovation_cov, mask=mask), OnDevice)
    assert out.status.smallest_variance.min().item() > 0
    assert isinstance(sample_posterior(y, 3, **values, mask=mask), OnDevice)
    assert isinstance(sample_prior(2, 70, **values).states, OnDevice)


def test_steps_forecasts_and_steady_states():
    y, values, _ = problem()
    values = {name: value.detach() for name, value in values.items()}
    dynamics = {name: values[name] for name in ("A", "Q", "C", "R")}
    out = kalman_filter(y, **values)
    ahead = forecast(out.filtered_mean[:, -1], out.filtered_cov[:, -1], 4, **dynamics, b=values["b"])
    assert isinstance(ahead.observation_cov, OnDevice)
    assert isinstance(steady_state(**dynamics).gain, OnDevice)
    mean, cov = values["m0"].expand(2, -1), torch.diag(values["P0"]).expand(2, -1, -1)
    assert isinstance(kalman_step(y[:, 0], mean, cov, **dynamics, first=True).filtered_cov, OnDevice)
    assert isinstance(kalman_predict(mean, cov, A=values["A"], Q=values["Q"])[1], OnDevice)
    assert isinstance(kalman_update(y[:, 0], mean, cov, C=values["C"], R=values["R"]).filtered_cov, OnDevice)
    rate = -torch.eye(2, device=DEVICE, dtype=torch.float64)
    steps = discretize(rate, torch.ones_like(rate[0]), torch.ones(5, device=DEVICE, dtype=torch.float64))
    assert all(isinstance(value, OnDevice) for value in steps.values())


@pytest.mark.parametrize("method", ["fit_em", "fit_gradient"])
def test_models_are_fitted_on_the_device(method):
    y, values, _ = problem()
    model = LinearGaussianSSM(**{name: value.detach() for name, value in values.items()})
    fitted = getattr(model, method)(y, max_iterations=2)
    assert isinstance(fitted.model.A, OnDevice)


def test_wrong_values_are_named():
    y, values, _ = problem()
    values = {name: value.detach() for name, value in values.items()}
    with pytest.raises(InputError, match=r"A: expected .* on cpu as the data"):
        kalman_filter(y.cpu(), **values)
    with pytest.raises(InputError, match="P0: a variance is negative"):
        kalman_filter(y, **{**values, "P0": -values["P0"]})
    y[0, 3, 1] = float("nan")
    with pytest.raises(InputError, match="y: nan at batch 0, time 3, channel 1"):
        kalman_filter(y, **values)
