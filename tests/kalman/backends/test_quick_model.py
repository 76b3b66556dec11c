"""The quick check of the parameters of a model agrees with the general one, and leaves everything unusual to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dense_joint import make_problem

from kalmanssl.kalman import _validation
from kalmanssl.kalman._validation import check_model
from kalmanssl.kalman.backends._quick_model import quick_model
from kalmanssl.kalman.kernels import has_compiler

pytestmark = pytest.mark.skipif(not has_compiler(), reason="needs numba")

BATCH, TIME, STATE, OBS = 3, 5, 3, 2
NOTHING: dict[str, Any] = {"b": None, "m0": None, "P0": None, "obs": OBS}


def make(varies: str = "none", full: bool = False) -> tuple[torch.Tensor, dict[str, Any]]:
    problem = make_problem(varies=varies, full=full, batch=BATCH, time=TIME, state=STATE, obs=OBS)
    return problem.y, {**NOTHING, **problem.parameters}


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both", "mixed"])
@pytest.mark.parametrize("without", [(), ("b", "m0", "P0"), ("m0",), ("obs",)], ids=str)
def test_the_model_is_that_of_the_general_checks(varies, full, without, monkeypatch):
    y, arguments = make(varies, full)
    arguments |= dict.fromkeys(without)
    found = quick_model(y, BATCH, TIME, **arguments)
    assert found is not None
    monkeypatch.setattr(_validation, "quick_model", lambda *_, **__: None)
    for name, expected in check_model(y, BATCH, TIME, **arguments).tensors().items():
        value = getattr(found, name)
        assert value.shape == expected.shape
        assert value.dtype == expected.dtype
        assert torch.equal(value, expected), name


def test_gradients_reach_the_parameters():
    y, arguments = make(full=True)
    leaves = {name: arguments[name].clone().requires_grad_() for name in ("A", "Q", "C", "R", "b", "m0", "P0")}
    model = quick_model(y, BATCH, TIME, obs=OBS, **leaves)
    factors = dict(zip(model.tensors(), range(1, 8), strict=True))
    total = sum((factors[name] * value).sum() for name, value in model.tensors().items())
    for name, gradient in zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True):
        assert torch.equal(gradient, torch.full_like(gradient, factors[name])), name


WRONG = {
    **{f"{name} nan": (name, float("nan")) for name in ("A", "b", "Q", "C", "R", "m0", "P0")},
    **{f"{name} infinity": (name, float("inf")) for name in ("A", "b", "Q", "C", "R", "m0", "P0")},
    **{f"{name} negative": (name, -1.0) for name in ("Q", "R", "P0")},
}


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "both"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_values_are_left_to_the_general_checks(wrong, varies, full):
    name, number = WRONG[wrong]
    y, arguments = make(varies, full)
    changed = arguments[name].clone()
    changed.view(-1)[-1] = number
    assert quick_model(y, BATCH, TIME, **{**arguments, name: changed}) is None


@pytest.mark.parametrize("name", ["A", "b", "Q", "C", "R", "m0", "P0"])
def test_wrong_shapes_and_types_are_left_to_the_general_checks(name):
    y, arguments = make()
    value = arguments[name]
    for wrong in (value[..., :1], value[None], value.float(), value.numpy(), value.tolist(), value.to("meta"), "text"):
        assert quick_model(y, BATCH, TIME, **{**arguments, name: wrong}) is None, wrong


def test_a_vector_of_every_second_entry_is_accepted():
    y, arguments = make()
    strided = {name: arguments[name].repeat_interleave(2, -1)[..., ::2] for name in ("b", "Q", "R", "m0", "P0")}
    assert quick_model(y, BATCH, TIME, **arguments | strided) is not None
