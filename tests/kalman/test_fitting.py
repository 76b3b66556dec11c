from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from dense_joint import Joint, Problem, make_problem

from kalmanssl.kalman import LinearGaussianSSM, NotPositiveDefiniteError, steady_state

NAMES = ("A", "Q", "C", "R", "b", "m0", "P0")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def true_model(state=2, obs=3, full=False):
    """A slowly decaying rotation, seen in all channels."""
    rng = np.random.default_rng(5)
    A = 0.92 * np.linalg.qr(rng.normal(size=(state, state)))[0]
    C = rng.normal(size=(obs, state))
    factor = rng.normal(size=(obs, obs))
    R = 0.3 * factor @ factor.T + 0.2 * np.eye(obs) if full else np.exp(rng.normal(size=obs) - 1)
    values = {"A": A, "Q": np.full(state, 0.3), "C": C, "R": R, "b": 0.2 * rng.normal(size=state)}
    return LinearGaussianSSM(**{name: torch.as_tensor(value) for name, value in values.items()})


def start(full=False, seed=0, state=2, obs=3):
    model = LinearGaussianSSM.random(state, obs, generator=generator(seed), dtype=torch.float64)
    return (
        model.replace(Q=torch.diag(model.Q), R=torch.diag(model.R))
        if full
        else model.replace(P0=torch.ones(state).double())
    )


def make_mask(kind, y, seed=0):
    batch, time, obs = y.shape
    if kind == "none":
        return None
    if kind == "ends":
        return torch.arange(time) < torch.randint(1, time + 1, (batch, 1), generator=generator(seed))
    if kind == "unseen":
        mask = torch.ones(y.shape, dtype=torch.bool)
        mask[..., 0], mask[0] = False, False
        return mask
    shape = {"steps": (batch, time), "channels": y.shape, "shared": (1, time, obs)}[kind]
    return (torch.rand(shape, generator=generator(seed)) < 0.6).expand(batch, *shape[1:])


MASKS = ["none", "steps", "channels", "shared", "ends", "unseen"]


def rises(history):
    """No step lowers the log-likelihood by more than rounding explains."""
    return bool((history.diff() >= -1e-9 * history[:-1].abs()).all())


@pytest.mark.parametrize("missing", MASKS)
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("seed", range(4))
def test_em_never_lowers_the_log_likelihood(seed, full, missing):
    y = true_model(full=full).sample(4, 25, generator=generator(seed)).observations
    mask = make_mask(missing, y, seed)
    fit = start(full, seed).fit_em(y, mask=mask, max_iterations=40, tolerance=1e-12)
    assert fit.n_iterations > 10
    assert rises(fit.log_likelihood)
    assert fit.log_likelihood[-1] > fit.log_likelihood[0] + 1
    expected = fit.model.log_likelihood(y, mask=mask).sum()
    torch.testing.assert_close(fit.log_likelihood[-1], expected, rtol=1e-10, atol=0)


FIXED = ["C", "A b", "b", "A", "Q R", "m0 P0", "C R", "A b Q", "m0", "P0 A"]


@pytest.mark.parametrize("method", ["fit_em", "fit_gradient"])
@pytest.mark.parametrize("fixed", FIXED)
def test_fixed_parameters_keep_their_values_and_all_others_change(fixed, method):
    fixed = fixed.split()
    y = true_model(full=True).sample(3, 20, generator=generator()).observations
    mask, model = make_mask("channels", y), start(full=True)
    fit = getattr(model, method)(y, mask=mask, fixed=fixed, max_iterations=10)
    for name in NAMES:
        assert torch.equal(getattr(fit.model, name), getattr(model, name)) == (name in fixed), name
    assert rises(fit.log_likelihood)
    assert fit.log_likelihood[-1] > fit.log_likelihood[0]


@pytest.mark.parametrize("missing", ["none", "channels", "ends"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_em_and_gradient_reach_the_same_optimum(full, missing):
    """With C fixed the state is identified, so that the parameters themselves agree."""
    truth = true_model(full=full)
    y = truth.sample(8, 50, generator=generator(1)).observations
    mask, model = make_mask(missing, y), start(full, 1).replace(C=truth.C)
    fixed = ("C", "m0", "P0")
    by_em = model.fit_em(y, mask=mask, fixed=fixed, max_iterations=2000, tolerance=1e-9)
    by_gradient = model.fit_gradient(y, mask=mask, fixed=fixed, tolerance=1e-12)
    assert by_em.converged
    assert by_gradient.converged
    torch.testing.assert_close(by_em.log_likelihood[-1], by_gradient.log_likelihood[-1], rtol=1e-6, atol=0)
    for name in ("A", "Q", "R", "b"):
        torch.testing.assert_close(
            getattr(by_em.model, name), getattr(by_gradient.model, name), rtol=0.01, atol=0.01, msg=name
        )


@pytest.mark.parametrize("missing", ["none", "channels", "ends"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_the_optimum_found_by_gradient_is_a_fixed_point_of_em(full, missing):
    y = true_model(full=full).sample(10, 80, generator=generator(1)).observations
    mask, fixed = make_mask(missing, y), ("m0", "P0")
    best = start(full, 1).fit_gradient(y, mask=mask, fixed=fixed, max_iterations=3000, tolerance=1e-13)
    again = best.model.fit_em(y, mask=mask, fixed=fixed, max_iterations=1, tolerance=1e-13)
    torch.testing.assert_close(again.log_likelihood[0], best.log_likelihood[-1], rtol=1e-10, atol=0)
    torch.testing.assert_close(again.log_likelihood[1], best.log_likelihood[-1], rtol=1e-8, atol=0)
    for name in ("A", "Q", "C", "R", "b"):
        found = getattr(again.model, name), getattr(best.model, name)
        torch.testing.assert_close(*found, rtol=2e-3, atol=2e-3, msg=name)


def test_the_optimum_of_a_small_problem_is_that_of_the_dense_gaussian():
    """Scipy maximizes the joint density of a scalar model without any filter; masks and all but C and P0 learned."""
    truth = LinearGaussianSSM(
        **{n: torch.tensor([[v]]).double() for n, v in {"A": 0.8, "Q": 0.5, "C": 1.0, "R": 0.3}.items()}
    )
    y = truth.sample(3, 12, generator=generator(4)).observations + 0.4
    mask = torch.rand(3, 12, generator=generator(5)) < 0.8
    y[~mask] = float("nan")
    fixed = {"C": torch.ones(1, 1).double(), "P0": torch.ones(1).double()}

    def parameters(x):
        A, b, log_Q, log_R, m0 = (torch.tensor([value]).double() for value in x)
        return {"A": A[None], "b": b, "Q": log_Q.exp(), "R": log_R.exp(), "m0": m0, **fixed}

    def loss(x):
        joints = [Joint(Problem(y, parameters(x), mask), n) for n in range(3)]
        return -sum(joint._log_density(12) for joint in joints)

    x0 = np.array([0.5, 0.0, 0.0, 0.0, 0.0])
    best = min(
        scipy.optimize.minimize(loss, x0, method=m, options={"maxiter": 4000}).fun for m in ("BFGS", "Nelder-Mead")
    )
    model = LinearGaussianSSM(**parameters(x0))
    by_em = model.fit_em(y, mask=mask, fixed=("C", "P0"), max_iterations=20_000, tolerance=1e-11)
    by_gradient = model.fit_gradient(y, mask=mask, fixed=("C", "P0"), tolerance=1e-12)
    for fit in (by_em, by_gradient):
        assert float(fit.log_likelihood[-1]) == pytest.approx(-best, abs=1e-4)
    for name in ("A", "b", "Q", "R", "m0"):
        torch.testing.assert_close(getattr(by_em.model, name), getattr(by_gradient.model, name), rtol=0.02, atol=2e-3)


def test_one_iteration_of_em_from_moments_of_the_joint_gaussian():
    """The textbook's M-step, with moments by conditioning one big Gaussian."""
    problem = make_problem(full=True, time=5, batch=3)
    problem.parameters["P0"] = torch.diag(problem.parameters["P0"])
    lagged = square_before = square_after = 0.0
    sum_before = sum_after = np.zeros(3)
    moments = []
    for n in range(3):
        mean, cov = Joint(problem, n).states_given(5)
        blocks = cov.reshape(5, 3, 5, 3).transpose(0, 2, 1, 3) + np.einsum("si,tj->stij", mean, mean)
        moments.append((mean, blocks))
        lagged = lagged + sum(blocks[t, t - 1] for t in range(1, 5))
        square_before = square_before + sum(blocks[t, t] for t in range(4))
        square_after = square_after + sum(blocks[t, t] for t in range(1, 5))
        sum_before, sum_after = sum_before + mean[:-1].sum(0), sum_after + mean[1:].sum(0)
    count = 3 * 4
    inner = np.block([[square_before, sum_before[:, None]], [sum_before[None], np.full((1, 1), count)]])
    outer = np.concatenate([lagged, sum_after[:, None]], 1)
    slope = outer @ np.linalg.inv(inner)
    Q = (square_after - slope @ outer.T) / count
    y = problem.y.numpy()
    states = sum(blocks[t, t] for _, blocks in moments for t in range(5))
    cross = sum(np.outer(y[n, t], moments[n][0][t]) for n in range(3) for t in range(5))
    C = cross @ np.linalg.inv(states)
    R = (np.einsum("nti,ntj->ij", y, y) - C @ cross.T) / 15
    m0 = np.mean([mean[0] for mean, _ in moments], 0)
    P0 = np.mean([blocks[0, 0] for _, blocks in moments], 0) - np.outer(m0, m0)
    expected = {"A": slope[:, :3], "b": slope[:, 3], "Q": Q, "C": C, "R": R, "m0": m0, "P0": P0}
    fit = LinearGaussianSSM(**problem.parameters).fit_em(problem.y, max_iterations=1)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(fit.model, name), value, rtol=1e-8, atol=1e-9, err_msg=name)


def test_the_length_of_the_padding_changes_nothing():
    y = true_model().sample(3, 30, generator=generator()).observations
    padded = torch.cat([y, torch.full((3, 20, 3), float("nan")).double()], 1)
    mask = torch.arange(30) < torch.tensor([30, 22, 9])[:, None]
    longer = torch.cat([mask, torch.zeros(3, 20, dtype=torch.bool)], 1)
    one, two = start().fit_em(y, mask=mask, max_iterations=20), start().fit_em(padded, mask=longer, max_iterations=20)
    torch.testing.assert_close(one.log_likelihood, two.log_likelihood, rtol=1e-9, atol=0)
    for name in NAMES:
        torch.testing.assert_close(getattr(one.model, name), getattr(two.model, name), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", ["fit_em", "fit_gradient"])
def test_a_fit_to_many_observations_recovers_the_model(method):
    truth = true_model()
    drawn = truth.sample(40, 200, generator=generator(2)).observations
    train, test = drawn[:30], drawn[30:]
    fit = getattr(start(seed=3), method)(train, max_iterations=1500)
    # A model of 20 parameters fitted to 18 000 values gains about 10 nats on them over the true one.
    gain = float(fit.log_likelihood[-1] - truth.log_likelihood(train).sum())
    assert 0 < gain < 40
    assert float((fit.model.log_likelihood(test) - truth.log_likelihood(test)).sum()) > -40
    spectra = [np.sort_complex(torch.linalg.eigvals(m.A).numpy()) for m in (truth, fit.model)]
    np.testing.assert_allclose(*spectra, atol=0.03)
    covs = [steady_state(**{n: getattr(m, n) for n in "AQCR"}).innovation_cov for m in (truth, fit.model)]
    torch.testing.assert_close(*covs, rtol=0.05, atol=0.05)
    np.testing.assert_allclose(fit.model.R, truth.R, rtol=0.1)


@pytest.mark.parametrize("method", ["fit_em", "fit_gradient"])
def test_each_iteration_is_reported(method):
    y = true_model().sample(2, 20, generator=generator()).observations
    seen = []
    fit = getattr(start(), method)(y, max_iterations=5, on_iteration_end=lambda *found: seen.append(found))
    assert [i for i, _ in seen] == list(range(fit.n_iterations + 1))
    assert [value for _, value in seen] == fit.log_likelihood.tolist()
    assert fit.status == "max_iterations"
    assert not fit.converged


@pytest.mark.parametrize("method", ["fit_em", "fit_gradient"])
def test_data_type_and_form_of_the_parameters_are_kept(method):
    y = true_model().sample(2, 20, generator=generator()).observations.float()
    model = start().to(torch.float32).replace(A=0.9 * torch.eye(2)[None, None])
    fit = getattr(model, method)(y, max_iterations=3)
    for name, value in fit.model.to_dict().items():
        assert value.shape == getattr(model, name).shape
        assert value.dtype == torch.float32
        assert not value.requires_grad
    assert fit.log_likelihood.dtype == torch.float64


def test_gradient_fits_parameters_that_vary_over_time_and_sequences():
    problem = make_problem(varies="both", batch=3, time=6)
    model = LinearGaussianSSM(**problem.parameters)
    fit = model.fit_gradient(problem.y, fixed=("A", "C", "m0"), max_iterations=30)
    assert rises(fit.log_likelihood)
    assert fit.log_likelihood[-1] > fit.log_likelihood[0] + 1
    assert fit.model.R.shape == model.R.shape
    assert not torch.equal(fit.model.R[0, 1], fit.model.R[1, 2])


def test_em_stops_with_the_last_good_model(monkeypatch):
    y = true_model().sample(2, 20, generator=generator()).observations
    from kalmanssl.kalman import _em

    calls, smoother = [], _em.run_smoother

    def fails_at_fourth(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise NotPositiveDefiniteError("no")
        return smoother(*arguments)

    expected = start().fit_em(y, max_iterations=2, tolerance=1e-12)
    monkeypatch.setattr(_em, "run_smoother", fails_at_fourth)
    fit = start().fit_em(y, max_iterations=10, tolerance=1e-12)
    assert fit.status == "failed"
    torch.testing.assert_close(fit.log_likelihood, expected.log_likelihood)
    assert torch.equal(fit.model.A, expected.model.A)


@pytest.mark.parametrize("method", ["fit_em", "fit_gradient"])
def test_a_single_step_and_nothing_observed(method):
    y = true_model().sample(4, 1, generator=generator()).observations
    fit = getattr(start(), method)(y, max_iterations=3)
    assert rises(fit.log_likelihood)
    nothing = getattr(start(), method)(y, mask=torch.zeros(4, 1, dtype=torch.bool), max_iterations=3)
    assert nothing.log_likelihood.tolist() == [0.0] * len(nothing.log_likelihood)
    for name in NAMES:
        torch.testing.assert_close(getattr(nothing.model, name), getattr(start(), name))
