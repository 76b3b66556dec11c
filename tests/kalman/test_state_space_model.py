from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from dense_joint import Joint, make_problem

from kalmanssl.errors import InputError
from kalmanssl.kalman import (
    LinearGaussianSSM,
    forecast,
    kalman_filter,
    kalman_smoother,
    sample_posterior,
    sample_prior,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ones(*shape):
    return torch.ones(shape, dtype=torch.float64)


@pytest.mark.parametrize("missing", ["none", "steps", "channels"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both", "mixed"])
def test_log_likelihood_is_that_of_the_joint_gaussian(varies, full, missing):
    problem = make_problem(varies=varies, full=full, missing=missing)
    found = LinearGaussianSSM(**problem.parameters).log_likelihood(problem.y, mask=problem.mask)
    time = problem.y.shape[1]
    expected = [sum(Joint(problem, n).log_likelihood(t) for t in range(time)) for n in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("varies", ["none", "both"])
def test_methods_return_the_same_as_the_functions(varies):
    problem = make_problem(varies=varies, missing="channels")
    y, mask, values = problem.y, problem.mask, problem.parameters
    model = LinearGaussianSSM(**values)
    for found, expected in (
        (model.filter(y, mask=mask), kalman_filter(y, **values, mask=mask)),
        (model.smooth(y, mask=mask), kalman_smoother(y, **values, mask=mask)),
    ):
        for name, value in expected.tensors().items():
            assert torch.equal(getattr(found, name), value), name
    drawn, expected = (model.sample(2, 6, generator=generator()), sample_prior(2, 6, **values, generator=generator()))
    assert torch.equal(drawn.observations, expected.observations)
    states = model.sample_posterior(y, 3, mask=mask, generator=generator(1))
    assert torch.equal(states, sample_posterior(y, 3, **values, mask=mask, generator=generator(1)))


def test_forecast_starts_at_the_last_filtered_state():
    problem = make_problem()
    model = LinearGaussianSSM(**problem.parameters)
    values = {name: value for name, value in problem.parameters.items() if name not in ("m0", "P0")}
    last = kalman_filter(problem.y, **problem.parameters)
    expected = forecast(last.filtered_mean[:, -1], last.filtered_cov[:, -1], 4, **values)
    for name, value in vars(model.forecast(problem.y, 4)).items():
        torch.testing.assert_close(value, getattr(expected, name))


def test_defaults_are_those_of_the_functions():
    problem = make_problem()
    values = {name: problem.parameters[name] for name in "AQCR"}
    model = LinearGaussianSSM(**values)
    assert torch.equal(model.b, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(model.P0, torch.eye(3, dtype=torch.float64))
    expected = kalman_filter(problem.y, **values).log_likelihood.sum(1)
    torch.testing.assert_close(model.log_likelihood(problem.y), expected)
    torch.testing.assert_close(LinearGaussianSSM(**model.to_dict()).log_likelihood(problem.y), expected)


def test_gradcheck_of_the_log_likelihood():
    problem = make_problem(time=4, state=2, obs=2, missing="channels", full=True)
    factors = {name: torch.linalg.cholesky(problem.parameters[name]) for name in "QR"}
    names = ("A", "b", "C", "m0", "P0")

    def log_likelihood(Q, R, *others):
        model = LinearGaussianSSM(Q=Q @ Q.mT, R=R @ R.mT, **dict(zip(names, others, strict=True)))
        return model.log_likelihood(problem.y, mask=problem.mask)

    inputs = (*factors.values(), *(problem.parameters[name] for name in names))
    assert torch.autograd.gradcheck(log_likelihood, tuple(v.clone().requires_grad_() for v in inputs))


def test_parameters_cannot_be_replaced_in_place():
    model = LinearGaussianSSM.random(2, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.A = torch.eye(2)
    changed = model.replace(R=torch.ones(3))
    assert torch.equal(changed.R, torch.ones(3))
    assert changed.A is model.A
    assert not torch.equal(model.R, changed.R)


def test_conversion_to_another_data_type():
    model = LinearGaussianSSM.random(2, 3, generator=generator()).to(torch.float64)
    assert {value.dtype for value in model.to_dict().values()} == {torch.float64}
    assert (model.state_dim, model.obs_dim) == (2, 3)


def test_a_random_model_is_stationary_and_depends_on_the_generator_only():
    model = LinearGaussianSSM.random(4, 6, generator=generator(3), dtype=torch.float64)
    variance = model.A @ model.P0 @ model.A.mT + torch.diag(model.Q)
    torch.testing.assert_close(variance, model.P0)
    assert torch.equal(model.C, LinearGaussianSSM.random(4, 6, generator=generator(3), dtype=torch.float64).C)
    assert not torch.equal(model.C, LinearGaussianSSM.random(4, 6, generator=generator(4), dtype=torch.float64).C)


CONSTRUCTION = {
    "A": ({"A": ones(3, 2)}, r"A: expected \(state, state\) or .* got \(3, 2\); given: A \(3, 2\), Q \(3,\)"),
    "Q": ({"Q": -ones(3)}, "Q: a variance is negative"),
    "C": ({"C": ones(3, 2)}, r"C: expected .* with state = 3 from A, got \(3, 2\)"),
    "R": ({"R": torch.ones(2)}, "R: expected torch.float64 on cpu as the data, got torch.float32"),
    "b": ({"b": ones(2, 3)}, r"b: expected \(3,\) or \(batch or 1, time or 1, 3\), got \(2, 3\)"),
    "m0": ({"m0": ones(2)}, r"m0: expected \(3,\)"),
    "P0": ({"P0": torch.eye(3, dtype=torch.float64) - 0.5}, "P0: a covariance is not positive"),
    "A of other length": (
        {"A": ones(1, 5, 3, 3), "Q": ones(1, 6, 3)},
        r"A: expected \(1, 1 or 6, 3, 3\) for 1 sequences of 6 steps",
    ),
    "A that is no tensor": ({"A": [[1.0]]}, "A: expected a torch.Tensor, got list"),
}


@pytest.mark.parametrize(("changes", "message"), CONSTRUCTION.values(), ids=CONSTRUCTION)
def test_a_wrong_parameter_is_named_when_the_model_is_made(changes, message):
    values = {"A": ones(3, 3), "Q": ones(3), "C": ones(2, 3), "R": ones(2), **changes}
    with pytest.raises(InputError, match=message) as raised:
        LinearGaussianSSM(**values)
    assert raised.value.parameter == next(iter(changes))


def test_observations_that_do_not_fit_the_model():
    problem = make_problem(varies="both")
    model = LinearGaussianSSM(**problem.parameters)
    for y, message in (
        (problem.y[..., :1], r"y: expected 2 channels, one for each row of C, got \(2, 6, 1\)"),
        (problem.y[:, :5], r"y: has 2 sequences of 5 steps, but A of the model has the shape \(2, 6, 3, 3\)"),
        (problem.y.float(), "y: expected torch.float64 on cpu as A of the model, got torch.float32"),
        (problem.y[0], r"y: expected \(batch, time, obs\)"),
    ):
        for method in (model.filter, model.smooth, model.log_likelihood, model.fit_gradient):
            with pytest.raises(InputError, match=message) as raised:
                method(y)
            assert raised.value.parameter == "y"


def test_a_forecast_of_a_model_that_varies_over_time_is_refused():
    problem = make_problem(varies="time")
    with pytest.raises(InputError, match="A: varies over time; call the function forecast with") as raised:
        LinearGaussianSSM(**problem.parameters).forecast(problem.y, 2)
    assert raised.value.parameter == "A"


@pytest.mark.parametrize("method", ["fit_em", "fit_gradient"])
def test_wrong_settings_of_a_fit_are_named(method):
    problem = make_problem()
    fit = getattr(LinearGaussianSSM(**problem.parameters), method)
    for arguments, message in (
        ({"fixed": "C"}, "fixed: expected a collection of names from A, Q, C, R, b, m0, P0, got 'C'"),
        ({"fixed": ("C", "d")}, "fixed: expected a collection of names"),
        ({"fixed": tuple(problem.parameters)}, "fixed: all parameters are fixed"),
        ({"max_iterations": 0}, "max_iterations must be a whole number, at least 1"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"mask": torch.ones(2, 5, dtype=torch.bool)}, "mask: expected"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            fit(problem.y, **arguments)
        assert raised.value.parameter == next(iter(arguments))


def test_parameters_that_cannot_be_fitted_are_named():
    varying = make_problem(varies="time")
    with pytest.raises(InputError, match=r"A: varies over sequences or time; .* constant parameters") as raised:
        LinearGaussianSSM(**varying.parameters).fit_em(varying.y)
    assert raised.value.parameter == "A"
    problem = make_problem()
    model = LinearGaussianSSM(**problem.parameters)
    for name, value in (("Q", 0 * ones(3)), ("P0", ones(3, 3))):
        with pytest.raises(InputError, match=f"{name}: a (variance is 0|covariance is singular)") as raised:
            model.replace(**{name: value}).fit_gradient(problem.y)
        assert raised.value.parameter == name
