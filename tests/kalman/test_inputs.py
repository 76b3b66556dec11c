"""Known inputs of the state and offsets of the observations, against a textbook loop and filterpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import assert_refused

from kalmanssl.kalman import forecast, kalman_filter, kalman_predict, kalman_smoother, kalman_step, kalman_update

RNG = np.random.default_rng(0)
TIME, STATE, OBS, INPUTS = 12, 3, 2, 2
MODEL = {
    "A": 0.6 * RNG.standard_normal((STATE, STATE)),
    "Q": np.diag(RNG.uniform(0.1, 1.0, STATE)),
    "C": RNG.standard_normal((OBS, STATE)),
    "R": np.diag(RNG.uniform(0.1, 1.0, OBS)),
}
B, D = RNG.standard_normal((STATE, INPUTS)), RNG.standard_normal(OBS)
U, Y = RNG.standard_normal((TIME, INPUTS)), RNG.standard_normal((TIME, OBS))
INPUT = {"B": B, "u": U, "d": D}


def textbook() -> list[tuple[np.ndarray, np.ndarray]]:
    """Filtered moments by the equations as they are printed, with inverses."""
    A, Q, C, R = MODEL.values()
    mean, cov, moments = np.zeros(STATE), np.eye(STATE), []
    for t in range(TIME):
        if t:
            mean, cov = A @ mean + B @ U[t], A @ cov @ A.T + Q
        gain = cov @ C.T @ np.linalg.inv(C @ cov @ C.T + R)
        mean, cov = mean + gain @ (Y[t] - D - C @ mean), cov - gain @ C @ cov
        moments.append((mean, cov))
    return moments


def test_filter_agrees_with_the_textbook() -> None:
    out = kalman_filter(Y, **MODEL, **INPUT)
    for t, (mean, cov) in enumerate(textbook()):
        np.testing.assert_allclose(out.filtered_mean[t], mean, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(out.filtered_cov[t], cov, rtol=1e-9, atol=1e-12)


def test_filter_agrees_with_filterpy() -> None:
    filters = pytest.importorskip("filterpy.kalman", reason="filterpy is not installed: inputs NOT compared with it")
    theirs = filters.KalmanFilter(dim_x=STATE, dim_z=OBS, dim_u=INPUTS)
    theirs.F, theirs.Q, theirs.H, theirs.R = MODEL.values()
    theirs.B = B
    theirs.x, theirs.P = np.zeros(STATE), np.eye(STATE)
    ours = kalman_filter(Y, **MODEL, **INPUT)
    for t in range(TIME):
        if t:
            theirs.predict(u=U[t])
        theirs.update(Y[t] - D)
        np.testing.assert_allclose(ours.filtered_mean[t], theirs.x, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.log_likelihood[t], theirs.log_likelihood, rtol=1e-9)


def test_steps_and_their_parts_agree_with_the_filter() -> None:
    whole = kalman_filter(Y, **MODEL, **INPUT)
    mean, cov = np.zeros(STATE), np.eye(STATE)
    part_mean, part_cov = mean, cov
    for t in range(TIME):
        step = kalman_step(Y[t], mean, cov, **MODEL, B=B, u=U[t], d=D, first=t == 0)
        mean, cov = step.filtered_mean, step.filtered_cov
        if t:
            part_mean, part_cov = kalman_predict(part_mean, part_cov, A=MODEL["A"], Q=MODEL["Q"], B=B, u=U[t])
        seen = kalman_update(Y[t], part_mean, part_cov, C=MODEL["C"], R=MODEL["R"], d=D)
        part_mean, part_cov = seen.filtered_mean, seen.filtered_cov
        for name in ("filtered_mean", "filtered_cov", "log_likelihood", "innovation"):
            np.testing.assert_allclose(getattr(step, name), getattr(whole, name)[t], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(getattr(seen, name), getattr(whole, name)[t], rtol=1e-9, atol=1e-12)


def test_smoother_and_forecast_equal_those_of_the_offsets() -> None:
    offsets = U @ B.T
    smoothed = kalman_smoother(Y, **MODEL, **INPUT)
    plain = kalman_smoother(Y - D, **MODEL, b=offsets[None])
    np.testing.assert_allclose(smoothed.smoothed_mean, plain.smoothed_mean, rtol=1e-12)
    state = smoothed.filter.filtered_mean[-1], smoothed.filter.filtered_cov[-1]
    ahead = forecast(*state, 4, **MODEL, B=B, u=U[None, :4], d=D)
    without = forecast(*state, 4, **MODEL, b=offsets[None, :4])
    np.testing.assert_allclose(ahead.state_mean, without.state_mean, rtol=1e-12)
    np.testing.assert_allclose(ahead.observation_mean, without.observation_mean + D, rtol=1e-12)


def test_missing_values_with_an_offset() -> None:
    mask = RNG.random((TIME, OBS)) < 0.6
    out = kalman_filter(np.where(mask, Y, np.nan), **MODEL, **INPUT, mask=mask)
    expected = kalman_filter(np.where(mask, Y - D, np.nan), **MODEL, b=(U @ B.T)[None], mask=mask)
    np.testing.assert_allclose(out.filtered_mean, expected.filtered_mean, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(out.innovation, expected.innovation, rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(out.innovation[~mask], 0)


def test_inputs_of_each_sequence() -> None:
    y, u = torch.tensor(RNG.standard_normal((3, TIME, OBS))), torch.tensor(RNG.standard_normal((3, TIME, INPUTS)))
    model = {name: torch.tensor(value) for name, value in {**MODEL, "B": B}.items()}
    together = kalman_filter(y, **model, u=u)
    for n in range(3):
        alone = kalman_filter(y[n], **model, u=u[n])
        torch.testing.assert_close(together.filtered_mean[n], alone.filtered_mean)


WRONG = {
    "no u": ({"B": B}, "u: is None: B and u are given together"),
    "no B": ({"u": U}, "B: is None"),
    "rows of B": ({"B": B[:2], "u": U}, r"B: expected 3 rows, one for each state of A, got \(2, 2\)"),
    "u size": ({"B": B, "u": U[:, :1]}, "u: expected"),
    "u steps": ({"B": B, "u": U[:5]}, "u: expected"),
    "d size": ({"d": np.ones(3)}, "d: expected"),
    "d not finite": ({"d": np.array([0.0, np.nan])}, "d: contains NaN"),
    "u not finite": ({"B": B, "u": U * np.inf}, "u: contains NaN"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("function", [kalman_filter, kalman_smoother])
def test_wrong_inputs_are_refused(function, case: str) -> None:
    given, message = WRONG[case]
    assert_refused(lambda: function(Y, **MODEL, **given), match=message)


@pytest.mark.parametrize("observed", [[True, True], [True, False], [False, False]])
def test_a_step_of_arrays_without_conversion_equals_that_of_tensors(observed: list[bool]) -> None:
    mean, cov, mask = RNG.standard_normal(STATE), np.eye(STATE) + 0.3, np.array(observed)
    b = RNG.standard_normal(STATE)
    found = kalman_step(Y[3], mean, cov, **MODEL, b=b, B=B, u=U[3], d=D, mask=mask)
    tensors = {name: torch.tensor(value) for name, value in {**MODEL, "b": b, "B": B, "u": U[3], "d": D}.items()}
    y, mean, cov, mask = (torch.tensor(value)[None] for value in (Y[3], mean, cov, mask))
    expected = kalman_step(y, mean, cov, **tensors, mask=mask)
    for name in ("predicted_mean", "filtered_mean", "filtered_cov", "log_likelihood", "gain", "innovation"):
        value = getattr(found, name)
        assert isinstance(value, np.ndarray | np.float64)
        np.testing.assert_allclose(value, getattr(expected, name)[0], rtol=1e-12, atol=1e-14)


WRONG_STEPS = {
    "y size": ({"y": np.ones(3)}, "C: expected 3 rows"),
    "y not finite": ({"y": np.array([0.0, np.inf])}, "y: inf"),
    "mean size": ({"mean": np.zeros(2)}, "cov: expected"),
    "cov not symmetric": ({"cov": np.triu(np.ones((3, 3)))}, "cov"),
    "B rows": ({"B": B[:2], "u": U[0]}, "B: expected 3 rows"),
    "u size": ({"B": B, "u": np.ones(3)}, "u: expected"),
    "u missing": ({"B": B}, "u: is None"),
    "d size": ({"d": np.ones(3)}, "d: expected"),
    "mask size": ({"mask": np.ones(3, dtype=bool)}, "mask: expected"),
    "mask of numbers": ({"mask": np.ones(2)}, "mask: expected"),
    "first": ({"first": 1}, "first: expected True or False"),
}


@pytest.mark.parametrize("case", WRONG_STEPS)
def test_wrong_steps_of_arrays_are_refused(case: str) -> None:
    given, message = WRONG_STEPS[case]
    values = {"y": Y[0], "mean": np.zeros(STATE), "cov": np.eye(STATE), **MODEL, **given}
    y, mean, cov = (values.pop(name) for name in ("y", "mean", "cov"))
    assert_refused(lambda: kalman_step(y, mean, cov, **values), match=message)
