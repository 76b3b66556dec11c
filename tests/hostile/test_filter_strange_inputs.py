"""Strange but valid arguments of the Kalman filter give exact results."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from dense_joint import Joint, Problem, make_problem
from torch import Tensor

from kalmanssl.kalman import JitterWarning, kalman_filter, kalman_smoother

BATCH, TIME, STATE, OBS = 3, 5, 2, 2
PROBLEM = make_problem(batch=BATCH, time=TIME, state=STATE, obs=OBS, seed=3)
Y, PARAMETERS = PROBLEM.y, PROBLEM.parameters
EYE = torch.eye(2, dtype=torch.float64)


def negated(value: Tensor) -> Tensor:
    """A tensor with the negative bit, as from the imaginary part of a conjugate."""
    lazy = torch.complex(torch.zeros_like(value), -value).conj().imag
    assert lazy.is_neg()
    return lazy


VALID: dict[str, Callable[[Tensor], Tensor]] = {
    "negative bit": negated,
    "transposed memory": lambda value: value.mT.contiguous().mT if value.ndim > 1 else value,
    "every second entry": lambda value: value.repeat_interleave(2, -1)[..., ::2],
    "parameter": lambda value: torch.nn.Parameter(value.clone()),
    "view of a leaf": lambda value: torch.nn.Parameter(value.clone()).view(value.shape),
}


@torch.no_grad()
def assert_exact(problem: Problem, **changed: Tensor) -> None:
    """Compare filter and smoother with the joint Gaussian; `changed` replaces arguments by equal ones."""
    values = {"y": problem.y, **problem.parameters, "mask": problem.mask, **changed}
    filtered, smoothed = kalman_filter(**values), kalman_smoother(**values)
    for member in range(len(problem.y)):
        joint = Joint(problem, member)
        for t in (0, TIME - 1):
            mean, cov = joint.moments(t, t + 1)
            np.testing.assert_allclose(filtered.filtered_mean[member, t], mean, rtol=1e-7, atol=1e-9)
            np.testing.assert_allclose(filtered.filtered_cov[member, t], cov, rtol=1e-7, atol=1e-9)
            np.testing.assert_allclose(float(filtered.log_likelihood[member, t]), joint.log_likelihood(t), rtol=1e-7)
            mean, cov = joint.moments(t, TIME)
            np.testing.assert_allclose(smoothed.smoothed_mean[member, t], mean, rtol=1e-7, atol=1e-9)
            np.testing.assert_allclose(smoothed.smoothed_cov[member, t], cov, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", VALID)
@pytest.mark.parametrize("varies", ["none", "both"])
def test_valid_tensors_of_any_memory_layout_give_exact_results(varies, kind):
    problem = make_problem(varies=varies, full=True, batch=BATCH, time=TIME, state=STATE, obs=OBS, seed=5)
    assert_exact(problem, **{name: VALID[kind](v) for name, v in {"y": problem.y, **problem.parameters}.items()})


def test_expanded_tensors_give_exact_results():
    problem = make_problem(full=True, batch=BATCH, time=TIME, state=STATE, obs=OBS, seed=6)
    expanded = {
        name: value.expand(BATCH, *value.shape) if name in ("m0", "P0") else value.expand(BATCH, TIME, *value.shape)
        for name, value in problem.parameters.items()
        if name != "P0"
    }
    P0 = torch.ones(1, 1, dtype=torch.float64).expand(2, 2)  # all entries are one number in memory
    assert_exact(Problem(problem.y[:1].expand(BATCH, -1, -1), {**expanded, "P0": P0}, None))


@pytest.mark.parametrize("number", [1e300, -1e300, 5e-324, np.nan, np.inf])
def test_extreme_values_that_are_masked_have_no_influence(number):
    problem = make_problem(missing="channels", batch=BATCH, time=TIME, state=STATE, obs=OBS, seed=7)
    y = torch.where(problem.mask, problem.y, torch.tensor(number, dtype=torch.float64))
    assert_exact(Problem(y, problem.parameters, problem.mask))


@pytest.mark.parametrize("name", ["Q", "R", "P0"])
@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e100])
def test_covariances_of_any_scale_are_accepted_and_singular_ones_too(name, scale):
    cov = scale * torch.ones(2, 2, dtype=torch.float64)
    if name == "R":
        cov = cov + scale * EYE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JitterWarning)
        out = kalman_filter(Y, **{**PARAMETERS, name: cov})
    assert all(torch.isfinite(value).all() for value in (out.filtered_mean, out.filtered_cov, out.log_likelihood))


def test_observations_without_any_noise_are_refused_or_reported():
    zero = torch.zeros_like(EYE[0])
    with pytest.warns(JitterWarning):
        kalman_filter(Y, **{**PARAMETERS, "Q": zero, "R": zero, "P0": zero})
