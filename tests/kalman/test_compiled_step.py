"""The compiled step agrees with the general code, and leaves everything unusual to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dense_joint import make_problem
from torch import Tensor
from torch.autograd import forward_ad

from kalmanssl.kalman import StepResult, _filtering, kalman_step
from kalmanssl.kalman.backends import _compiled_step, compiled_step
from kalmanssl.kalman.kernels import has_compiler

pytestmark = pytest.mark.skipif(not has_compiler(), reason="needs numba")

MASKS = {
    "all": None,
    "channels": torch.tensor([[True, False], [False, False], [True, True]]),
    "steps": torch.tensor([True, False, True]),
}


def step_arguments(varies: str = "none", full: bool = False, dtype: torch.dtype = torch.float64, **sizes: int) -> Any:
    """Arguments of a step of three sequences, by name."""
    problem = make_problem(varies=varies, full=full, batch=3, time=1, **{"state": 3, "obs": 2, **sizes}, seed=2)
    values = {name: value for name, value in problem.parameters.items() if name not in ("m0", "P0")}
    state = sizes.get("state", 3)
    factor = torch.randn(3, state, state, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values |= {"y": problem.y[:, 0], "mean": factor[:, 0], "cov": factor @ factor.mT}
    return {name: value.to(dtype) for name, value in values.items()}


def general_step(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> StepResult:
    """The step by the general code, which the tests of steps compare with the joint Gaussian."""
    with monkeypatch.context() as patch:
        patch.setattr(_filtering, "compiled_step", lambda *_, **__: None)
        return kalman_step(**arguments)


def run_compiled(**arguments: Any) -> tuple[Tensor, ...] | None:
    return compiled_step(**{"b": None, "mask": None, "first": False, **arguments})


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "batch", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_all_results_equal_those_of_the_general_code(dtype, varies, full, mask, first, monkeypatch):
    arguments = step_arguments(varies, full, dtype) | {"mask": MASKS[mask], "first": first}
    if mask != "all":
        seen = MASKS[mask] if MASKS[mask].ndim == 2 else MASKS[mask][:, None]
        arguments["y"] = torch.where(seen, arguments["y"], float("nan"))
    found, expected = run_compiled(**arguments), general_step(monkeypatch, **arguments)
    assert found is not None
    tolerance = {"rtol": 1e-11, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for value, (name, wanted) in zip(found, vars(expected).items(), strict=True):
        torch.testing.assert_close(value, wanted, **tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("state", "obs"), [(1, 1), (2, 5), (8, 3), (17, 9), (64, 64)])
def test_states_and_observations_of_any_size(state, obs, monkeypatch):
    arguments = step_arguments(state=state, obs=obs)
    found, expected = run_compiled(**arguments), general_step(monkeypatch, **arguments)
    for value, wanted in zip(found, vars(expected).values(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-8, atol=1e-8)


LAYOUTS = {
    "transposed memory": lambda value: value.mT.contiguous().mT if value.ndim > 1 else value,
    "every second entry": lambda value: value.repeat_interleave(2, -1)[..., ::2],
    "parameter": lambda value: torch.nn.Parameter(value.clone()),
}


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "mixed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_of_any_memory_layout(layout, varies, full):
    arguments = step_arguments(varies, full)
    with torch.no_grad():
        found = run_compiled(**{name: LAYOUTS[layout](value) for name, value in arguments.items()})
    for value, wanted in zip(found, run_compiled(**arguments), strict=True):
        assert torch.equal(value, wanted)


def test_expanded_tensors():
    arguments = step_arguments()
    arguments["cov"] = arguments["cov"][:1].expand(3, 3, 3)
    expanded = {name: arguments[name].expand(3, 1, *arguments[name].shape) for name in ("A", "Q", "C", "R")}
    for value, wanted in zip(run_compiled(**arguments | expanded), run_compiled(**arguments), strict=True):
        assert torch.equal(value, wanted)


def test_a_parameter_that_is_changed_in_place_is_checked_again():
    arguments = step_arguments()
    assert run_compiled(**arguments) is not None
    arguments["Q"][0] = -1.0
    assert run_compiled(**arguments) is None


def set_last(value: Tensor, number: float) -> Tensor:
    changed = value.clone()
    changed.view(-1)[-1] = number
    return changed


WRONG: dict[str, Any] = {
    **{f"{name} nan": {name: float("nan")} for name in ("y", "mean", "cov", "A", "b", "Q", "C", "R")},
    **{f"{name} infinity": {name: float("inf")} for name in ("y", "mean", "cov", "A", "b", "Q", "C", "R")},
    "negative Q": {"Q": -1e-300},
    "negative R": {"R": -1e-300},
    "negative cov": {"cov": -1e-3},
    "means that overflow": {"mean": 1e308, "A": 1e10},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_values_are_left_to_the_general_code(wrong):
    arguments = step_arguments()
    for name, number in WRONG[wrong].items():
        arguments[name] = set_last(arguments[name], number)
    assert run_compiled(**arguments) is None


@pytest.mark.parametrize("name", ["cov", "Q", "R"])
@pytest.mark.parametrize("entries", [[1.0, 1.1, 1.1, 1.0], [1.0, 0.2, 0.1, 1.0], [0.0, 0.1, 0.1, 0.0]])
def test_matrices_that_are_not_covariances_are_left_to_the_general_code(name, entries):
    arguments = step_arguments(full=True, state=2)
    wrong = torch.tensor(entries, dtype=torch.float64).reshape(2, 2)
    arguments[name] = torch.stack([torch.eye(2, dtype=torch.float64)] * 2 + [wrong]) if name == "cov" else wrong
    assert run_compiled(**arguments) is None
    arguments[name] = torch.ones_like(arguments[name])
    assert run_compiled(**arguments) is not None


def test_gradients_other_types_and_machines_without_a_compiler_are_left_to_the_general_code(monkeypatch):
    arguments = step_arguments()
    assert run_compiled(**arguments | {"A": arguments["A"].clone().requires_grad_()}) is None
    assert run_compiled(**arguments | {"A": arguments["A"].float()}) is None
    assert run_compiled(**arguments | {"A": arguments["A"].numpy()}) is None
    assert run_compiled(**arguments | {"mask": torch.ones(3, 2)}) is None
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(arguments["A"], torch.ones_like(arguments["A"]))
        assert run_compiled(**arguments | {"A": dual}) is None
    monkeypatch.setattr(_compiled_step, "has_compiler", lambda: False)
    assert run_compiled(**arguments) is None
