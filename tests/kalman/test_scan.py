"""The filter and the smoother by scans in time, compared with loops."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from dense_joint import make_problem
from test_float32 import NOISES, simulate
from torch.utils._python_dispatch import TorchDispatchMode

from kalmanssl.kalman import JitterWarning, kalman_filter, kalman_smoother, sample_posterior
from kalmanssl.kalman._validation import check_model, check_observations
from kalmanssl.kalman.backends import _covariance_scan, _dispatch, uses_scan
from kalmanssl.kalman.backends._affine_recursions import affine_scan, covariance_recursion
from kalmanssl.kalman.backends._covariance_scan import scan_covariances
from kalmanssl.kalman.backends._parallel_scan import parallel_scan

LENGTHS = [1, 2, 3, 5, 17, 64]
PRIME = 1_000_003


class OperationCount(TorchDispatchMode):
    """Number of operations of torch."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += 1
        return function(*arguments, **(keywords or {}))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("steps", LENGTHS)
def test_a_scan_equals_its_loop_exactly_in_integers(steps, constant):
    """Affine maps modulo a prime do not commute, and have no rounding."""
    generator = torch.Generator().manual_seed(steps)
    slopes = torch.randint(PRIME, (1 if constant else steps, 3), generator=generator)
    offsets = torch.randint(PRIME, (steps, 3), generator=generator)
    start = torch.randint(PRIME, (3,), generator=generator)

    def compose(early, late):
        return early[0] * late[0] % PRIME, (early[1] * late[0] + late[1]) % PRIME

    found = parallel_scan((slopes, offsets), start, steps, compose, lambda f, x: (f[0] * x + f[1]) % PRIME)
    state, expected = start, []
    for t in range(steps):
        state = (slopes[0 if constant else t] * state + offsets[t]) % PRIME
        expected.append(state)
    assert torch.equal(found, torch.stack(expected))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", LENGTHS)
def test_scans_of_vectors_and_covariances_equal_their_loops(steps, reverse):
    u, M, root = random(steps, 6, 3), 0.5 * random(steps, 2, 3, 3, seed=1), random(steps, 2, 3, 3, seed=2)
    for known in {1, min(2, steps), max(steps - 1, 1), steps - int(reverse and steps > 1)}:
        loop = affine_scan(u, M[:known], reverse=reverse)
        torch.testing.assert_close(affine_scan(u, M[:known], reverse=reverse, parallel=True), loop)
    D = root @ root.mT
    loop = covariance_recursion(D, M[1:], reverse=reverse)
    torch.testing.assert_close(covariance_recursion(D, M[1:], reverse=reverse, parallel=True), loop)


def values_and_gradients(problem, implementation, function=kalman_filter):
    """All outputs, and the gradients of a loss that depends on all of them."""
    values = {"y": torch.nan_to_num(problem.y, nan=0.3), **problem.parameters}
    values = {name: value.clone().requires_grad_() for name, value in values.items()}
    arguments = dict(values)
    out = function(arguments.pop("y"), **arguments, mask=problem.mask, implementation=implementation)
    outputs = out.tensors()
    loss = sum((random(*value.shape, seed=5) * value).sum() for value in outputs.values())
    gradients = torch.autograd.grad(loss, list(values.values()), materialize_grads=True)
    named = dict(zip(values, gradients, strict=True))
    for name in ("Q", "R", "P0"):  # entry (i, j) and its transpose are one number
        if values[name].ndim in (2, 4) or (name == "P0" and values[name].ndim == 3):
            named[name] = 0.5 * (named[name] + named[name].mT)
    return outputs, named


def assert_equal_to(found, expected, tolerance):
    for mine, plain in zip(found, expected, strict=True):
        for name, value in plain.items():
            assert (mine[name] - value).norm() <= tolerance * value.norm(), name


@pytest.mark.parametrize("missing", ["none", "steps", "channels", "shared", "all"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both", "mixed"])
@pytest.mark.parametrize("time", LENGTHS)
def test_filter_and_gradients_equal_the_reference(time, varies, full, missing):
    problem = make_problem(varies=varies, full=full, missing=missing, time=time, seed=time)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    found, expected = (values_and_gradients(problem, name) for name in ("scan", "reference"))
    assert_equal_to(found[:1], expected[:1], 1e-10)
    assert_equal_to(found[1:], expected[1:], 1e-8)


@pytest.mark.parametrize("missing", ["none", "channels"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both"])
@pytest.mark.parametrize("time", [1, 2, 5, 64])
def test_smoother_and_gradients_equal_those_of_the_loop(time, varies, missing):
    problem = make_problem(varies=varies, missing=missing, time=time, seed=time)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    found, expected = (values_and_gradients(problem, name, kalman_smoother) for name in ("scan", "adjoint"))
    assert_equal_to(found, expected, 1e-8)


@pytest.mark.parametrize("varies", ["none", "both"])
def test_gradcheck(varies):
    problem = make_problem(varies=varies, batch=2, time=4, state=2, obs=2, seed=1)
    names = ["y", "A", "Q", "C", "R", "m0", "b"]
    values = {"y": problem.y, **problem.parameters}

    def outputs(*inputs):
        given = {**values, **dict(zip(names, inputs, strict=True))}
        return tuple(kalman_filter(given.pop("y"), **given, implementation="scan").tensors().values())

    assert torch.autograd.gradcheck(outputs, [values[name].clone().requires_grad_() for name in names])


def test_long_sequences_are_computed_in_segments(monkeypatch):
    monkeypatch.setattr(_covariance_scan, "_MOST_NUMBERS", 0)
    monkeypatch.setattr("kalmanssl.kalman.backends._adjoint._NUMBERS_OF_SCAN", 9 * 2 * 20)
    problem = make_problem(varies="both", missing="channels", time=150)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    found, expected = (values_and_gradients(problem, name) for name in ("scan", "reference"))
    assert_equal_to(found[:1], expected[:1], 1e-10)
    assert_equal_to(found[1:], expected[1:], 1e-8)


@pytest.mark.parametrize("varies", ["none", "both"])
@pytest.mark.parametrize("function", [kalman_filter, kalman_smoother])
def test_the_number_of_operations_grows_with_the_logarithm_of_the_length(function, varies):
    counts = []
    for time in (128, 256, 512):
        problem = make_problem(varies=varies, time=time)
        problem.parameters["A"] = 0.5 * problem.parameters["A"]
        values = {name: value.requires_grad_() for name, value in problem.parameters.items()}
        with OperationCount() as operations:
            out = function(problem.y, **values, implementation="scan")
            next(iter(out.tensors().values())).sum().backward()
        counts.append(operations.count)
    assert counts[2] - counts[1] < 600
    assert counts[2] < 1.25 * counts[1] < 1.25**2 * counts[0]


@pytest.mark.parametrize("varying", [False, True], ids=["constant", "varying"])
@pytest.mark.parametrize("process", [0.0, 1e-8, 1.0])
@pytest.mark.parametrize("noise", NOISES)
def test_extreme_noise_is_as_accurate_as_the_reference(noise, process, varying):
    """In float64 two orders of the operations differ by 2e-8 of a standard deviation at the most extreme noise."""
    y, parameters = simulate(noise, process, "rotation", batch=2, time=200)
    if varying:
        parameters["R"] = parameters["R"] * torch.exp(random(2, 200, 8).float())
    exact = kalman_filter(y.double(), **{k: v.double() for k, v in parameters.items()}, implementation="reference")
    sd = exact.filtered_cov.diagonal(dim1=-2, dim2=-1).sqrt()
    for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 1e-5)):
        out = kalman_filter(y.to(dtype), **{k: v.to(dtype) for k, v in parameters.items()}, implementation="scan")
        relative = (out.filtered_cov - exact.filtered_cov).abs() / sd[..., :, None] / sd[..., None, :]
        assert relative.max() < tolerance
        total, expected = out.log_likelihood.double().sum(1), exact.log_likelihood.sum(1)
        assert ((total - expected) / expected).abs().max() < 1e-2 * tolerance
        assert torch.linalg.cholesky_ex(out.filtered_cov.double())[1].sum() == 0


def test_newton_steps_make_up_for_an_inaccurate_scan(monkeypatch):
    apply = _covariance_scan._apply
    spoiled = lambda elements, P: (1 + 1e-4) * apply(elements, P)  # noqa: E731
    problem = make_problem(varies="both", time=40)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    expected = kalman_filter(problem.y, **problem.parameters, implementation="reference")
    monkeypatch.setattr(_covariance_scan, "_apply", spoiled)
    found = kalman_filter(problem.y, **problem.parameters, implementation="scan")
    assert_equal_to([found.tensors()], [expected.tensors()], 1e-10)


def test_a_scan_that_is_not_accurate_is_replaced_by_the_loop(monkeypatch):
    problem = make_problem(varies="both", time=40)
    expected = kalman_filter(problem.y, **problem.parameters, implementation="adjoint")
    monkeypatch.setattr(_covariance_scan, "_largest_change", lambda before, now: float("nan"))
    model, _ = checked(problem)
    with pytest.raises(ValueError, match="not accurate"):
        scan_covariances(40, model.P0[None], *stacks(model), constant=False)
    found = kalman_filter(problem.y, **problem.parameters, implementation="scan")
    assert_equal_to([found.tensors()], [expected.tensors()], 1e-14)


def checked(problem):
    observations = check_observations(problem.y, problem.mask)
    return check_model(problem.y, *problem.y.shape[:2], **problem.parameters, obs=problem.y.shape[2]), observations


def stacks(model):
    return [p.transpose(0, 1) for p in (model.A, model.Q, model.C, model.R)]


def test_jitter_is_added_where_the_loop_adds_it():
    problem = make_problem(time=20)
    C, R = problem.parameters["C"], torch.full((2,), 0.0, dtype=torch.float64)
    C = torch.stack([C[0], C[0]])  # one channel twice, without noise
    given = {**problem.parameters, "C": C, "R": R}
    for implementation in ("adjoint", "scan"):
        with pytest.warns(JitterWarning):
            out = kalman_filter(problem.y, **given, implementation=implementation)
        assert out.status.jitter.max() > 0


def test_powers_that_overflow_do_not_matter_if_the_states_do_not():
    eye, zeros = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    y = random(1, 4000, 1)
    given = {"A": 1.5 * eye, "Q": zeros, "C": torch.ones(1, 2, dtype=torch.float64), "R": 1 + zeros[:1], "P0": zeros}
    assert not torch.isfinite(torch.linalg.matrix_power(given["A"], 4000)).any()
    out = kalman_filter(y, **given, implementation="scan")
    torch.testing.assert_close(out.filtered_mean, torch.zeros(1, 4000, 2, dtype=torch.float64), rtol=0, atol=0)


def test_auto_uses_scans_on_gpus_for_long_sequences_with_few_covariances():
    model, observations = checked(make_problem(time=70))
    long = replace(observations, y=observations.y.to("meta"))
    assert not uses_scan("auto", model, observations)
    assert uses_scan("scan", model, observations)
    assert not uses_scan("adjoint", model, observations)

    class OnGpu:
        """A tensor that says it is on a GPU."""

        def __init__(self, *shape):
            self.shape, self.device = shape, torch.device("cuda")

    def chosen(steps, **changes):
        return uses_scan("auto", model.replace(**changes), replace(long, y=OnGpu(2, steps, 2)))

    assert chosen(_dispatch.MIN_STEPS_OF_SCAN)
    assert not chosen(_dispatch.MIN_STEPS_OF_SCAN - 1)
    many = _dispatch.MOST_NUMBERS_OF_SCAN // 9
    assert chosen(70, P0=model.P0.expand(many, 3, 3))
    assert not chosen(70, P0=model.P0.expand(many + 1, 3, 3))


def test_posterior_samples_by_scans_follow_the_same_noise(monkeypatch):
    problem = make_problem(varies="both", time=80)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    draw = lambda: sample_posterior(  # noqa: E731
        problem.y, **problem.parameters, n_samples=3, generator=torch.Generator().manual_seed(0)
    )
    plain = draw()
    monkeypatch.setattr("kalmanssl.kalman._sampling.uses_scan", lambda *arguments: True)
    torch.testing.assert_close(draw(), plain)


def test_no_warning_where_all_covariances_are_positive_definite():
    problem = make_problem(varies="both", time=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = kalman_filter(problem.y, **problem.parameters, implementation="scan")
    np.testing.assert_array_equal(out.status.jitter, 0)
