"""Input validation: messages name the argument, what was expected, what was given and how to correct it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_joint import make_problem

from kalmanssl.errors import InputError
from kalmanssl.kalman import forecast, kalman_filter, kalman_smoother, kalman_step, sample_posterior, sample_prior
from kalmanssl.kalman._filtering import run_filter
from kalmanssl.kalman._validation import check_model, check_observations

BATCH, TIME, STATE, OBS = 4, 6, 3, 2


def arguments(**changes):
    problem = make_problem(batch=BATCH, time=TIME)
    return {"y": problem.y, **problem.parameters, **changes}


def call(function, **changes):
    values = arguments(**changes)
    return function(values.pop("y"), **values)


def ones(*shape):
    return torch.ones(shape, dtype=torch.float64)


BAD = {
    "y one axis": ({"y": ones(6)}, r"y: expected \(batch, time, obs\) .* got \(6,\); .* pass y\[None\]"),
    "y empty": ({"y": ones(4, 0, 2)}, r"y: expected \(batch, time, obs\) with at least one of each"),
    "y numpy": ({"y": np.ones((4, 6, 2))}, r"y: expected a torch.Tensor, got ndarray; wrap it in torch.as_tensor"),
    "y integer": ({"y": torch.ones(4, 6, 2, dtype=torch.int64)}, r"y: expected float32 or float64, got torch.int64"),
    "A not square": ({"A": ones(3, 2)}, r"A: expected \(state, state\) or .* got \(3, 2\)"),
    "A three axes": ({"A": ones(6, 3, 3)}, r"A: expected \(state, state\) or \(batch or 1, time or 1, state, state\)"),
    "A wrong time": (
        {"A": ones(1, 5, 3, 3)},
        r"A: expected \(1 or 4, 1 or 6, 3, 3\) for 4 sequences of 6 steps, got \(1, 5, 3, 3\)",
    ),
    "A dtype": ({"A": torch.eye(3)}, r"A: expected torch.float64 on cpu .* got torch.float32 .*; convert it with"),
    "A nan": ({"A": ones(3, 3) * np.nan}, r"A: contains NaN or infinity"),
    "C transposed": ({"C": ones(3, 2)}, r"C: expected .* with state = 3 from A, got \(3, 2\)"),
    "C rows": ({"C": ones(3, 3)}, r"C: expected 2 rows, one for each channel of y, got \(3, 3\); .* pass C.mT"),
    "b two axes": (
        {"b": ones(6, 3)},
        r"b: expected \(3,\) or \(batch or 1, time or 1, 3\), got \(6, 3\); write out both",
    ),
    "Q two axes": ({"Q": ones(6, 3)}, r"Q: expected \(3,\) or .* if diagonal, .* with state = 3, got \(6, 3\)"),
    "Q dim": ({"Q": ones(2)}, r"Q: expected \(3,\) or .* with state = 3, got \(2,\)"),
    "R dim": ({"R": ones(4, 6, 3)}, r"R: expected \(2,\) or .* with obs = 2, got \(4, 6, 3\)"),
    "R batch": ({"R": ones(3, 1, 2)}, r"R: expected \(1 or 4, 1 or 6, 2\) for 4 sequences of 6 steps, got \(3, 1, 2\)"),
    "R negative": (
        {"R": torch.tensor([1.0, -0.5], dtype=torch.float64)},
        r"R: a variance is negative \(smallest -0.5\)",
    ),
    "R skew": (
        {"R": torch.tensor([[1.0, 0.5], [0.2, 1.0]], dtype=torch.float64)},
        r"R: a covariance is not symmetric \(differs .* by 0.3\); pass 0.5",
    ),
    "Q diagonal": ({"Q": -ones(3, 3)}, r"Q: a variance on the diagonal is negative \(smallest -1\)"),
    "m0 shape": ({"m0": ones(3, 3)}, r"m0: expected \(3,\) or \(4, 3\) as \(batch, state\), got \(3, 3\)"),
    "P0 batch of diagonals": (
        {"P0": ones(4, 3)},
        r"P0: expected \(3,\) if diagonal, .* got \(4, 3\); .* P0.diag_embed",
    ),
    "P0 negative": ({"P0": -ones(3)}, r"P0: a variance is negative"),
    "Q half": (
        {"Q": torch.eye(3, dtype=torch.float16)},
        r"Q: expected float32 or float64, got torch.float16; convert it with .to\(torch.float32\)",
    ),
    "y bfloat": ({"y": ones(4, 6, 2).bfloat16()}, r"y: expected float32 or float64, got torch.bfloat16; convert it"),
    "y sparse": ({"y": ones(4, 6, 2).to_sparse()}, r"y: expected a dense tensor, got torch.sparse_coo; .*to_dense"),
    "y meta": ({"y": ones(4, 6, 2).to("meta")}, r"y: expected a tensor with values, got one on the device meta"),
    "A meta": ({"A": ones(3, 3).to("meta")}, r"A: expected a tensor with values, got one on the device meta"),
    "A no state": ({"A": ones(0, 0)}, r"A: expected \(state, state\) or .* got \(0, 0\)"),
    "C no channel": ({"C": ones(0, 3)}, r"C: expected \(obs, state\) or .* got \(0, 3\)"),
    "R not positive": (
        {"R": torch.tensor([[1.0, 1.5], [1.5, 1.0]], dtype=torch.float64)},
        r"R: a covariance is not positive \(smallest eigenvalue -0.5\); pass M @ M.mT of a factor M",
    ),
    "Q not positive": (
        {"Q": torch.eye(3, dtype=torch.float64) - 0.5},
        r"Q: a covariance is not positive \(smallest eigenvalue -0.5\)",
    ),
    "P0 not positive": (
        {"P0": torch.eye(3, dtype=torch.float64) - 0.5},
        r"P0: a covariance is not positive \(smallest eigenvalue -0.5\)",
    ),
    "mask float": ({"mask": ones(4, 6)}, r"mask: expected a torch.Tensor of bool, .* got torch.float64; use mask.bool"),
    "mask list": ({"mask": [True]}, r"mask: expected a torch.Tensor of bool, .* got list"),
    "mask shape": (
        {"mask": torch.ones(4, 2, dtype=torch.bool)},
        r"mask: expected \(4, 6, 2\) as y or \(4, 6\) for whole steps, got \(4, 2\)",
    ),
}


@pytest.mark.parametrize("function", [kalman_filter, kalman_smoother])
@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_a_wrong_argument_is_named(changes, message, function):
    with pytest.raises(InputError, match=message) as raised:
        call(function, **changes)
    assert "\n" not in str(raised.value)
    assert type(raised.value) is InputError
    assert raised.value.parameter == str(raised.value).split(":")[0]


def test_a_wrong_shape_is_reported_with_the_shapes_of_all_arguments():
    with pytest.raises(InputError, match=r"Q: .* got \(2,\); given: y \(4, 6, 2\), A \(3, 3\), Q \(2,\), C \(2, 3\)"):
        call(kalman_filter, Q=ones(2))
    with pytest.raises(InputError, match=r"P0: .* got \(3, 2\); .* R \(2,\), b \(3,\), m0 \(3,\), P0 \(3, 2\)$"):
        call(kalman_filter, P0=ones(3, 2))
    values = {name: value for name, value in arguments(A=ones(1, 5, 3, 3)).items() if name != "y"}
    with pytest.raises(InputError, match=r"; given: A \(1, 5, 3, 3\), Q"):
        sample_prior(2, 6, **values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["Q", "P0"])
def test_singular_and_slightly_asymmetric_covariances_are_accepted(name, dtype):
    """Deficient rank, zero, and asymmetry or indefiniteness by rounding are valid."""
    factor = torch.tensor([[1.0, 1 / 3], [0.1, 0.7], [-2.0, 5.0]], dtype=dtype)
    rounded = 1e4 * (factor @ factor.mT)
    rounded[0, 1] *= 1 + 4 * torch.finfo(dtype).eps
    values = {key: value.to(dtype) for key, value in arguments().items()}
    for cov in (factor @ factor.mT, torch.zeros(3, 3, dtype=dtype), rounded, torch.ones(3, 3, dtype=dtype)):
        out = kalman_filter(**{**values, name: cov})
        assert torch.isfinite(out.log_likelihood).all()


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_the_first_value_of_y_that_is_not_finite_is_named(value):
    y = make_problem(batch=BATCH).y.clone()
    y[3, 0, 0] = y[2, 4, 1] = y[2, 5, 0] = float(value)
    with pytest.raises(InputError, match=rf"y: {value} at batch 2, time 4, channel 1; pass mask=torch.isfinite\(y\)"):
        call(kalman_filter, y=y)
    mask = torch.ones(4, 6, 2, dtype=torch.bool)
    mask[2, 4, 1] = mask[2, 5, 0] = False
    with pytest.raises(InputError, match=f"y: {value} at batch 3, time 0, channel 0"):
        call(kalman_filter, y=y, mask=mask)
    out = call(kalman_filter, y=y, mask=torch.isfinite(y))
    assert torch.isfinite(out.filtered_mean).all()


def test_an_unknown_implementation_is_named():
    with pytest.raises(InputError, match="implementation must be one of auto, adjoint, scan, reference; got 'fast'"):
        call(kalman_filter, implementation="fast")


def test_overflow_of_an_unstable_model_raises():
    with pytest.raises(InputError, match=r"innovation covariance .* contain NaN or infinity; check .* A does not let"):
        call(kalman_filter, A=1e200 * ones(3, 3))


@pytest.mark.parametrize("step", [0, TIME - 1])
def test_an_indefinite_noise_covariance_of_one_step_raises(step):
    R = torch.eye(2, dtype=torch.float64).repeat(1, TIME, 1, 1)
    R[0, step] = torch.tensor([[1.0, 500.0], [500.0, 1.0]])
    with pytest.raises(InputError, match=r"R: a covariance is not positive \(smallest eigenvalue -499\)"):
        call(kalman_filter, R=R)


@pytest.mark.parametrize("implementation", ["auto", "adjoint", "scan", "reference"])
def test_the_filter_detects_an_innovation_covariance_that_is_not_positive(implementation):
    """Also without input validation of the noise."""
    values = arguments()
    observations = check_observations(values.pop("y"), None)
    model = check_model(observations.y, BATCH, TIME, **values)
    R = torch.tensor([[1.0, 500.0], [500.0, 1.0]], dtype=torch.float64).expand(1, TIME, 2, 2)
    with pytest.raises(InputError, match=r"not positive definite .* check Q, R and P0"):
        run_filter(model.replace(R=R), observations, torch.float64, None, implementation)


def test_finite_values_whose_sum_overflows_are_accepted():
    values = {name: value.float() for name, value in arguments().items()}
    values["y"] = torch.full((BATCH, TIME, OBS), 3e38)
    values["mask"] = torch.zeros(BATCH, TIME, dtype=torch.bool)
    assert torch.isfinite(kalman_filter(**values).filtered_mean).all()
    values |= {"R": torch.full((BATCH, TIME, OBS), 3e38), "y": torch.ones(BATCH, TIME, OBS)}
    assert torch.isfinite(kalman_filter(**{**values, "mask": None}).filtered_mean).all()


STATE_MESSAGES = {
    "mean": ({"mean": ones(3)}, r"mean: expected \(batch, state\), got \(3,\); for one sequence pass mean\[None\]"),
    "mean dim": (
        {"mean": ones(4, 2), "cov": ones(4, 2, 2)},
        r"mean: expected \(batch, 3\) with the state of A, got \(4, 2\)",
    ),
    "cov": ({"cov": ones(3, 3)}, r"cov: expected \(4, 3, 3\) to go with mean, got \(3, 3\); use expand"),
    "skew": ({"cov": torch.tril(ones(4, 3, 3))}, r"cov: a covariance is not symmetric"),
}


@pytest.mark.parametrize(("changes", "message"), STATE_MESSAGES.values(), ids=STATE_MESSAGES)
def test_wrong_moments_of_a_state_are_named(changes, message):
    values = {k: v for k, v in arguments().items() if k not in ("m0", "P0")}
    y = values.pop("y")
    state = {"mean": ones(4, 3), "cov": torch.eye(3, dtype=torch.float64).expand(4, 3, 3), **changes}
    with pytest.raises(InputError, match=message):
        forecast(state["mean"], state["cov"], 2, **values)
    with pytest.raises(InputError, match=message):
        kalman_step(y[:, 0], state["mean"], state["cov"], **values)


def test_wrong_arguments_of_a_step_are_named():
    values = {k: v for k, v in arguments().items() if k not in ("m0", "P0")}
    y = values.pop("y")
    state = ones(4, 3), torch.eye(3, dtype=torch.float64).expand(4, 3, 3)
    with pytest.raises(InputError, match=r"y: expected a tensor \(batch, obs\) with batch = 4 from mean, got \(3, 2\)"):
        kalman_step(y[:3, 0], *state, **values)
    with pytest.raises(InputError, match=r"y: expected a tensor \(batch, obs\) .* got \(4, 6, 2\)"):
        kalman_step(y, *state, **values)
    with pytest.raises(InputError, match=r"mask: expected \(4, 2\) as y or \(4,\), got \(2,\)"):
        kalman_step(y[:, 0], *state, **values, mask=torch.tensor([True, False]))


def test_wrong_arguments_of_a_forecast_are_named():
    values = {k: v for k, v in arguments(A=ones(1, 5, 3, 3)).items() if k not in ("m0", "P0", "y")}
    state = ones(4, 3), torch.eye(3, dtype=torch.float64).expand(4, 3, 3)
    with pytest.raises(InputError, match=r"A: expected \(1 or 4, 1 or 2, 3, 3\) for 4 sequences of 2 steps"):
        forecast(*state, 2, **values)
    with pytest.raises(InputError, match="steps must be a whole number, at least 1; got 0"):
        forecast(*state, 0, **values)


def test_samplers_validate_their_arguments():
    with pytest.raises(InputError, match="Q: a variance is negative"):
        call(lambda y, **values: sample_posterior(y, 2, **values), Q=-ones(3))
    values = {k: v for k, v in arguments(m0=ones(4, 3)).items() if k != "y"}
    with pytest.raises(InputError, match=r"m0: expected \(3,\) or \(2, 3\)"):
        sample_prior(2, 6, **values)
