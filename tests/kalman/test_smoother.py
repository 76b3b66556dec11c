from __future__ import annotations

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


def test_holds_the_filter_and_ends_with_it():
    problem = make_problem(varies="both", missing="channels")
    out = kalman_smoother(problem.y, **problem.parameters, mask=problem.mask)
    filtered = kalman_filter(problem.y, **problem.parameters, mask=problem.mask)
    for name, value in filtered.tensors().items():
        torch.testing.assert_close(getattr(out.filter, name), value)
    torch.testing.assert_close(out.smoothed_mean[:, -1], filtered.filtered_mean[:, -1])
    torch.testing.assert_close(out.smoothed_cov[:, -1], filtered.filtered_cov[:, -1])


def test_never_less_certain_than_the_filter():
    problem = make_problem(varies="both", full=True, time=12)
    out = kalman_smoother(problem.y, **problem.parameters)
    gained = torch.linalg.eigvalsh(out.filter.filtered_cov - out.smoothed_cov)
    assert gained.min() > -1e-10
    assert gained[:, :-1].max() > 1e-3


def test_time_reversed_twice_is_the_same():
    """A stationary reversible process smooths to the mirror image of its mirror image."""
    y = torch.randn(2, 20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half = torch.full((1,), 0.5, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    # x_t = a x_{t-1} + N(0, 1 - a²) started from N(0, 1) looks the same backwards.
    model = {"A": 0.8 * one, "Q": torch.full((1,), 0.36, dtype=torch.float64), "C": one, "R": half}
    forwards = kalman_smoother(y, **model)
    backwards = kalman_smoother(y.flip(1), **model)
    torch.testing.assert_close(forwards.smoothed_mean, backwards.smoothed_mean.flip(1))
    torch.testing.assert_close(forwards.smoothed_cov, backwards.smoothed_cov.flip(1))


def test_single_step():
    problem = make_problem(time=1)
    out = kalman_smoother(problem.y, **problem.parameters)
    torch.testing.assert_close(out.smoothed_mean, out.filter.filtered_mean)
    assert out.lag_one_cov.shape == (2, 0, 3, 3)
