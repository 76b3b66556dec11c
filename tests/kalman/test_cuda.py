"""The torch implementation on a CUDA device gives the results of the CPU."""

from __future__ import annotations

import pytest
import torch
from dense_joint import make_problem

from kalmanssl.kalman import kalman_filter, kalman_smoother

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def on(device, dtype, problem):
    values = {"y": torch.nan_to_num(problem.y, nan=0.3), **problem.parameters}
    values = {name: value.to(device, dtype).requires_grad_() for name, value in values.items()}
    return values, None if problem.mask is None else problem.mask.to(device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("missing", ["none", "channels"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both"])
def test_values_and_gradients_are_those_of_the_cpu(varies, missing, dtype):
    problem = make_problem(varies=varies, missing=missing, batch=4, time=30)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    results = []
    for device in ("cpu", "cuda"):
        values, mask = on(device, dtype, problem)
        arguments = dict(values)
        out = kalman_filter(arguments.pop("y"), **arguments, mask=mask)
        gradients = torch.autograd.grad(out.log_likelihood.sum(), list(values.values()))
        results.append([value.cpu() for value in (*out.tensors().values(), *gradients)])
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(results[1], results[0], rtol=tolerance, atol=tolerance)


def test_smoothed_covariances_are_those_of_the_cpu():
    problem = make_problem(varies="both")
    results = []
    for device in ("cpu", "cuda"):
        values, _ = on(device, torch.float64, problem)
        results.append(kalman_smoother(values.pop("y"), **values).smoothed_cov.cpu())
    torch.testing.assert_close(results[1], results[0])


def test_results_stay_on_the_device():
    values, _ = on("cuda", torch.float32, make_problem(varies="both"))
    out = kalman_filter(values.pop("y"), **values)
    assert {value.device.type for value in out.tensors().values()} == {"cuda"}
