"""Covariances of a constant model are computed until they converge, and the results are those of the full loop."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.linalg
import torch

from kalmanssl.kalman import _smoothing as smoothing_module
from kalmanssl.kalman import kalman_filter, kalman_smoother
from kalmanssl.kalman.backends import _affine_recursions as recursions_module


def model(state: int = 4, obs: int = 2, radius: float = 0.95, process: float = 0.1, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    A = random(state, state)
    return {
        "A": radius * A / torch.linalg.eigvals(A).abs().max(),
        "b": random(state),
        "Q": process * (1 + random(state).square()),
        "C": random(obs, state),
        "R": 0.1 + random(obs).square(),
        "m0": random(state),
        "P0": 5 * torch.eye(state, dtype=torch.float64),
    }


def observations(batch, steps, obs=2):
    return torch.randn(batch, steps, obs, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def steady_state(parameters):
    A, C, Q, R = (parameters[name].numpy() for name in "ACQR")
    return scipy.linalg.solve_discrete_are(A.T, C.T, np.diag(Q), np.diag(R))


@pytest.fixture(params=["compiled", "torch"])
def compiled_and_torch(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(recursions_module, "has_compiler", lambda: False)


@pytest.mark.usefixtures("compiled_and_torch")
@pytest.mark.parametrize("steps", [1, 2, 5, 40, 700])
@pytest.mark.parametrize("radius", [0.5, 0.99, 1.02])
def test_filter_equals_the_one_that_computes_all_covariances(steps, radius):
    parameters = model(radius=radius)
    y = observations(3, steps)
    out = kalman_filter(y, **parameters, implementation="adjoint")
    plain = kalman_filter(y, **parameters, implementation="reference")
    for name, value in out.tensors().items():
        expected = getattr(plain, name)
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def plain_smoother(filtered, A, steps):
    """Rauch, Tung & Striebel, step by step in numpy."""
    names = ("filtered_mean", "filtered_cov", "predicted_mean", "predicted_cov")
    mf, Pf, mp, Pp = (getattr(filtered, name)[0].numpy() for name in names)
    means, covs, lags = [mf[-1]], [Pf[-1]], []
    for t in range(steps - 2, -1, -1):
        G = np.linalg.solve(Pp[t + 1], A.numpy() @ Pf[t]).T
        lags.append(covs[-1] @ G.T)
        means.append(mf[t] + G @ (means[-1] - mp[t + 1]))
        covs.append(Pf[t] + G @ (covs[-1] - Pp[t + 1]) @ G.T)
    return means[::-1], covs[::-1], lags[::-1]


@pytest.mark.usefixtures("compiled_and_torch")
@pytest.mark.parametrize("steps", [2, 40, 700])
@pytest.mark.parametrize("radius", [0.5, 0.99, 1.02])
def test_smoother_equals_the_one_that_computes_all_covariances(steps, radius):
    parameters = model(radius=radius)
    y = observations(1, steps)
    out = kalman_smoother(y, **parameters)
    means, covs, lags = plain_smoother(
        kalman_filter(y, **parameters, implementation="reference"), parameters["A"], steps
    )
    np.testing.assert_allclose(out.smoothed_mean[0], means, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(out.smoothed_cov[0], covs, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(out.lag_one_cov[0], lags, rtol=1e-8, atol=1e-9)
    table, index = out.distinct_smoothed_cov()
    torch.testing.assert_close(table[index], out.smoothed_cov)


@pytest.mark.usefixtures("compiled_and_torch")
@pytest.mark.parametrize("start", ["wide", "converged"])
@pytest.mark.parametrize(("radius", "process"), [(0.5, 0.1), (0.99, 1e-3), (1.02, 0.01), (0.9999, 1e-2)])
def test_gradients_equal_those_of_the_loop_over_all_steps(radius, process, start):
    """Also if the covariances have converged from the first step on, but their derivatives have not."""
    steps = 400
    parameters = model(state=3, radius=radius, process=process)
    if start == "converged":
        parameters["P0"] = torch.as_tensor(steady_state(parameters))
    values = {"y": observations(2, steps), **parameters}
    gradients = []
    for implementation in ("adjoint", "reference"):
        inputs = {name: value.clone().requires_grad_() for name, value in values.items()}
        arguments = {**inputs, "P0": 0.5 * (inputs["P0"] + inputs["P0"].mT)}
        out = kalman_filter(arguments.pop("y"), **arguments, implementation=implementation)
        weights = torch.linspace(1, 2, steps, dtype=torch.float64)
        loss = (out.log_likelihood * weights).sum() + out.filtered_cov[:, 150:].square().sum()
        loss = loss + out.gain[0, ::7].sum() + out.predicted_mean.sum() + out.innovation_cov[1, 200].sum()
        gradients.append(torch.autograd.grad(loss, list(inputs.values())))
        if implementation == "adjoint":
            assert len(out.distinct_filtered_cov()[0]) < steps
    for name, mine, plain in zip(values, *gradients, strict=True):
        assert (mine - plain).norm() <= 1e-9 * plain.norm(), f"{name}: {(mine - plain).norm() / plain.norm()}"


@pytest.mark.parametrize("start", ["wide", "converged"])
@pytest.mark.parametrize("radius", [0.5, 0.99, 1.02])
def test_gradients_of_the_smoother_equal_finite_differences(radius, start):
    steps = 300
    parameters = model(state=3, radius=radius)
    if start == "converged":
        parameters["P0"] = torch.as_tensor(steady_state(parameters))
    y = observations(1, steps)
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(steps, *tail, generator=generator, dtype=torch.float64) for tail in ((3,), (3, 3), (3, 3))]

    def loss(values):
        out = kalman_smoother(y, **values)
        moments = (out.smoothed_mean[0], out.smoothed_cov[0], out.lag_one_cov[0])
        return sum((w[: len(m)] * m).sum() for w, m in zip(weights, moments, strict=True))

    inputs = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    gradients = dict(zip(inputs, torch.autograd.grad(loss(inputs), list(inputs.values())), strict=True))
    with torch.no_grad():
        for name, value in parameters.items():
            direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            direction = 0.5 * (direction + direction.mT) if name == "P0" else direction
            step = 1e-5 * direction
            by_difference = loss({**parameters, name: value + step}) - loss({**parameters, name: value - step})
            torch.testing.assert_close((gradients[name] * direction).sum(), by_difference / 2e-5, rtol=1e-5, atol=1e-5)


def test_few_covariances_serve_a_long_sequence():
    y = torch.zeros(1, 20_000, 2, dtype=torch.float64)
    kalman_smoother(y[:, :50], **model())  # compiles
    begin = time.perf_counter()
    out = kalman_smoother(y, **model())
    covs, index = out.distinct_smoothed_cov()
    assert time.perf_counter() - begin < 2.0
    assert len(out.filter.distinct_filtered_cov()[0]) < 200
    assert len(covs) < 400
    assert index.shape == (1, 20_000)


def test_covariances_converge_to_the_solution_of_the_riccati_equation():
    parameters = model()
    covs, _ = kalman_filter(observations(1, 500), **parameters).distinct_filtered_cov()
    P, C, R = steady_state(parameters), parameters["C"].numpy(), np.diag(parameters["R"].numpy())
    expected = P - P @ C.T @ np.linalg.solve(C @ P @ C.T + R, C @ P)
    np.testing.assert_allclose(covs[-1], expected, rtol=1e-11)


def test_covariances_converge_with_a_constant_mask():
    y, parameters = observations(2, 500), model()
    mask = torch.tensor([True, False]).expand(2, 500, 2)
    out = kalman_filter(y, **parameters, mask=mask)
    assert len(out.distinct_filtered_cov()[0]) < 200
    without = kalman_filter(y[..., :1], **{**parameters, "C": parameters["C"][:1], "R": parameters["R"][:1]})
    torch.testing.assert_close(out.filtered_cov, without.filtered_cov)
    torch.testing.assert_close(out.log_likelihood, without.log_likelihood)


def test_constant_masks_that_differ_between_sequences_agree_with_the_reference():
    y, parameters = observations(2, 60), model()
    mask = torch.tensor([[True, False], [False, True]])[:, None].expand(2, 60, 2)
    out = kalman_filter(y, **parameters, mask=mask, implementation="adjoint")
    plain = kalman_filter(y, **parameters, mask=mask, implementation="reference")
    for name, value in out.tensors().items():
        torch.testing.assert_close(value, getattr(plain, name), msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("implementation", ["auto", "adjoint", "reference"])
def test_a_short_sequence_has_the_bits_of_the_start_of_a_longer_one(implementation):
    """Except for predicted means after the kernels, which are a product of matrices of all steps."""
    y = observations(1, 200)
    short, long = (kalman_filter(part, **model(), implementation=implementation) for part in (y[:, :3], y))
    for name in ("filtered_mean", "filtered_cov", "log_likelihood"):
        assert torch.equal(getattr(short, name), getattr(long, name)[:, :3]), name


def test_short_and_long_sequences_have_different_kernels_and_the_same_results():
    """Kernels filter up to 256 steps of a constant model, and the recursion until convergence more of them."""
    y = observations(1, 300)
    short, long = (kalman_filter(part, **model()) for part in (y[:, :3], y))
    for name in ("filtered_mean", "filtered_cov", "predicted_mean", "log_likelihood"):
        close = {"rtol": 1e-12, "atol": 1e-12, "msg": lambda m, name=name: f"{name}: {m}"}
        torch.testing.assert_close(getattr(short, name), getattr(long, name)[:, :3], **close)


def test_the_variance_of_an_unobserved_drifting_state_does_not_converge():
    """The variance of a random walk that no channel observes grows by Q at every step."""
    parameters = {**model(state=2), "A": torch.eye(2, dtype=torch.float64)}
    parameters["C"] = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    out = kalman_filter(observations(1, 1000), **parameters)
    expected = 5 + parameters["Q"][1] * torch.arange(1000, dtype=torch.float64)
    torch.testing.assert_close(out.filtered_cov[0, :, 1, 1], expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_short_sequences_have_the_same_results_from_compiled_kernels_as_from_the_shared_recursion(dtype, masked):
    """Also gradients through the covariances, which all sequences share."""
    mask = torch.ones(3, 40, 2, dtype=torch.bool)
    mask[:, 5:9, 1] = not masked
    values = {name: value.to(dtype) for name, value in {"y": observations(3, 40), **model()}.items()}
    results, gradients = [], []
    for implementation in ("auto", "adjoint"):
        inputs = {name: value.clone().requires_grad_() for name, value in values.items()}
        arguments = dict(inputs)
        out = kalman_filter(arguments.pop("y"), **arguments, mask=mask, implementation=implementation)
        loss = (out.log_likelihood * torch.arange(1.0, 41.0)).sum() + out.filtered_cov[1:].square().sum()
        gradients.append(torch.autograd.grad(loss + out.gain.sum() + out.predicted_mean.sum(), list(inputs.values())))
        results.append(out)
    auto, adjoint = results
    assert auto._moments.innovation is None  # of the compiled kernels
    assert auto._moments.filtered_cov.shape[:2] == (1, 40)
    assert auto.status.smallest_variance.shape == (3,)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-8, "atol": 1e-9}
    for name, value in auto.tensors().items():
        torch.testing.assert_close(value, getattr(adjoint, name), **close, msg=lambda m, name=name: f"{name}: {m}")
    for name, mine, other in zip(values, *gradients, strict=True):
        assert (mine - other).norm() <= close["rtol"] * other.norm(), name


@pytest.mark.parametrize("implementation", ["auto", "scan", "reference"])
@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 7, 90])
def test_the_smoother_without_gradients_reuses_memory_and_gives_the_same(steps, varies, implementation, monkeypatch):
    monkeypatch.setattr(smoothing_module, "_PIECE", 8)
    y, parameters = observations(2, steps), model()
    if varies:
        parameters["R"] = parameters["R"] * torch.linspace(1, 3, steps, dtype=torch.float64)[None, :, None]
    plain = kalman_smoother(y, **parameters, implementation=implementation)
    with_gradients = kalman_smoother(y.clone().requires_grad_(), **parameters, implementation=implementation)
    for name, value in {**plain.tensors(), **plain.filter.tensors()}.items():
        expected = getattr(with_gradients if name in plain.FIELDS else with_gradients.filter, name)
        torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
