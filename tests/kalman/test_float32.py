"""Float32 results are positive definite and close to float64 for long sequences and extreme noise."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch

from kalmanssl.kalman import FilterResult, PrecisionWarning, kalman_filter, kalman_smoother

STATE, OBS = 16, 8
NOISES = {"1e-6": np.full(OBS, 1e-6), "1e6": np.full(OBS, 1e6), "mixed": np.logspace(-6, 6, OBS)}
DYNAMICS = ["rotation", "still", "decay"]


def simulate(noise, process, dynamics, batch, time):
    """Return parameters that are exact in float32, and observations drawn in numpy."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(STATE, STATE)))[0]
    A = {"rotation": turn, "still": np.eye(STATE), "decay": 0.9 * turn}[dynamics].astype(np.float32)
    C = rng.normal(size=(OBS, STATE)).astype(np.float32)
    R = NOISES[noise].astype(np.float32)
    shocks = np.sqrt(process) * rng.normal(size=(time, batch, STATE))
    x, states = rng.normal(size=(batch, STATE)), []
    for shock in shocks:
        states.append(x)
        x = x @ A.T + shock
    y = np.stack(states, 1) @ C.T + np.sqrt(R) * rng.normal(size=(batch, time, OBS))
    parameters = {"A": A, "C": C, "R": R, "Q": np.full(STATE, process, np.float32)}
    return torch.as_tensor(y.astype(np.float32)), {k: torch.as_tensor(v) for k, v in parameters.items()}


def to_float64(y, parameters):
    return y.double(), {name: value.double() for name, value in parameters.items()}


def assert_positive_definite(out):
    for cov in (out.predicted_cov, out.filtered_cov, out.innovation_cov):
        assert torch.equal(cov, cov.mT)
        _, status = torch.linalg.cholesky_ex(cov.double())
        assert not status.any()


@pytest.mark.parametrize("per_sequence", [False, True], ids=["shared", "per sequence"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("process", [1e-8, 1.0])
@pytest.mark.parametrize("noise", NOISES)
def test_results_with_extreme_noise_are_positive_definite_and_accurate(noise, process, dynamics, per_sequence):
    y, parameters = simulate(noise, process, dynamics, batch=2, time=300)
    if per_sequence:
        parameters["R"] = parameters["R"].expand(2, 300, OBS)
    out = kalman_filter(y, **parameters)
    assert_positive_definite(out)
    y, parameters = to_float64(y, parameters)
    exact = kalman_filter(y, **parameters, implementation="reference")
    total, expected = out.log_likelihood.double().sum(1), exact.log_likelihood.sum(1)
    assert ((total - expected) / expected).abs().max() < 1e-4
    sd = exact.filtered_cov.diagonal(dim1=-2, dim2=-1).sqrt()
    assert ((out.filtered_mean - exact.filtered_mean) / sd).abs().max() < 0.02


@pytest.mark.parametrize("noise", [1e-3, 1e-2, 1.0, 100.0])
def test_covariances_computed_in_float32_are_accurate(noise):
    """If noise differs between sequences and is not extreme, covariances are computed in float32."""
    y, parameters = simulate("1e6", 0.01, "rotation", batch=3, time=300)
    C = 0.2 * parameters["C"]
    R = noise * torch.exp(torch.rand(3, 300, OBS, generator=torch.Generator().manual_seed(0)))
    assert R.min() >= 1e-4 * C.square().sum(-1).max()
    y = y * 1e-3
    out = kalman_filter(y, **{**parameters, "R": R, "C": C})
    assert_positive_definite(out)
    y, parameters = to_float64(y, {**parameters, "R": R, "C": C})
    exact = kalman_filter(y, **parameters, implementation="reference")
    torch.testing.assert_close(out.log_likelihood.double(), exact.log_likelihood, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.filtered_cov.double(), exact.filtered_cov, rtol=1e-3, atol=1e-5)


def test_covariances_converge_over_65000_steps():
    y, parameters = simulate("mixed", 1e-8, "rotation", batch=1, time=65_000)
    out = kalman_filter(y, **parameters)
    assert_positive_definite(out)
    y, parameters = to_float64(y, parameters)
    A, C, Q, R = (parameters[name].numpy() for name in "ACQR")
    limit = scipy.linalg.solve_discrete_are(A.T, C.T, np.diag(Q), np.diag(R))
    np.testing.assert_allclose(out.predicted_cov[0, -1], limit, rtol=1e-4, atol=1e-5 * limit.max())
    expected = kalman_filter(y, **parameters).log_likelihood.sum()
    assert abs(out.log_likelihood.double().sum() - expected) < 1e-4 * abs(expected)


def test_covariances_that_do_not_converge_over_65000_steps():
    """Half of the directions of a random walk are not observed; their variance grows at every step."""
    y, parameters = simulate("mixed", 1e-8, "still", batch=1, time=65_000)
    out = kalman_filter(y, **parameters)
    assert_positive_definite(out)
    for value in out.tensors().values():
        assert torch.isfinite(value).all()
    growth = torch.linalg.eigvalsh(out.filtered_cov[0, -1].double()).max() - 1
    np.testing.assert_allclose(growth, 1e-8 * 65_000, rtol=0.05)


def off_by(noise, implementation, precision):
    """Return the error of the log-likelihood of four states and eight observations, in nats per observed number."""
    rng = np.random.default_rng(0)
    A = 0.99 * np.linalg.qr(rng.normal(size=(4, 4)))[0]
    values = {"A": A, "C": rng.normal(size=(8, 4)), "Q": np.full(4, 0.1), "R": np.full(8, noise)}
    x, y = np.zeros((1, 4)), []
    for _ in range(50):
        x = x @ A.T + np.sqrt(0.1) * rng.normal(size=(1, 4))
        y.append(x @ values["C"].T + np.sqrt(noise) * rng.normal(size=(1, 8)))
    y = torch.as_tensor(np.stack(y, 1)).float()
    values = {name: torch.as_tensor(value).float() for name, value in values.items()}
    out = kalman_filter(y, **values, implementation=implementation, precision=precision)
    y, values = to_float64(y, values)
    return float((out.log_likelihood.double() - kalman_filter(y, **values).log_likelihood).mean().abs()) / 8


@pytest.mark.filterwarnings("ignore::kalmanssl.kalman.JitterWarning")
@pytest.mark.parametrize("implementation", ["auto", "adjoint", "scan", "reference"])
def test_requested_float32_warns_if_the_noise_is_too_small_for_it(implementation):
    with pytest.warns(PrecisionWarning, match=r"in float32 the log-likelihood can be wrong; leave out precision"):
        assert off_by(1e-8, implementation, torch.float32) > 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert off_by(1e-3, implementation, torch.float32) < 1e-3
        assert off_by(1e-8, implementation, torch.float64) < 1e-3


@pytest.mark.filterwarnings("ignore::kalmanssl.kalman.JitterWarning", "ignore::kalmanssl.kalman.PrecisionWarning")
def test_a_batch_with_noise_far_below_its_signal_is_computed_in_float64():
    """In float32 this recursion becomes indefinite within a few steps."""
    y, parameters = simulate("1e-6", 1e-8, "rotation", batch=2, time=200)
    parameters["R"] = parameters["R"].expand(2, 200, OBS)
    with pytest.raises(ValueError, match="not positive definite"):
        kalman_filter(y, **parameters, implementation="reference")
    assert_positive_definite(kalman_filter(y, **parameters))


def test_float32_gradients_agree_with_float64():
    y, parameters = simulate("mixed", 1e-8, "rotation", batch=2, time=200)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        values = {name: value.to(dtype).requires_grad_() for name, value in parameters.items()}
        loss = kalman_filter(y.to(dtype), **values).log_likelihood.mean()
        gradients.append(torch.autograd.grad(loss, list(values.values())))
    for single, double in zip(*gradients, strict=True):
        assert (single.double() - double).norm() < 1e-3 * double.norm()


def test_float32_gradients_agree_with_float64_for_noise_that_differs_between_sequences():
    """This is a small version of a training step with noise that depends on the input."""
    y, parameters = simulate("1e6", 0.01, "decay", batch=5, time=60)
    parameters["R"] = 0.5 + torch.rand(5, 60, OBS, generator=torch.Generator().manual_seed(0))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        values = {"y": 1e-3 * y, **parameters}
        values = {name: value.to(dtype, copy=True).requires_grad_() for name, value in values.items()}
        arguments = dict(values)
        loss = kalman_filter(arguments.pop("y"), **arguments).log_likelihood.mean()
        gradients.append(torch.autograd.grad(loss, list(values.values())))
    for name, single, double in zip(values, *gradients, strict=True):
        assert single.dtype == torch.float32
        assert (single.double() - double).norm() < 1e-4 * double.norm(), name


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("quantity", FilterResult.FIELDS)
def test_float32_gradients_of_every_output_with_shared_covariances(quantity, compiled, full, monkeypatch):
    """Means are computed in float32 and covariances in float64, so that gradients arrive in both data types."""
    if not compiled:
        monkeypatch.setattr("kalmanssl.kalman.backends._affine_recursions.has_compiler", lambda: False)
    y, parameters = simulate("1e6", 0.01, "decay", batch=3, time=40)
    parameters = {**parameters, "R": torch.ones(OBS), "b": torch.ones(STATE), "P0": torch.eye(STATE)}
    if full:
        parameters = {**parameters, "R": torch.eye(OBS), "Q": 0.01 * torch.eye(STATE)}
    values = {"y": 1e-3 * y, **parameters, "m0": torch.ones(STATE)}
    gradients = []
    for dtype in (torch.float32, torch.float64):
        inputs = {name: value.to(dtype, copy=True).requires_grad_() for name, value in values.items()}
        arguments = dict(inputs)
        out = kalman_filter(arguments.pop("y"), **arguments, implementation="adjoint")
        loss = getattr(out, quantity).square().mean()
        gradients.append(torch.autograd.grad(loss, list(inputs.values()), materialize_grads=True))
    for name, single, double in zip(values, *gradients, strict=True):
        assert single.dtype == torch.float32
        assert (single.double() - double).norm() <= 1e-4 * double.norm(), name


def test_smoother_of_float32_data_agrees_with_float64():
    y, parameters = simulate("mixed", 1e-8, "rotation", batch=2, time=300)
    out = kalman_smoother(y, **parameters)
    assert out.smoothed_mean.dtype == torch.float32
    _, status = torch.linalg.cholesky_ex(out.smoothed_cov.double())
    assert not status.any()
    y, parameters = to_float64(y, parameters)
    exact = kalman_smoother(y, **parameters)
    torch.testing.assert_close(out.smoothed_mean.double(), exact.smoothed_mean, rtol=1e-5, atol=1e-6)
