from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_joint import Joint, make_problem

from kalmanssl.kalman import forecast, kalman_filter, kalman_step


def at_step(parameters, t):
    """Parameters of one step, with a time axis of 1."""
    return {
        name: value[:, t : t + 1] if value.ndim > 2 and value.shape[1] > 1 else value
        for name, value in parameters.items()
        if name not in ("m0", "P0")
    }


@pytest.mark.parametrize("missing", ["none", "steps", "channels"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both", "mixed"])
def test_repeated_steps_equal_the_filter(varies, full, missing):
    problem = make_problem(varies=varies, full=full, missing=missing, state=3, obs=2)
    whole = kalman_filter(problem.y, **problem.parameters, mask=problem.mask)
    written = problem.written_out()
    mean, cov = (torch.tensor(written[name]) for name in ("m0", "P0"))
    for t in range(problem.y.shape[1]):
        mask = None if problem.mask is None else problem.mask[:, t]
        step = kalman_step(problem.y[:, t], mean, cov, **at_step(problem.parameters, t), mask=mask, first=t == 0)
        for name, value in vars(step).items():
            torch.testing.assert_close(value, getattr(whole, name)[:, t], msg=lambda m, n=name: f"{n}: {m}")
        mean, cov = step.filtered_mean, step.filtered_cov


def test_gradients_flow_through_steps():
    problem = make_problem(time=3)
    A = problem.parameters["A"].requires_grad_()
    parameters = at_step(problem.parameters, 0)
    expected = kalman_filter(problem.y, **problem.parameters).log_likelihood.sum()
    mean = problem.parameters["m0"].expand(2, 3)
    cov = torch.diag(problem.parameters["P0"]).expand(2, 3, 3)
    total = 0.0
    for t in range(3):
        step = kalman_step(problem.y[:, t], mean, cov, **parameters, first=t == 0)
        total = total + step.log_likelihood.sum()
        mean, cov = step.filtered_mean, step.filtered_cov
    gradients = (torch.autograd.grad(value, A)[0] for value in (total, expected))
    torch.testing.assert_close(*gradients)


def test_a_step_that_is_observed_in_some_sequences_only():
    problem = make_problem(time=1)
    mean, cov = problem.parameters["m0"].expand(2, 3), torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    parameters = at_step(problem.parameters, 0)
    step = kalman_step(problem.y[:, 0], mean, cov, **parameters, mask=torch.tensor([True, False]))
    assert step.log_likelihood[1] == 0
    torch.testing.assert_close(step.filtered_cov[1], step.predicted_cov[1])
    assert step.log_likelihood[0] != 0


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "both"])
def test_forecast_agrees_with_the_joint_gaussian_given_the_past(varies, full):
    known, ahead = 3, 4
    problem = make_problem(varies=varies, full=full, time=known + ahead)
    past = {
        name: value[:, :known] if value.ndim > 2 and value.shape[1] > 1 else value
        for name, value in problem.parameters.items()
    }
    future = {
        name: value[:, known:] if value.ndim > 2 and value.shape[1] > 1 else value
        for name, value in problem.parameters.items()
        if name not in ("m0", "P0")
    }
    out = kalman_filter(problem.y[:, :known], **past)
    result = forecast(out.filtered_mean[:, -1], out.filtered_cov[:, -1], ahead, **future)
    written = problem.written_out()
    for n in range(2):
        joint = Joint(problem, n)
        for k in range(ahead):
            mean, cov = joint.moments(known + k, known)
            C, R = written["C"][n, known + k], written["R"][n, known + k]
            np.testing.assert_allclose(result.state_mean[n, k], mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(result.state_cov[n, k], cov, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(result.observation_mean[n, k], C @ mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(result.observation_cov[n, k], C @ cov @ C.T + R, rtol=1e-9, atol=1e-9)


def test_forecast_equals_the_filter_with_missing_observations():
    problem = make_problem(time=8)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[:, 3:] = False
    out = kalman_filter(problem.y, **problem.parameters, mask=mask)
    ahead = forecast(out.filtered_mean[:, 2], out.filtered_cov[:, 2], 5, **at_step(problem.parameters, 0))
    torch.testing.assert_close(ahead.state_mean, out.predicted_mean[:, 3:])
    torch.testing.assert_close(ahead.observation_cov, out.innovation_cov[:, 3:])
