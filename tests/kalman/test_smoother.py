from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from dense_joint import Joint, make_problem

from kalmanssl.kalman import kalman_filter, kalman_smoother

CLOSE = {"rtol": 1e-7, "atol": 1e-9}


@pytest.mark.parametrize("missing", ["none", "steps", "channels", "shared", "all"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both", "mixed"])
def test_agrees_with_conditioning_the_joint_gaussian(varies, full, missing):
    problem = make_problem(varies=varies, full=full, missing=missing)
    out = kalman_smoother(problem.y, **problem.parameters, mask=problem.mask)
    batch, time, _ = problem.y.shape
    for n in range(batch):
        mean, cov = Joint(problem, n).states_given(time)
        blocks = cov.reshape(time, 3, time, 3).transpose(0, 2, 1, 3)
        np.testing.assert_allclose(out.smoothed_mean[n], mean, **CLOSE)
        for t in range(time):
            np.testing.assert_allclose(out.smoothed_cov[n, t], blocks[t, t], **CLOSE)
            if t + 1 < time:
                np.testing.assert_allclose(out.lag_one_cov[n, t], blocks[t + 1, t], **CLOSE)


def test_the_result_contains_the_filter_and_equals_it_at_the_last_step():
    problem = make_problem(varies="both", missing="channels")
    out = kalman_smoother(problem.y, **problem.parameters, mask=problem.mask)
    filtered = kalman_filter(problem.y, **problem.parameters, mask=problem.mask)
    for name, value in filtered.tensors().items():
        torch.testing.assert_close(getattr(out.filter, name), value)
    torch.testing.assert_close(out.smoothed_mean[:, -1], filtered.filtered_mean[:, -1])
    torch.testing.assert_close(out.smoothed_cov[:, -1], filtered.filtered_cov[:, -1])


def test_smoothed_covariances_are_not_larger_than_filtered_ones():
    problem = make_problem(varies="both", full=True, time=12)
    out = kalman_smoother(problem.y, **problem.parameters)
    gained = torch.linalg.eigvalsh(out.filter.filtered_cov - out.smoothed_cov)
    assert gained.min() > -1e-10
    assert gained[:, :-1].max() > 1e-3


def test_a_reversible_process_smooths_to_its_mirror_image():
    """Reversing the observations of a stationary reversible process reverses the smoothed moments."""
    y = torch.randn(2, 20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half = torch.full((1,), 0.5, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    # x_t = a x_{t-1} + N(0, 1 - a²) started from N(0, 1) looks the same backward.
    model = {"A": 0.8 * one, "Q": torch.full((1,), 0.36, dtype=torch.float64), "C": one, "R": half}
    forward = kalman_smoother(y, **model)
    backward = kalman_smoother(y.flip(1), **model)
    torch.testing.assert_close(forward.smoothed_mean, backward.smoothed_mean.flip(1))
    torch.testing.assert_close(forward.smoothed_cov, backward.smoothed_cov.flip(1))


def test_a_single_step_equals_the_filter():
    problem = make_problem(time=1)
    out = kalman_smoother(problem.y, **problem.parameters)
    torch.testing.assert_close(out.smoothed_mean, out.filter.filtered_mean)
    assert out.lag_one_cov.shape == (2, 0, 3, 3)


@pytest.mark.parametrize("varies", ["none", "both"])
def test_distinct_covariances_and_their_index_give_all_covariances(varies):
    problem = make_problem(varies=varies, batch=3, time=5)
    out = kalman_smoother(problem.y, **problem.parameters)
    covs, index = out.distinct_smoothed_cov()
    assert covs.shape == ((5 if varies == "none" else 15), 3, 3)
    assert index.shape == (3, 5)
    torch.testing.assert_close(covs[index], out.smoothed_cov)


def test_the_result_has_a_repr_and_gives_its_moments_by_name():
    problem = make_problem()
    out = kalman_smoother(problem.y.float(), **{name: value.float() for name, value in problem.parameters.items()})
    assert repr(out) == "SmootherResult(batch=2, time=6, state=3, dtype=torch.float32)"
    moments = out.tensors()
    assert [tuple(value.shape) for value in moments.values()] == [(2, 6, 3), (2, 6, 3, 3), (2, 5, 3, 3)]
    assert {value.dtype for value in moments.values()} == {torch.float32}
    assert moments["lag_one_cov"] is out.lag_one_cov


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both"])
def test_derivatives_are_those_of_the_moments_of_the_joint_gaussian(varies, compiled, monkeypatch):
    """The gradient along a random direction of all parameters agrees with finite differences of the joint Gaussian."""
    if not compiled:
        monkeypatch.setattr("kalmanssl.kalman.backends._affine_recursions.has_compiler", lambda: False)
    problem = make_problem(varies=varies, batch=2, time=6)
    generator = torch.Generator().manual_seed(3)
    random = lambda like: torch.randn(like.shape, generator=generator, dtype=like.dtype)  # noqa: E731
    values = {"y": problem.y, **problem.parameters}
    directions = {name: random(value) for name, value in values.items()}
    directions["P0"] = directions["P0"] + directions["P0"].mT if values["P0"].shape[-2:] == (3, 3) else directions["P0"]

    def moments_at(step):
        moved = {name: value + step * directions[name] for name, value in values.items()}
        return kalman_smoother(moved.pop("y"), **moved).tensors()

    weights = {name: random(value) for name, value in moments_at(0.0).items()}
    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(sum((weights[n] * v).sum() for n, v in moments_at(step).items()), step)

    def joint_at(step):
        moved = {name: value + step * directions[name] for name, value in values.items()}
        changed = dataclasses.replace(problem, y=moved.pop("y"), parameters=moved)
        total = 0.0
        for n in range(2):
            mean, cov = Joint(changed, n).states_given(6)
            blocks = cov.reshape(6, 3, 6, 3).transpose(0, 2, 1, 3)
            found = (mean, blocks[range(6), range(6)], blocks[range(1, 6), range(5)])
            total += sum(
                (weight[n].numpy() * value).sum() for weight, value in zip(weights.values(), found, strict=True)
            )
        return total

    np.testing.assert_allclose(slope, (joint_at(1e-5) - joint_at(-1e-5)) / 2e-5, rtol=1e-5)
