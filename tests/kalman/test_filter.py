from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_joint import Joint, make_problem

from kalmanssl.kalman import kalman_filter
from kalmanssl.kalman.backends import BACKENDS

CLOSE = {"rtol": 1e-8, "atol": 1e-9}


@pytest.mark.parametrize("implementation", BACKENDS)
@pytest.mark.parametrize("missing", ["none", "steps", "channels", "shared"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both", "mixed"])
def test_agrees_with_conditioning_the_joint_gaussian(varies, full, missing, implementation):
    problem = make_problem(varies=varies, full=full, missing=missing)
    out = kalman_filter(problem.y, **problem.parameters, mask=problem.mask, implementation=implementation)
    written = problem.written_out()
    batch, time, _ = problem.y.shape
    for n in range(batch):
        joint = Joint(problem, n)
        for t in range(time):
            mean, cov = joint.moments(t, t)
            np.testing.assert_allclose(out.predicted_mean[n, t], mean, **CLOSE)
            np.testing.assert_allclose(out.predicted_cov[n, t], cov, **CLOSE)
            C, R = written["C"][n, t], written["R"][n, t]
            np.testing.assert_allclose(out.innovation_cov[n, t], C @ cov @ C.T + R, **CLOSE)
            error = np.where(joint.seen[t], joint.y[t] - C @ mean, 0)
            np.testing.assert_allclose(out.innovation[n, t], error, **CLOSE)
            filtered_mean, cov = joint.moments(t, t + 1)
            np.testing.assert_allclose(out.filtered_mean[n, t], filtered_mean, **CLOSE)
            np.testing.assert_allclose(out.filtered_cov[n, t], cov, **CLOSE)
            np.testing.assert_allclose(out.gain[n, t] @ out.innovation[n, t], filtered_mean - mean, **CLOSE)
            np.testing.assert_allclose(out.log_likelihood[n, t], joint.log_likelihood(t), **CLOSE)


@pytest.mark.parametrize("implementation", BACKENDS)
def test_without_observations_the_filter_only_predicts(implementation):
    problem = make_problem(varies="both", full=True, missing="all")
    out = kalman_filter(problem.y, **problem.parameters, mask=problem.mask, implementation=implementation)
    torch.testing.assert_close(out.log_likelihood, torch.zeros_like(out.log_likelihood), rtol=0, atol=1e-14)
    torch.testing.assert_close(out.filtered_mean, out.predicted_mean)
    torch.testing.assert_close(out.filtered_cov, out.predicted_cov)
    assert not out.gain.any()
    joint = Joint(problem, 1)
    np.testing.assert_allclose(out.predicted_mean[1], joint.mean.reshape(6, 3), **CLOSE)


def test_defaults_are_zero_offset_and_a_standard_normal_first_state():
    problem = make_problem(full=True)
    p = problem.parameters
    explicit = {
        **p,
        "b": torch.zeros(3, dtype=torch.float64),
        "m0": torch.zeros(3, dtype=torch.float64),
        "P0": torch.eye(3, dtype=torch.float64),
    }
    out = kalman_filter(problem.y, A=p["A"], Q=p["Q"], C=p["C"], R=p["R"])
    expected = kalman_filter(problem.y, **explicit)
    torch.testing.assert_close(out.filtered_mean, expected.filtered_mean)
    torch.testing.assert_close(out.log_likelihood, expected.log_likelihood)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch", "time", "state", "obs"), [(1, 1, 1, 1), (3, 4, 2, 5), (4, 3, 4, 4)])
def test_shapes_and_data_types_of_the_results(batch, time, state, obs, dtype):
    problem = make_problem(varies="batch", batch=batch, time=time, state=state, obs=obs)
    out = kalman_filter(problem.y.to(dtype), **{k: v.to(dtype) for k, v in problem.parameters.items()})
    shapes = {
        "predicted_mean": (batch, time, state),
        "predicted_cov": (batch, time, state, state),
        "filtered_mean": (batch, time, state),
        "filtered_cov": (batch, time, state, state),
        "log_likelihood": (batch, time),
        "gain": (batch, time, state, obs),
        "innovation": (batch, time, obs),
        "innovation_cov": (batch, time, obs, obs),
    }
    assert {name: tuple(value.shape) for name, value in out.tensors().items()} == shapes
    assert {value.dtype for value in out.tensors().values()} == {dtype}


def test_covariances_are_shared_if_nothing_differs_between_sequences():
    problem = make_problem(varies="time", missing="shared", batch=5)
    out = kalman_filter(problem.y, **problem.parameters, mask=problem.mask)
    for value in (out.predicted_cov, out.filtered_cov, out.gain, out.innovation_cov):
        assert value.stride(0) == 0
    alone = kalman_filter(problem.y[3:4], **problem.parameters, mask=problem.mask[3:4])
    torch.testing.assert_close(out.filtered_mean[3:4], alone.filtered_mean)


def test_equal_sizes_are_not_mistaken_for_axes():
    """With batch = time = state = obs = 2, the number of axes alone determines the meaning."""
    for varies in ("none", "time", "batch", "both"):
        for full in (False, True):
            problem = make_problem(varies=varies, full=full, batch=2, time=2, state=2, obs=2, seed=3)
            out = kalman_filter(problem.y, **problem.parameters)
            for n in range(2):
                mean, _ = Joint(problem, n).moments(1, 2)
                np.testing.assert_allclose(out.filtered_mean[n, 1], mean, **CLOSE)


def test_arguments_are_not_modified():
    problem = make_problem(varies="both", full=True, missing="channels")
    before = {name: value.clone() for name, value in problem.parameters.items()}
    y, mask = problem.y.clone(), problem.mask.clone()
    kalman_filter(problem.y, **problem.parameters, mask=problem.mask)
    assert all(torch.equal(before[name], value) for name, value in problem.parameters.items())
    assert torch.equal(mask, problem.mask)
    torch.testing.assert_close(y, problem.y, rtol=0, atol=0, equal_nan=True)


def test_a_converged_model_agrees_with_the_reference():
    """The sequence is much longer than it takes to converge; the reference computes every step."""
    problem = make_problem(time=200, seed=4)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    values = {"y": problem.y, **problem.parameters}
    results = []
    for implementation in BACKENDS:
        inputs = {name: value.clone().requires_grad_() for name, value in values.items()}
        arguments = dict(inputs)
        out = kalman_filter(arguments.pop("y"), **arguments, implementation=implementation)
        results.append((out.tensors(), torch.autograd.grad(out.log_likelihood.sum(), list(inputs.values()))))
    *others, (plain, expected) = results
    for mine, gradients in others:
        assert torch.equal(mine["gain"][:, 100], mine["gain"][:, 199])
        for name, value in mine.items():
            torch.testing.assert_close(value, plain[name], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradients, expected, rtol=1e-8, atol=1e-8)


def test_a_slowly_changing_variance_does_not_count_as_converged():
    """The precision of a repeatedly observed constant grows by 1 / R per step, here by a relative amount of 1e-9."""
    one = torch.ones(1, 1, dtype=torch.float64)
    start = torch.full((1,), 1e-9, dtype=torch.float64)
    out = kalman_filter(torch.zeros(1, 2000, 1, dtype=torch.float64), A=one, Q=0 * start, C=one, R=one[0], P0=start)
    expected = 1 / (1e9 + torch.arange(1, 2001, dtype=torch.float64))
    torch.testing.assert_close(out.filtered_cov[0, :, 0, 0], expected, rtol=1e-10, atol=0)
