"""Arrays of NumPy in and out, and sequences without a batch axis, give the numbers of tensors with a batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from dense_joint import make_problem
from refusals import assert_refused

from kalmanssl.kalman import (
    ResultView,
    forecast,
    innovation_diagnostics,
    kalman_filter,
    kalman_predict,
    kalman_smoother,
    kalman_step,
    kalman_update,
)

PROBLEM = make_problem(batch=1, time=6, state=3, obs=2, seed=1)
MASK = torch.tensor([[[True, True], [True, False], [False, False], [True, True], [True, True], [False, True]]])
MOMENTS = {"mean": torch.randn(1, 3, dtype=torch.float64), "cov": 2 * torch.eye(3, dtype=torch.float64)[None]}
LINEAR = {name: PROBLEM.parameters[name] for name in "AbQCR"}
SEQUENCE = {"y": PROBLEM.y, **PROBLEM.parameters, "mask": MASK}
STEP = {"y": PROBLEM.y[:, 0], **MOMENTS, **LINEAR, "mask": MASK[:, 1]}
CALLS = {
    "filter": (kalman_filter, SEQUENCE),
    "smoother": (kalman_smoother, SEQUENCE),
    "step": (kalman_step, STEP),
    "predict": (kalman_predict, {**MOMENTS, **{name: LINEAR[name] for name in "AbQ"}}),
    "update": (kalman_update, {name: STEP[name] for name in ("y", "mean", "cov", "C", "R", "mask")}),
    "forecast": (lambda **values: forecast(steps=3, **values), {**MOMENTS, **LINEAR}),
}
BATCHED = ("y", "mean", "cov", "mask")


def fields(result: object) -> dict[str, object]:
    if isinstance(result, tuple):
        return {str(i): value for i, value in enumerate(result)}
    if dataclasses.is_dataclass(result):
        return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return result.tensors()


@pytest.mark.parametrize("single", [False, True], ids=["batch", "single"])
@pytest.mark.parametrize("arrays", [False, True], ids=["tensors", "arrays"])
@pytest.mark.parametrize("name", CALLS)
def test_results_are_those_of_tensors_with_a_batch(name: str, arrays: bool, single: bool) -> None:
    function, values = CALLS[name]
    given = {key: value[0] if single and key in BATCHED else value for key, value in values.items()}
    given = {key: value.numpy() if arrays else value for key, value in given.items()}
    found, expected = fields(function(**given)), fields(function(**values))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert isinstance(found[key], np.ndarray if arrays else torch.Tensor)
        np.testing.assert_array_equal(found[key], value[0] if single else value)


def test_fields_of_a_view() -> None:
    out = kalman_smoother(**{name: value[0] if name in BATCHED else value for name, value in SEQUENCE.items()})
    assert isinstance(out, ResultView)
    assert isinstance(out.filter, ResultView)
    assert out.filter.filtered_mean.shape == (6, 3)
    assert out.filter.mask.shape == (6, 2)
    assert int(out.filter.status.steps_skipped) == 1
    assert out.result.smoothed_mean.shape == (1, 6, 3)
    with pytest.raises(AttributeError, match="methods are those of the attribute result"):
        _ = out.weighted_cov_sum
    report = innovation_diagnostics(kalman_filter(PROBLEM.y[0], **PROBLEM.parameters), lags=2)
    assert report.nis_mean == innovation_diagnostics(kalman_filter(PROBLEM.y, **PROBLEM.parameters), lags=2).nis_mean


def test_precision_is_that_of_the_arrays() -> None:
    small = {"A": np.eye(2), "Q": np.ones(2), "C": np.eye(2), "R": np.ones(2)}
    counts = np.arange(8).reshape(4, 2)
    assert kalman_filter(counts, **small).filtered_mean.dtype == np.float64
    small = {name: value.astype(np.float32) for name, value in small.items()}
    assert kalman_filter(counts.astype(np.float32), **small).filtered_mean.dtype == np.float32
    reversed_in_time = kalman_filter(counts[::-1], **small)
    np.testing.assert_array_equal(
        reversed_in_time.filtered_mean, kalman_filter(counts[::-1].copy(), **small).filtered_mean
    )


def test_gradients_pass_through_a_single_sequence() -> None:
    R = PROBLEM.parameters["R"].clone().requires_grad_()
    kalman_filter(PROBLEM.y[0], **{**PROBLEM.parameters, "R": R}).log_likelihood.sum().backward()
    single = R.grad.clone()
    R.grad = None
    kalman_filter(PROBLEM.y, **{**PROBLEM.parameters, "R": R}).log_likelihood.sum().backward()
    torch.testing.assert_close(R.grad, single)


def test_arrays_and_tensors_are_not_mixed() -> None:
    assert_refused(lambda: kalman_filter(PROBLEM.y.numpy(), **PROBLEM.parameters), match="y: expected a torch.Tensor")
    arrays = {name: value.numpy() for name, value in PROBLEM.parameters.items()}
    nan = PROBLEM.y.numpy().copy()
    nan[0, 2, 1] = np.nan
    assert_refused(lambda: kalman_filter(nan, **arrays), match="y: nan at batch 0, time 2, channel 1")
    assert_refused(lambda: kalman_filter(np.array(["a"]), **arrays), match="y")


def test_former_names_of_an_update_warn() -> None:
    function, values = CALLS["update"]
    seen = function(**values)
    with pytest.warns(FutureWarning, match=r"mean is now called filtered_mean and will be removed in 0\.2"):
        assert seen.mean is seen.filtered_mean
    with pytest.warns(FutureWarning, match="cov is now called filtered_cov"):
        assert seen.cov is seen.filtered_cov
