from __future__ import annotations

import pytest
import torch
from dense_joint import make_problem
from torch.autograd import forward_ad

from kalmanssl.kalman import kalman_filter, kalman_smoother
from kalmanssl.kalman.backends import BACKENDS

NAMES = ("y", "A", "b", "Q", "C", "R", "m0", "P0")
SMALL = {"batch": 2, "time": 3, "state": 2, "obs": 2}


def symmetric(name, value):
    """Symmetrize full covariances, so that they stay symmetric while single entries are varied."""
    return 0.5 * (value + value.mT) if name in ("Q", "R", "P0") and value.shape[-2:] == (2, 2) else value


def small_problem(**settings):
    problem = make_problem(**SMALL, **settings)
    y = torch.nan_to_num(problem.y, nan=0.3)
    return {"y": y, **problem.parameters}, problem.mask


def outputs(function, values, mask, **more):
    values = {name: symmetric(name, value) for name, value in values.items()}
    out = function(values.pop("y"), **values, mask=mask, **more)
    found = out.tensors()
    return tuple(value for value in found.values() if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("missing", ["none", "channels"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "both"])
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_all_outputs_by_finite_differences(name, varies, full, missing):
    values, mask = small_problem(varies=varies, full=full, missing=missing, seed=1)

    def of_one(value):
        return outputs(kalman_filter, {**values, name: value}, mask)

    assert torch.autograd.gradcheck(of_one, values[name].clone().requires_grad_())


@pytest.mark.parametrize("missing", ["none", "steps", "shared"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both", "mixed"])
def test_adjoint_and_autograd_agree_on_a_longer_problem(varies, full, missing):
    # More matrices, counted over the batch, than one chunk of the backward pass.
    problem = make_problem(varies=varies, full=full, missing=missing, batch=9, time=70, state=3, obs=2)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    gradients = []
    for implementation in BACKENDS:
        values = {"y": problem.y, **problem.parameters}
        values = {name: value.clone().requires_grad_() for name, value in values.items()}
        y, *parameters = values.values()
        out = kalman_filter(
            y,
            **dict(zip(problem.parameters, parameters, strict=True)),
            mask=problem.mask,
            implementation=implementation,
        )
        loss = (out.log_likelihood * torch.linspace(1, 2, 70)).sum() + out.filtered_mean[:, 30].square().sum()
        gradients.append(torch.autograd.grad(loss, list(values.values())))
    *others, expected = gradients
    for mine in others:
        for name, value, plain in zip(values, mine, expected, strict=True):
            if (full and name in ("Q", "R")) or (name == "P0" and plain.ndim == 3):
                plain = 0.5 * (plain + plain.mT)
            torch.testing.assert_close(value, plain, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("quantity", ["predicted_mean", "predicted_cov", "filtered_mean", "filtered_cov", "gain"])
def test_gradients_of_a_single_output_agree_with_the_reference(quantity):
    """Outputs that the loss does not use have no incoming gradient; each has its own branch in the code."""
    values, _ = small_problem(varies="both")
    inputs = [value.requires_grad_() for value in values.values()]
    results = []
    for implementation in BACKENDS:
        parameters = dict(zip(values, inputs, strict=True))
        out = kalman_filter(parameters.pop("y"), **parameters, implementation=implementation)
        loss = getattr(out, quantity).square().sum()
        results.append(torch.autograd.grad(loss, inputs, materialize_grads=True))
    *others, expected = results
    for mine in others:
        for name, value, plain in zip(values, mine, expected, strict=True):
            torch.testing.assert_close(value, 0.5 * (plain + plain.mT) if name == "P0" else plain)


def test_only_tensors_that_require_a_gradient_get_one():
    values, _ = small_problem(varies="none")
    y = values.pop("y").requires_grad_()
    kalman_filter(y, **values).log_likelihood.sum().backward()
    assert y.grad is not None
    assert all(value.grad is None for value in values.values())


@pytest.mark.parametrize("function", [kalman_filter, kalman_smoother])
def test_gradients_are_finite_with_nan_under_the_mask(function):
    problem = make_problem(varies="both", missing="channels")
    values = {"y": problem.y, **problem.parameters}
    assert torch.isnan(problem.y).any()
    inputs = [value.requires_grad_() for value in values.values()]
    total = sum(out.sum() for out in outputs(function, values, problem.mask))
    for gradient in torch.autograd.grad(total, inputs):
        assert torch.isfinite(gradient).all()


def test_the_first_step_of_the_transition_has_no_gradient():
    values, _ = small_problem(varies="both")
    for name in ("A", "b", "Q"):
        values[name].requires_grad_()
    y = values.pop("y")
    kalman_filter(y, **values).log_likelihood.sum().backward()
    for name in ("A", "b", "Q"):
        assert not values[name].grad[:, 0].any()
        assert values[name].grad[:, 1].any()


@pytest.mark.parametrize("varies", ["none", "both"])
@pytest.mark.parametrize("implementation", ["auto", "adjoint", "scan"])
def test_second_derivatives_come_from_the_reference_and_raise_elsewhere(implementation, varies):
    values, _ = small_problem(varies=varies)
    y = values.pop("y")[:, :2]
    values = {k: v[:, :2] if v.ndim > 2 and k != "P0" else v for k, v in values.items()}

    def loss(C, implementation):
        return kalman_filter(y, **{**values, "C": C}, implementation=implementation).log_likelihood.sum()

    C = values["C"].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda C: loss(C, "reference"), C)
    (first,) = torch.autograd.grad(loss(C, implementation), C, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        first.sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_the_smoother_by_finite_differences(name):
    values, mask = small_problem(varies="mixed", full=True, missing="channels", seed=2)

    def of_one(value):
        return outputs(kalman_smoother, {**values, name: value}, mask)

    assert torch.autograd.gradcheck(of_one, values[name].clone().requires_grad_())


@pytest.mark.parametrize("varies", ["none", "both"])
def test_derivatives_that_are_carried_forward_are_refused_and_not_lost(varies):
    problem = make_problem(varies=varies)
    with forward_ad.dual_level():
        y = forward_ad.make_dual(problem.y, torch.ones_like(problem.y))
        with pytest.raises(NotImplementedError, match="jvp"):
            kalman_filter(y, **problem.parameters)
