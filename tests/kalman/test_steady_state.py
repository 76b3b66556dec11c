from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from kalmanssl.errors import InputError
from kalmanssl.kalman import kalman_filter, steady_state


def model(seed=0, state=4, obs=2, radius=0.95, full=True):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(state, state))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    factors = rng.normal(size=(state, state)), rng.normal(size=(obs, obs))
    Q, R = (f @ f.T + 0.1 * np.eye(len(f)) if full else np.exp(rng.normal(size=len(f))) for f in factors)
    values = {"A": A, "Q": Q, "C": rng.normal(size=(obs, state)), "R": R}
    return {name: torch.as_tensor(value) for name, value in values.items()}


def in_full(values):
    return {k: (torch.diag(v) if v.ndim == 1 else v).double().numpy() for k, v in values.items()}


def check_against_scipy(values, rtol=1e-9):
    found, p = steady_state(**values), in_full(values)
    P = scipy.linalg.solve_discrete_are(p["A"].T, p["C"].T, p["Q"], p["R"])
    S = p["C"] @ P @ p["C"].T + p["R"]
    K = P @ p["C"].T @ np.linalg.inv(S)
    keep = np.eye(len(P)) - K @ p["C"]
    expected = {"predicted_cov": P, "filtered_cov": keep @ P, "gain": K, "innovation_cov": S}
    expected["closed_loop"] = keep @ p["A"]
    for name, value in expected.items():
        np.testing.assert_allclose(
            getattr(found, name), value, rtol=rtol, atol=rtol * max(np.abs(value).max(), 1e-3), err_msg=name
        )
    radius = np.abs(np.linalg.eigvals(expected["closed_loop"])).max()
    assert found.spectral_radius == pytest.approx(radius, rel=max(1e-6, rtol))
    assert found.spectral_radius < 1
    return found


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("radius", [0.3, 0.95, 1.0, 1.5])
@pytest.mark.parametrize(("state", "obs"), [(1, 1), (4, 2), (3, 5), (12, 3)])
def test_agrees_with_scipy(state, obs, radius, full):
    found = check_against_scipy(model(state=state, obs=obs, radius=radius, full=full))
    for name in ("predicted_cov", "filtered_cov", "innovation_cov"):
        cov = getattr(found, name)
        torch.testing.assert_close(cov, cov.mT, rtol=0, atol=0)
        assert torch.linalg.eigvalsh(cov).min() > 0


@pytest.mark.parametrize("noise", [1e-8, 1e8])
def test_agrees_with_scipy_for_noises_of_very_different_size(noise):
    values = model(full=False)
    check_against_scipy({**values, "R": noise * values["R"]}, rtol=1e-6)


def test_the_filter_converges_to_the_steady_state():
    values = model(radius=1.02)
    found = steady_state(**values)
    out = kalman_filter(torch.zeros(1, 300, 2, dtype=torch.float64), **values)
    for name in ("predicted_cov", "filtered_cov", "gain", "innovation_cov"):
        torch.testing.assert_close(getattr(out, name)[0, -1], getattr(found, name), rtol=1e-9, atol=1e-9)
    means = out.filtered_mean[0]
    torch.testing.assert_close(means[-1], found.closed_loop @ means[-2])


def test_an_unstable_mode_without_process_noise_has_a_stable_filter():
    """Of the two solutions of the Riccati equation, the stabilizing one is returned, not a variance of 0."""
    A, one = torch.tensor([[1.3]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    found = steady_state(A=A, Q=0 * one[0], C=one, R=one[0])
    assert found.predicted_cov.item() == pytest.approx(1.3**2 - 1, rel=1e-10)
    values = model(radius=0.8)
    values["A"] = torch.block_diag(values["A"], A, 1.3 * A)
    values["Q"] = torch.block_diag(values["Q"], torch.zeros(2, 2))
    values["C"] = torch.cat([values["C"], torch.tensor([[1.0, 0.5], [0.2, -1.0]], dtype=torch.float64)], 1)
    check_against_scipy(values, rtol=1e-8)


def test_a_singular_observation_noise():
    """One channel has no noise; the filter is the reference, because scipy needs a regular R."""
    values = {**model(full=False), "R": torch.tensor([0.0, 0.3], dtype=torch.float64)}
    found = steady_state(**values)
    out = kalman_filter(torch.zeros(1, 300, 2, dtype=torch.float64), **values)
    torch.testing.assert_close(out.predicted_cov[0, -1], found.predicted_cov)
    torch.testing.assert_close(out.gain[0, -1], found.gain)


def test_float32_results_are_rounded_float64_results():
    values = {name: value.float() for name, value in model(full=False).items()}
    found = check_against_scipy(values, rtol=1e-6)
    assert {getattr(found, name).dtype for name in ("predicted_cov", "gain", "closed_loop")} == {torch.float32}


@pytest.mark.parametrize("radius", [0.9, 1.3])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_gradcheck(full, radius):
    values = model(state=3, radius=radius, full=full)

    def function(A, q, C, r):
        Q, R = (f @ f.mT + torch.eye(len(f)) if full else f.exp() for f in (q, r))
        found = steady_state(A=A, Q=Q, C=C, R=R)
        return found.predicted_cov, found.filtered_cov, found.gain, found.innovation_cov, found.closed_loop

    inputs = tuple(value.clone().requires_grad_() for value in values.values())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(lambda *p: function(*p)[2], inputs)


def test_derivative_for_an_unstable_mode_without_process_noise():
    A = torch.tensor([[1.3]], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    steady_state(A=A, Q=0 * one[0], C=one, R=one[0]).predicted_cov.sum().backward()
    assert A.grad.item() == pytest.approx(2.6, rel=1e-9)


NO_STEADY_STATE = {
    "unseen": (
        {"A": [1.2, 0.5], "Q": [1.0, 1.0], "C": [0.0, 1.0]},
        r"C does not observe .* eigenvalue 1.2, which does",
    ),
    "walk": ({"A": [0.5, 1.0], "Q": [1.0, 1.0], "C": [1.0, 0.0]}, r"no steady state, .* eigenvalue 1, which does not"),
    "unseen, undriven": ({"A": [1.2, 0.5], "Q": [0.0, 1.0], "C": [0.0, 1.0]}, r"C does not observe .* eigenvalue 1.2"),
    "constant": (
        {"A": [1.0, 0.5], "Q": [0.0, 1.0], "C": [1.0, 1.0]},
        r"A, Q: the filter reaches no steady state, .* is not driven by noise and its variance keeps falling",
    ),
}


@pytest.mark.parametrize(("values", "message"), NO_STEADY_STATE.values(), ids=NO_STEADY_STATE)
def test_models_without_a_steady_state_raise(values, message):
    A, Q, C = (torch.tensor(values[name], dtype=torch.float64) for name in "AQC")
    with pytest.raises(InputError, match=message) as raised:
        steady_state(A=torch.diag(A), Q=Q, C=C[None], R=torch.ones(1, dtype=torch.float64))
    assert "\n" not in str(raised.value)


def test_complex_eigenvalues_are_named():
    rotation = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    A = torch.block_diag(rotation, torch.tensor([[0.5]], dtype=torch.float64))
    one = torch.ones(3, dtype=torch.float64)
    with pytest.raises(InputError, match=r"eigenvalue 0.6[+-]0.8i, which does not decay"):
        steady_state(A=A, Q=one, C=torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64), R=one[:1])


def test_wrong_shapes_are_named():
    values = model()
    with pytest.raises(InputError, match=r"R: expected no batch or time axis, got \(1, 1, 2, 2\); pass R\[0, 0\]"):
        steady_state(**{**values, "R": values["R"][None, None]})
    with pytest.raises(InputError, match=r"C: expected .* with state = 4 from A, got \(4, 2\); given: A \(4, 4\)"):
        steady_state(**{**values, "C": values["C"].mT})
