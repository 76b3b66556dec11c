"""The parameters of a model in the form that all backends use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_joint import make_problem

from kalmanssl.kalman import LinearGaussianSSM
from kalmanssl.kalman._model import Model


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both"])
def test_tensors_and_arrays_are_the_parameters_with_all_axes(varies, full):
    problem = make_problem(varies=varies, full=full)
    model = Model(**problem.parameters)
    expected = problem.written_out()
    for name, value in model.tensors().items():
        wanted = expected[name]
        value = torch.diag_embed(value) if name in "QR" and value.ndim == 3 else value
        np.testing.assert_array_equal(np.broadcast_to(value.numpy(), wanted.shape), wanted, err_msg=name)
        np.testing.assert_array_equal(getattr(model.arrays, name), model.tensors()[name].numpy(), err_msg=name)


def test_without_offset_and_start_these_are_zero_and_standard_normal():
    given = make_problem().parameters
    model = Model(**{name: given[name] for name in "AQCR"})
    assert torch.equal(model.b, torch.zeros(1, 1, 3).double())
    assert torch.equal(model.m0, torch.zeros(1, 3).double())
    assert torch.equal(model.P0, torch.eye(3).double()[None])


def test_a_use_without_gradients_does_not_take_them_from_later_uses():
    given = {name: value.requires_grad_() for name, value in make_problem().parameters.items()}
    model = LinearGaussianSSM(**given)
    y = make_problem().y
    with torch.no_grad():
        assert not model.filter(y).predicted_mean.requires_grad
    model.filter(y).predicted_mean.sum().backward()
    assert given["A"].grad.abs().min() > 0


def test_replace_changes_one_parameter():
    problem = make_problem()
    model = Model(**problem.parameters).replace(R=torch.ones(2).double())
    assert torch.equal(model.R, torch.ones(1, 1, 2).double())
    assert torch.equal(model.A[0, 0], problem.parameters["A"])
    np.testing.assert_array_equal(model.arrays.R, 1.0)
