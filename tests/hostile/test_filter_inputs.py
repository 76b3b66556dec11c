"""Malformed arguments of the Kalman filter are refused with one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dense_joint import make_problem
from refusals import assert_refused
from torch import Tensor

from kalmanssl.kalman import (
    JitterWarning,
    LinearGaussianSSM,
    diagnose_innovations,
    discretize,
    forecast,
    innovation_diagnostics,
    kalman_filter,
    kalman_predict,
    kalman_smoother,
    kalman_step,
    kalman_update,
    sample_posterior,
    sample_prior,
    steady_state,
    whiten,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*(quantize|nested tensors).*:UserWarning")

BATCH, TIME, STATE, OBS = 3, 5, 2, 2
PROBLEM = make_problem(batch=BATCH, time=TIME, state=STATE, obs=OBS, seed=3)
Y, PARAMETERS = PROBLEM.y, PROBLEM.parameters
MASK = torch.ones(BATCH, TIME, OBS, dtype=torch.bool)
EYE = torch.eye(2, dtype=torch.float64)
STATE_MOMENTS = {"mean": Y[:, 0], "cov": EYE.repeat(BATCH, 1, 1)}
STEP = {name: PARAMETERS[name] for name in "AbQCR"}
MODEL = LinearGaussianSSM(**PARAMETERS)


def on_sequences(function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
    return lambda y, **values: function(y, **settings, **values)


# Each function with valid arguments; the arguments that are tensors are replaced one by one.
FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "filter": (on_sequences(kalman_filter), {"y": Y, **PARAMETERS, "mask": MASK}),
    "smoother": (on_sequences(kalman_smoother), {"y": Y, **PARAMETERS, "mask": MASK}),
    "step": (kalman_step, {"y": Y[:, 0], **STATE_MOMENTS, **STEP, "mask": MASK[:, 0]}),
    "predict": (kalman_predict, {**STATE_MOMENTS, **{name: PARAMETERS[name] for name in "AbQ"}}),
    "update": (kalman_update, {"y": Y[:, 0], **STATE_MOMENTS, "C": STEP["C"], "R": STEP["R"], "mask": MASK[:, 0]}),
    "forecast": (lambda **values: forecast(steps=3, **values), {**STATE_MOMENTS, **STEP}),
    "sample_prior": (lambda **values: sample_prior(BATCH, TIME, **values), PARAMETERS),
    "sample_posterior": (on_sequences(sample_posterior, n_samples=2), {"y": Y, **PARAMETERS, "mask": MASK}),
    "steady_state": (steady_state, {name: PARAMETERS[name] for name in "AQCR"}),
    "discretize": (discretize, {"F": -EYE, "S": torch.ones_like(EYE[0]), "dt": Y[0, :, 0].abs(), "c": EYE[0]}),
    "diagnose": (
        diagnose_innovations,
        {"innovation": Y, "innovation_cov": EYE.repeat(BATCH, TIME, 1, 1), "mask": MASK},
    ),
    "whiten": (whiten, {"residual": Y, "cov": EYE, "mask": MASK}),
    "model": (LinearGaussianSSM, PARAMETERS),
    "model.filter": (MODEL.filter, {"y": Y, "mask": MASK}),
    "fit_em": (MODEL.fit_em, {"y": Y, "mask": MASK}),
    "fit_gradient": (MODEL.fit_gradient, {"y": Y, "mask": MASK}),
}


def fake(value: Tensor) -> Tensor:
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode().from_tensor(value)


def with_last(value: Tensor, number: float) -> Tensor:
    changed = value.clone()
    changed.view(-1)[-1] = number
    return changed


NOT_TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "text": lambda value: "abc",
    "list": lambda value: value.tolist(),
    "object array": lambda value: np.array([None, "a"], dtype=object),
    "text array": lambda value: np.array(["a", "b"]),
}
KINDS: dict[str, Callable[[Tensor], Any]] = {
    "complex": lambda value: value.to(torch.complex128),
    "conjugate": lambda value: value.to(torch.complex128).conj(),
    "half": lambda value: value.half(),
    "8 bits": lambda value: value.to(torch.float8_e4m3fn),
    "quantized": lambda value: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.quint8),
    "sparse": lambda value: value.to_sparse(),
    "nested": lambda value: torch.nested.nested_tensor([value.reshape(-1)[:1], value.reshape(-1)]),
    "jagged": lambda value: torch.nested.nested_tensor([value.reshape(-1)[:1], value.reshape(-1)], layout=torch.jagged),
    "meta": lambda value: value.to("meta"),
    "fake": fake,
}
SHAPES: dict[str, Callable[[Tensor], Any]] = {
    "a number": lambda value: value.reshape(-1)[0],
    "many axes": lambda value: value[(None,) * 20],
    "no last entry": lambda value: value[..., :0],
    "longer last axis": lambda value: torch.cat([value, value, value], -1),
}
VALID_SHAPES = {("whiten", "residual"), ("whiten", "cov"), ("discretize", "dt")}


@pytest.mark.parametrize("kind", [*NOT_TENSORS, *KINDS, *SHAPES])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_tensors_of_the_wrong_kind_or_shape_are_refused_as_each_argument(function, kind):
    call, valid = FUNCTIONS[function]
    for name, value in valid.items():
        if function == "whiten" and kind == "list":  # it also takes what numpy can convert
            continue
        if kind in SHAPES and (function, name) in VALID_SHAPES:
            continue
        wrong = {**NOT_TENSORS, **KINDS, **SHAPES}[kind](value)
        assert_refused(
            lambda name=name, wrong=wrong: call(**{**valid, name: wrong}), match=rf"\b{name}\b|residual|given"
        )


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_that_are_not_finite_are_refused_in_each_argument(function, number):
    call, valid = FUNCTIONS[function]
    for name, value in valid.items():
        if name != "mask":
            wrong = with_last(value, number)
            assert_refused(
                lambda name=name, wrong=wrong: call(**{**valid, name: wrong}), match=f"{name}|innovation cov"
            )


MASKS: dict[str, Any] = {
    "numbers": MASK.double(),
    "bytes": MASK.byte(),
    "numpy": MASK.numpy(),
    "text": "all",
    "True": True,
    "of one sequence": MASK[:1],
    "of one step": MASK[:, :1],
    "of one channel": MASK[..., :1],
    "channels only": MASK[0, 0],
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("function", ["filter", "smoother", "sample_posterior", "diagnose", "model.filter", "fit_em"])
def test_masks_of_wrong_type_or_shape_are_refused(function, mask):
    call, valid = FUNCTIONS[function]
    assert_refused(lambda: call(**{**valid, "mask": mask}), match="mask: expected")


INDEFINITE = {
    "negative eigenvalue": [[1.0, 3.0], [3.0, 1.0]],
    "slightly negative eigenvalue": [[1.0, 1.00001], [1.00001, 1.0]],
    "no variances": [[0.0, 0.1], [0.1, 0.0]],
    "one variance of zero": [[0.0, 0.1], [0.1, 1.0]],
    "not symmetric": [[1.0, 0.2], [0.1, 1.0]],
    "negative variance": [[-1e-3, 0.0], [0.0, 1.0]],
}
PLACES = {
    "Q": [(BATCH, TIME), (1, TIME), (BATCH, 1), (1, 1), ()],
    "R": [(BATCH, TIME), (1, TIME), (BATCH, 1), (1, 1), ()],
    "P0": [(BATCH,), ()],
}


def one_wrong(shape: tuple[int, ...], wrong: Tensor) -> Tensor:
    """Identities, and a wrong matrix as the last one."""
    covs = torch.eye(2, dtype=wrong.dtype).repeat(*shape, 1, 1)
    covs.view(-1, 2, 2)[-1] = wrong
    return covs


@pytest.mark.parametrize("kind", INDEFINITE)
@pytest.mark.parametrize("name", PLACES)
def test_an_indefinite_covariance_of_any_step_or_sequence_is_refused(name, kind):
    wrong = torch.tensor(INDEFINITE[kind], dtype=torch.float64)
    for shape in PLACES[name]:
        cov = one_wrong(shape, wrong)
        for call in (
            lambda cov=cov: kalman_filter(Y, **{**PARAMETERS, name: cov}),
            lambda cov=cov: sample_prior(BATCH, TIME, **{**PARAMETERS, name: cov}),
            lambda cov=cov: LinearGaussianSSM(**{**PARAMETERS, name: cov}),
        ):
            assert_refused(call, match=f"{name}: a (co)?variance ")


@pytest.mark.parametrize("kind", INDEFINITE)
@pytest.mark.parametrize("function", ["step", "predict", "update", "forecast"])
def test_an_indefinite_covariance_of_a_state_is_refused(function, kind):
    call, valid = FUNCTIONS[function]
    cov = one_wrong((BATCH,), torch.tensor(INDEFINITE[kind], dtype=torch.float64))
    assert_refused(lambda: call(**{**valid, "cov": cov}), match="cov: a (co)?variance ")


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "in torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 33])
def test_covariances_of_any_size_are_checked_alike_with_and_without_a_compiler(n, dtype, compiled, monkeypatch):
    from kalmanssl.kalman import _covariance_checks
    from kalmanssl.kalman.backends import _covariance_search

    monkeypatch.setattr(_covariance_search, "has_compiler", lambda: compiled)
    check = _covariance_checks.check_covariance
    generator = torch.Generator().manual_seed(n)
    for count in (1, 5, 8, 19):
        factor = torch.randn(count, n, max(n // 2, 1), generator=generator, dtype=dtype)
        scale = 10.0 ** torch.randint(-8, 8, (count, 1, 1), generator=generator)
        singular = scale * (factor @ factor.mT)
        check("Q", singular)
        check("Q", torch.zeros_like(singular))
        check("Q", singular[:1].expand(4, n, n))
        for place in {0, count // 2, count - 1}:
            wrong = singular.clone()
            wrong[place] -= (0.01 if n > 1 else 2.0) * wrong[place].diagonal().max() * torch.eye(n, dtype=dtype)
            assert_refused(lambda wrong=wrong: check("Q", wrong), match="Q: a (co)?variance ")


COUNTS = [10**12, 10**18, 10**30, 0, -1, 2.0, True, "3", None, float("nan"), np.float64(3)]


@pytest.mark.parametrize("count", COUNTS, ids=repr)
def test_impossible_numbers_of_steps_sequences_and_samples_are_refused(count):
    moments = STATE_MOMENTS["mean"], STATE_MOMENTS["cov"]
    assert_refused(lambda: forecast(*moments, count, **STEP), match="steps")
    assert_refused(lambda: MODEL.forecast(Y, count), match="steps")
    assert_refused(lambda: sample_prior(2, count, **PARAMETERS), match="time")
    assert_refused(lambda: sample_prior(count, 2, **PARAMETERS), match="batch|time")
    assert_refused(lambda: sample_posterior(Y, count, **PARAMETERS), match="n_samples")
    assert_refused(lambda: LinearGaussianSSM.random(count, 2), match="state_dim")


def test_an_expanded_tensor_with_results_larger_than_the_memory_is_refused():
    y = Y[:1, :1].expand(1, 10**12, OBS)
    for function in (kalman_filter, kalman_smoother):
        assert_refused(lambda function=function: function(y, **PARAMETERS), match="y: the results would take .* GB")
        mask = MASK[:1, :1].expand(y.shape)
        assert_refused(
            lambda function=function, mask=mask: function(y, **PARAMETERS, mask=mask), match="y: the results"
        )


OPTIONS: dict[str, Callable[[], Any]] = {
    **{
        f"precision {value!r}": lambda value=value: kalman_filter(Y, **PARAMETERS, precision=value)
        for value in ("float64", torch.int32, torch.float16, 64, torch.ones(2), [torch.float64])
    },
    **{
        f"implementation {value!r}": lambda value=value: kalman_filter(Y, **PARAMETERS, implementation=value)
        for value in (None, "fast", 1, ["auto"])
    },
    **{
        f"generator {value!r}": lambda value=value: sample_prior(2, 3, **PARAMETERS, generator=value)
        for value in (0, "seed", torch.Generator)
    },
    **{
        f"level {value!r}": lambda value=value: diagnose_innovations(Y, EYE.repeat(3, 5, 1, 1), level=value)
        for value in (0, 1, -0.5, np.nan, "a", None, True, [0.5])
    },
    **{
        f"lags {value!r}": lambda value=value: diagnose_innovations(Y, EYE.repeat(3, 5, 1, 1), lags=value)
        for value in (0, 2.0, "3", None)
    },
    **{
        f"fixed {value!r}": lambda value=value: MODEL.fit_em(Y, fixed=value)
        for value in ("A", ["X"], [["A"]], None, 5, [1], ("A", "Q", "C", "R", "b", "m0", "P0"))
    },
    **{
        f"tolerance {value!r}": lambda value=value: MODEL.fit_gradient(Y, tolerance=value)
        for value in (0, -1, np.nan, np.inf, "a", None)
    },
    **{f"max_iterations {value!r}": lambda value=value: MODEL.fit_em(Y, max_iterations=value) for value in (0, 1.5)},
    "on_iteration_end 5": lambda: MODEL.fit_em(Y, on_iteration_end=5),  # type: ignore[arg-type]
    **{
        f"first {value!r}": lambda value=value: kalman_step(**FUNCTIONS["step"][1], first=value)
        for value in ("yes", None, 2, torch.tensor([True, False]))
    },
    "result": lambda: innovation_diagnostics(Y),  # type: ignore[arg-type]
    "to int32": lambda: MODEL.to(torch.int32),
    "to nowhere": lambda: MODEL.to("nowhere"),
    "to meta": lambda: MODEL.to("meta"),
    "dtype int32": lambda: LinearGaussianSSM.random(2, 2, dtype=torch.int32),
    "parameter X": lambda: MODEL.replace(X=EYE),
    "index": lambda: whiten(Y[0], EYE[None], index=torch.arange(TIME)),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_wrong_options_are_refused(option):
    assert_refused(OPTIONS[option])


@pytest.mark.parametrize("dt", [[-1.0], [np.nan], [np.inf], [0.0, -1.0], [0.0, np.nan], [0.0, np.inf], [0.0, 1e30]])
def test_impossible_time_differences_are_refused(dt):
    assert_refused(lambda: discretize(-EYE, EYE, torch.tensor(dt, dtype=torch.float64)), match="dt: ")


def test_a_drift_whose_transition_overflows_is_refused():
    assert_refused(
        lambda: discretize(1e3 * EYE, EYE, torch.tensor([5.0], dtype=torch.float64)), match="dt: .* overflow"
    )


EXPLODING: dict[str, Callable[..., Any]] = {
    "filter": kalman_filter,
    "filter in torch": lambda y, **values: kalman_filter(y, **values, implementation="adjoint"),
    "smoother": kalman_smoother,
    "sample_posterior": lambda y, **values: sample_posterior(y, 2, **values),
    "fit_em": lambda y, mask, **values: LinearGaussianSSM(**values).fit_em(y, mask=mask),
    "fit_gradient": lambda y, mask, **values: LinearGaussianSSM(**values).fit_gradient(y, mask=mask),
}


@pytest.mark.parametrize("noise", ["constant", "of each sequence"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", EXPLODING)
def test_a_state_that_grows_without_observations_until_it_overflows_is_refused(function, dtype, noise):
    steps = 150
    values = {"A": 1e3 * EYE, "Q": EYE[0] + 1, "C": EYE, "R": EYE[0] + 1}
    values = {name: value.to(dtype) for name, value in values.items()}
    if noise == "of each sequence" and function != "fit_em":
        values["R"] = values["R"].expand(2, steps, 2)
    mask = torch.zeros(2, steps, dtype=torch.bool)
    mask[:, -1] = True
    y = torch.zeros(2, steps, 2, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JitterWarning)
        assert_refused(lambda: EXPLODING[function](y, **values, mask=mask))


def test_a_forecast_and_a_sample_that_overflow_are_refused():
    A = 1e3 * EYE
    assert_refused(lambda: forecast(**STATE_MOMENTS, steps=200, **{**STEP, "A": A}), match="steps: .* overflow")
    assert_refused(lambda: sample_prior(2, 200, **{**PARAMETERS, "A": A}), match="time: .* overflow")


@pytest.mark.parametrize("name", ["y", "b", "m0"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("implementation", ["auto", "adjoint", "reference"])
def test_values_whose_likelihood_overflows_are_refused(name, dtype, implementation):
    values = {key: value.to(dtype) for key, value in {"y": Y, **PARAMETERS}.items()}
    values[name] = values[name] * (1e30 if dtype == torch.float32 else 1e200)
    assert_refused(lambda: kalman_filter(**values, implementation=implementation), match="overflow")
