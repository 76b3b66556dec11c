"""Extended and unscented Kalman filters: linear models, filterpy, and equations written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_joint import make_problem
from refusals import assert_refused

from kalmanssl.kalman import extended_kalman_filter, innovation_diagnostics, kalman_filter, unscented_kalman_filter

BOTH = pytest.mark.parametrize("function", [extended_kalman_filter, unscented_kalman_filter])
FIELDS = ("predicted_mean", "predicted_cov", "filtered_mean", "filtered_cov", "log_likelihood", "gain", "innovation")
DT = 0.1
Q, R = np.diag([1e-3, 2e-2]), np.array([[0.05]])
M0, P0 = np.array([1.2, 0.0]), np.diag([0.3, 0.2])
RNG = np.random.default_rng(0)


def pendulum(x):
    """Angle and angular velocity after a step; of torch, or of numpy."""
    module = torch if isinstance(x, torch.Tensor) else np
    return module.stack([x[0] + DT * x[1], x[1] - 9.81 * DT * module.sin(x[0])])


def height(x):
    module = torch if isinstance(x, torch.Tensor) else np
    return module.sin(x[:1])


def simulate(steps: int = 40) -> np.ndarray:
    x, y = np.array([1.0, 0.3]), []
    for _ in range(steps):
        y.append(height(x) + np.sqrt(R[0, 0]) * RNG.standard_normal(1))
        x = pendulum(x) + np.sqrt(np.diag(Q)) * RNG.standard_normal(2)
    return np.array(y)


Y = simulate()
MODEL = {"f": pendulum, "Q": Q, "h": height, "R": R, "m0": M0, "P0": P0}


@BOTH
@pytest.mark.parametrize("missing", ["none", "steps", "channels"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_linear_model_equals_the_kalman_filter(function, full: bool, missing: str) -> None:
    problem = make_problem(batch=3, time=6, full=full, missing=missing)
    values = problem.parameters
    A, b, C = values["A"], values["b"], values["C"]
    out = function(
        problem.y, f=lambda x: A @ x + b, h=lambda x: C @ x,
        **{name: values[name] for name in ("Q", "R", "m0", "P0")}, mask=problem.mask,
    )  # fmt: skip
    linear = kalman_filter(problem.y, **values, mask=problem.mask)
    for name in (*FIELDS, "innovation_cov"):
        torch.testing.assert_close(getattr(out, name), getattr(linear, name), rtol=1e-10, atol=1e-10)
    assert torch.equal(out.status.steps_skipped, linear.status.steps_skipped)


def test_extended_filter_agrees_with_its_equations() -> None:
    out = extended_kalman_filter(Y, **MODEL)
    mean, cov = M0, P0
    for t, y in enumerate(Y):
        if t:
            F = np.array([[1.0, DT], [-9.81 * DT * np.cos(mean[0]), 1.0]])
            mean, cov = pendulum(mean), F @ cov @ F.T + Q
        H = np.array([[np.cos(mean[0]), 0.0]])
        S = H @ cov @ H.T + R
        K = cov @ H.T / S
        residual = y - height(mean)
        mean, cov = mean + K @ residual, cov - K @ S @ K.T
        np.testing.assert_allclose(out.filtered_mean[t], mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(out.filtered_cov[t], cov, rtol=1e-8, atol=1e-12)
        log_density = -0.5 * (residual @ residual / S[0, 0] + np.log(2 * np.pi * S[0, 0]))
        np.testing.assert_allclose(out.log_likelihood[t], log_density, rtol=1e-9)


def test_extended_filter_agrees_with_filterpy() -> None:
    filters = pytest.importorskip("filterpy.kalman", reason="filterpy is not installed: NOT compared with it")
    theirs = filters.ExtendedKalmanFilter(dim_x=2, dim_z=1)
    theirs.x, theirs.P, theirs.Q, theirs.R = M0.copy(), P0.copy(), Q, R
    theirs.predict_x = lambda u=0: setattr(theirs, "x", pendulum(theirs.x))
    out = extended_kalman_filter(Y, **MODEL)
    for t, y in enumerate(Y):
        if t:
            theirs.F = np.array([[1.0, DT], [-9.81 * DT * np.cos(theirs.x[0]), 1.0]])
            theirs.predict()
        theirs.update(y, lambda x: np.array([[np.cos(x[0]), 0.0]]), height)
        np.testing.assert_allclose(out.filtered_mean[t], theirs.x, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(out.filtered_cov[t], theirs.P, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.5, "beta": 2.0, "kappa": 1.0}])
def test_unscented_filter_agrees_with_filterpy(settings: dict[str, float]) -> None:
    filters = pytest.importorskip("filterpy.kalman", reason="filterpy is not installed: NOT compared with it")
    points = filters.MerweScaledSigmaPoints(2, **{"alpha": 1.0, "beta": 2.0, "kappa": 0.0, **settings})
    theirs = filters.UnscentedKalmanFilter(
        dim_x=2, dim_z=1, dt=DT, hx=height, fx=lambda x, dt: pendulum(x), points=points
    )
    theirs.x, theirs.P, theirs.Q, theirs.R = M0.copy(), P0.copy(), Q, R
    # filterpy begins with a prediction, so ours starts at its predicted moments.
    theirs.predict()
    out = unscented_kalman_filter(Y, **{**MODEL, "m0": theirs.x.copy(), "P0": theirs.P.copy()}, **settings)
    for t, y in enumerate(Y):
        if t:
            theirs.predict()
        theirs.update(y)
        np.testing.assert_allclose(out.filtered_mean[t], theirs.x, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(out.filtered_cov[t], theirs.P, rtol=1e-7, atol=1e-10)


def test_unscented_moments_of_a_square_are_exact() -> None:
    """x ~ N(m, s²): x² has mean m² + s² and variance 4 m² s² + 2 s⁴; sigma points with n + kappa = 3 give both."""
    m, s = 0.7, 0.4
    out = unscented_kalman_filter(
        np.zeros((2, 1)), f=lambda x: x**2, h=lambda x: x, Q=np.array([0.1]), R=np.array([1e9]),
        m0=np.array([m]), P0=np.array([s**2]), alpha=1.0, beta=0.0, kappa=2.0,
    )  # fmt: skip
    np.testing.assert_allclose(out.predicted_mean[1, 0], m**2 + s**2, rtol=1e-6)
    np.testing.assert_allclose(out.predicted_cov[1, 0, 0], 4 * m**2 * s**2 + 2 * s**4 + 0.1, rtol=1e-6)


@BOTH
def test_missing_values_are_ignored(function) -> None:
    mask = RNG.random(Y.shape) < 0.6
    values = np.where(mask, Y, np.nan)
    other = np.where(mask, Y, 7.0)
    first, second = (function(y, **MODEL, mask=mask) for y in (values, other))
    np.testing.assert_array_equal(first.filtered_mean, second.filtered_mean)
    np.testing.assert_array_equal(first.log_likelihood[~mask[:, 0]], 0)
    np.testing.assert_array_equal(first.filtered_mean[~mask[:, 0]], first.predicted_mean[~mask[:, 0]])
    assert innovation_diagnostics(first, lags=2).nis_mean > 0


@BOTH
def test_single_precision(function) -> None:
    single = {
        name: value.astype(np.float32) if isinstance(value, np.ndarray) else value for name, value in MODEL.items()
    }
    out = function(Y.astype(np.float32), **single)
    assert out.filtered_mean.dtype == out.filtered_cov.dtype == out.gain.dtype == np.float32
    np.testing.assert_allclose(out.filtered_mean, function(Y, **MODEL).filtered_mean, atol=1e-4)


@BOTH
def test_gradcheck(function) -> None:
    y = torch.tensor(Y[None, :4])

    def total(log_q, log_r, gravity):
        def step(x):
            return torch.stack([x[0] + DT * x[1], x[1] - gravity * DT * torch.sin(x[0])])

        return function(
            y, f=step, h=height, Q=log_q.exp(), R=log_r.exp(), m0=torch.tensor(M0), P0=torch.tensor(P0)
        ).log_likelihood.sum()

    start = torch.tensor([-6.0, -4.0]), torch.tensor([-3.0]), torch.tensor(9.81)
    assert torch.autograd.gradcheck(total, [value.double().requires_grad_() for value in start])


@BOTH
def test_sequences_of_a_batch_do_not_mix(function) -> None:
    y = torch.tensor(np.stack([Y, Y[::-1].copy(), -Y]))
    model = {name: torch.tensor(value) if isinstance(value, np.ndarray) else value for name, value in MODEL.items()}
    together = function(y, **model)
    for n in range(3):
        torch.testing.assert_close(together.filtered_mean[n], function(y[n], **model).filtered_mean)


WRONG = {
    "f not callable": ({"f": 3}, "f: expected a function"),
    "f fails": ({"f": lambda x: x @ x @ x}, "f: cannot be evaluated for a state of shape"),
    "f size": ({"f": lambda x: x[:1]}, r"f: must return a tensor \(2,\)"),
    "f number": ({"f": lambda x: 1.0}, r"f: must return a tensor \(2,\)"),
    "h size": ({"h": lambda x: x}, r"h: must return a tensor \(1,\)"),
    "h not finite": ({"h": lambda x: x[:1] / 0}, "not positive definite|NaN|overflow|not finite"),
    "m0 axes": ({"m0": np.zeros((1, 2, 2))}, "m0: expected"),
    "Q size": ({"Q": np.ones(3)}, "Q: expected"),
    "R negative": ({"R": -np.ones(1)}, "R"),
}


@BOTH
@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_refused(function, case: str) -> None:
    given, message = WRONG[case]
    assert_refused(lambda: function(Y, **{**MODEL, **given}), match=message)


@pytest.mark.parametrize(("settings", "message"), [({"alpha": 0}, "alpha"), ({"kappa": -2.0}, "kappa: is -2.0")])
def test_wrong_sigma_points_are_refused(settings: dict[str, float], message: str) -> None:
    assert_refused(lambda: unscented_kalman_filter(Y, **MODEL, **settings), match=message)
