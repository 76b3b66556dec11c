"""Gradients of the filter and the smoother for all pairs of data types, forms of the parameters, masks and outputs."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from refusals import assert_refused
from torch import Tensor

from kalmanssl.kalman import LinearGaussianSSM, kalman_filter, kalman_smoother, kalman_step, sample_posterior

SHAPES = [(3, 6, 2, 2), (1, 6, 2, 1), (1, 1, 2, 2), (3, 2, 1, 1), (3, 70, 2, 2), (9, 5, 3, 2), (2, 4, 17, 2)]
EXTENT = ["constant", "over time", "over the batch", "over both", "written out"]
FIELDS = {
    "likelihood": ("log_likelihood",),
    "means": ("filtered_mean", "innovation"),
    "covariances": ("filtered_cov", "predicted_cov"),
    "all": ("predicted_mean", "predicted_cov", "filtered_mean", "filtered_cov", "gain", "innovation", "innovation_cov"),
}
FACTORS: dict[str, list[Any]] = {
    "shape": SHAPES,
    "dtype": [torch.float32, torch.float64],
    "method": ["auto", "adjoint", "float64", "smoother", "posterior"],
    "fields": list(FIELDS),
    "mask": ["none", "steps", "channels", "shared", "one channel"],
    "wanted": ["all", "y", "A", "b", "Q", "C", "R", "m0", "P0"],
    **dict.fromkeys(("A", "b", "C"), EXTENT),
    **{name: [(extent, full) for extent in EXTENT for full in (False, True)] for name in ("Q", "R")},
    "m0": ["constant", "over the batch"],
    "P0": [("constant", False), ("constant", True), ("over the batch", True)],
}


def all_pairs() -> list[dict[str, Any]]:
    """Cases in which every pair of values of two factors occurs: the best of a few random cases, again and again."""
    rng = random.Random(0)
    levels = {name: range(len(values)) for name, values in FACTORS.items()}
    missing = {
        (one, i, other, j)
        for one, other in itertools.combinations(levels, 2)
        for i in levels[one]
        for j in levels[other]
    }

    def pairs(case: dict[str, int]) -> set[tuple[str, int, str, int]]:
        return {(one, case[one], other, case[other]) for one, other in itertools.combinations(levels, 2)}

    cases = []
    while missing:
        one, i, other, j = min(missing)
        drawn = ({name: rng.choice(values) for name, values in levels.items()} | {one: i, other: j} for _ in range(12))
        case = max(drawn, key=lambda found: len(pairs(found) & missing))
        missing -= pairs(case)
        cases.append({name: FACTORS[name][index] for name, index in case.items()})
    return cases


def make(case: dict[str, Any], seed: int) -> tuple[dict[str, Tensor], Tensor | None]:
    """Arguments of the filter in float64, and the mask."""
    generator = torch.Generator().manual_seed(seed)
    batch, time, state, obs = case["shape"]
    axes = dict(zip(EXTENT, [(), (1, time), (batch, 1), (batch, time), (1, 1)], strict=True))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def noise(extent: str, full: bool, dim: int) -> Tensor:
        factor = normal(*axes[extent], dim, dim)
        return factor @ factor.mT + 0.5 * torch.eye(dim) if full else (0.5 * factor[..., 0]).exp()

    values = {
        "y": normal(batch, time, obs),
        "A": 0.6 * normal(*axes[case["A"]], state, state) / state**0.5,
        "b": normal(*axes[case["b"]], state),
        "C": normal(*axes[case["C"]], obs, state),
        "Q": noise(*case["Q"], state),
        "R": noise(*case["R"], obs),
        "m0": normal(*((batch,) if case["m0"] == "over the batch" else ()), state),
    }
    extent, full = case["P0"]
    factor = normal(*((batch,) if extent == "over the batch" else ()), state, state)
    values["P0"] = factor @ factor.mT + 0.5 * torch.eye(state) if full else factor[0].square() + 0.5
    masks = {
        "none": None,
        "steps": normal(batch, time) > -0.5,
        "channels": normal(batch, time, obs) > -0.5,
        "shared": (normal(1, time, obs) > -0.5).expand(batch, time, obs),
        "one channel": (torch.arange(obs) < 1).expand(batch, time, obs),
    }
    return values, masks[case["mask"]]


def gradients(case: dict[str, Any], dtype: torch.dtype, method: str, seed: int) -> dict[str, Tensor | None]:
    values, mask = make(case, seed)
    values = {name: value.to(dtype) for name, value in values.items()}
    wanted = list(values) if case["wanted"] == "all" else [case["wanted"]]
    leaves = [values[name].requires_grad_() for name in wanted]
    arguments = {**values, "mask": mask}
    if method == "posterior":
        y = arguments.pop("y")
        draws = sample_posterior(y, 2, **arguments, generator=torch.Generator().manual_seed(0))
        outputs = [draws]
    elif method == "smoother":
        smoothed = kalman_smoother(**arguments)
        outputs = [smoothed.smoothed_mean, smoothed.smoothed_cov, smoothed.lag_one_cov]
    else:
        settings = {"precision": torch.float64} if method == "float64" else {"implementation": method}
        filtered = kalman_filter(**arguments, **settings)
        outputs = [getattr(filtered, field) for field in FIELDS[case["fields"]]]
    assert all(output.dtype == dtype for output in outputs)
    weights = [torch.linspace(0.5, 1.5, output.numel(), dtype=dtype).view(output.shape) for output in outputs]
    loss = sum((weight * output).sum() for weight, output in zip(weights, outputs, strict=True))
    if not loss.requires_grad:  # covariances do not depend on y
        return dict.fromkeys(wanted)
    return dict(zip(wanted, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True))


def symmetrized(name: str, gradient: Tensor, case: dict[str, Any]) -> Tensor:
    """Gradient of a symmetric matrix; the antisymmetric part has no meaning."""
    return gradient + gradient.mT if name in ("Q", "R", "P0") and case[name][1] else gradient


@pytest.mark.parametrize(("seed", "case"), list(enumerate(all_pairs())))
def test_gradients_have_the_data_type_of_the_data_and_agree_with_autograd_in_float64(seed, case):
    found = gradients(case, case["dtype"], case["method"], seed)
    method = case["method"] if case["method"] in ("smoother", "posterior") else "reference"
    expected = gradients(case, torch.float64, method, seed)
    for name, gradient in found.items():
        exact = expected[name]
        if gradient is None or exact is None:
            assert all(value is None or not value.any() for value in (gradient, exact))
            continue
        assert gradient.dtype == case["dtype"]
        if case["method"] == "posterior" and case["dtype"] == torch.float32:
            continue  # draws in float32 are other ones
        gradient, exact = (symmetrized(name, value.double(), case) for value in (gradient, exact))
        tolerance = 2e-3 if case["dtype"] == torch.float32 else 1e-8
        torch.testing.assert_close(
            gradient, exact, rtol=tolerance, atol=tolerance * max(float(exact.abs().max()), 1e-3)
        )


OTHER = "float32.*float64|float64.*float32"
CONSTANT = dict.fromkeys(("A", "b", "C", "m0"), EXTENT[0]) | dict.fromkeys(("Q", "R", "P0"), (EXTENT[0], False))
VALUES, _ = make({"shape": (3, 6, 2, 2), "mask": "none", **CONSTANT}, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", VALUES)
def test_an_argument_of_another_data_type_is_refused(name, dtype):
    other = torch.float64 if dtype == torch.float32 else torch.float32
    values = {key: value.to(other if key == name else dtype) for key, value in VALUES.items()}
    for function in (kalman_filter, kalman_smoother, lambda y, **more: sample_posterior(y, 2, **more)):
        assert_refused(lambda function=function: function(**values), match=OTHER)
    parameters = {key: value for key, value in values.items() if key != "y"}
    assert_refused(lambda: LinearGaussianSSM(**parameters).filter(values["y"]), match=OTHER)


@pytest.mark.parametrize("name", ["y", "mean", "cov", "A", "b", "Q", "C", "R"])
def test_an_argument_of_a_step_of_another_data_type_is_refused(name):
    values = {key: value for key, value in VALUES.items() if key not in ("m0", "P0")}
    values |= {
        "y": VALUES["y"][:, 0],
        "mean": VALUES["y"][:, 1],
        "cov": torch.eye(2, dtype=torch.float64).repeat(3, 1, 1),
    }
    values[name] = values[name].float()
    assert_refused(lambda: kalman_step(**values), match=OTHER)


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_the_default_data_type_of_torch_has_no_influence(default):
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        for dtype in (torch.float32, torch.float64):
            values = {name: value.to(dtype).requires_grad_() for name, value in VALUES.items()}
            for function in (kalman_filter, kalman_smoother):
                out = function(**values)
                total = sum(value.sum() for value in out.tensors().values())
                grads = torch.autograd.grad(total, list(values.values()), allow_unused=True)
                assert {total.dtype, *(grad.dtype for grad in grads if grad is not None)} == {dtype}
    finally:
        torch.set_default_dtype(before)
