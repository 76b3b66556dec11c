"""Every implementation gives the same results on a CUDA device as on the CPU."""

from __future__ import annotations

import pytest
import torch
from dense_joint import make_problem

from kalmanssl.kalman import kalman_filter, kalman_smoother, sample_posterior, sample_prior
from kalmanssl.kalman.backends import BACKENDS

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="FILTER NOT TESTED ON A GPU: this machine has no CUDA device"
)


def on(device, dtype, problem):
    values = {"y": torch.nan_to_num(problem.y, nan=0.3), **problem.parameters}
    values = {name: value.to(device, dtype).requires_grad_() for name, value in values.items()}
    return values, None if problem.mask is None else problem.mask.to(device)


def make(**settings):
    problem = make_problem(**settings)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    return problem


def derivatives(loss, values):
    """Gradients; that of a covariance P0 is symmetrized, since entry (i, j) and its transpose are one number."""
    gradients = torch.autograd.grad(loss, list(values.values()))
    return [0.5 * (g + g.mT) if n == "P0" and g.ndim == 3 else g for n, g in zip(values, gradients, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("missing", ["none", "channels"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both"])
@pytest.mark.parametrize("time", [30, 100])
@pytest.mark.parametrize("implementation", BACKENDS)
def test_values_and_gradients_are_those_of_the_cpu(implementation, time, varies, missing, dtype):
    problem = make(varies=varies, missing=missing, batch=4, time=time)
    results = []
    for device in ("cpu", "cuda"):
        values, mask = on(device, dtype, problem)
        arguments = dict(values)
        name = implementation if device == "cuda" else "auto"
        out = kalman_filter(arguments.pop("y"), **arguments, mask=mask, implementation=name)
        gradients = derivatives(out.log_likelihood.sum(), values)
        results.append([value.cpu() for value in (*out.tensors().values(), *gradients)])
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(results[1], results[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("implementation", BACKENDS)
@pytest.mark.parametrize("varies", ["none", "both"])
@pytest.mark.parametrize("time", [6, 100])
def test_smoothed_moments_and_gradients_are_those_of_the_cpu(time, varies, implementation):
    problem = make(varies=varies, time=time)
    results = []
    for device in ("cpu", "cuda"):
        values, _ = on(device, torch.float64, problem)
        arguments = dict(values)
        name = implementation if device == "cuda" else "auto"
        out = kalman_smoother(arguments.pop("y"), **arguments, implementation=name)
        gradients = derivatives(out.smoothed_mean.sum() + out.smoothed_cov.sum(), values)
        results.append([value.cpu() for value in (*out.tensors().values(), *gradients)])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("implementation", BACKENDS)
def test_results_stay_on_the_device(implementation):
    values, _ = on("cuda", torch.float32, make(varies="both"))
    out = kalman_filter(values.pop("y"), **values, implementation=implementation)
    assert {value.device.type for value in out.tensors().values()} == {"cuda"}


def test_samples_are_drawn_on_the_device():
    generator = torch.Generator("cuda").manual_seed(0)
    values, _ = on("cuda", torch.float32, make(time=100))
    values = {name: value.detach() for name, value in values.items()}
    prior = sample_prior(batch=3, time=100, generator=generator, **{k: values[k] for k in ("A", "Q", "C", "R")})
    assert prior.states.device.type == "cuda"
    drawn = sample_posterior(values.pop("y"), **values, n_samples=2, generator=generator)
    assert drawn.device.type == "cuda"
