from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_joint import Joint, make_problem

from kalmanssl.errors import InputError
from kalmanssl.kalman import kalman_filter, kalman_predict, kalman_update


def at_step(parameters, names, t):
    return {
        name: parameters[name][:, t : t + 1]
        if parameters[name].ndim > 2 and parameters[name].shape[1] > 1
        else parameters[name]
        for name in names
    }


def start(problem):
    written = problem.written_out()
    return tuple(torch.tensor(written[name]) for name in ("m0", "P0"))


@pytest.mark.parametrize("missing", ["none", "steps", "channels", "shared"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both", "mixed"])
def test_a_loop_of_predictions_and_updates_agrees_with_the_joint_gaussian(varies, full, missing):
    problem = make_problem(varies=varies, full=full, missing=missing, time=4)
    whole = kalman_filter(problem.y, **problem.parameters, mask=problem.mask)
    mean, cov = start(problem)
    joints = [Joint(problem, n) for n in range(2)]
    for t in range(4):
        if t > 0:
            mean, cov = kalman_predict(mean, cov, **at_step(problem.parameters, "AQb", t))
        mask = None if problem.mask is None else problem.mask[:, t]
        seen = kalman_update(problem.y[:, t], mean, cov, **at_step(problem.parameters, "CR", t), mask=mask)
        for name in ("log_likelihood", "gain", "innovation", "innovation_cov"):
            torch.testing.assert_close(getattr(seen, name), getattr(whole, name)[:, t], msg=lambda m, n=name: f"{n}{m}")
        for n, joint in enumerate(joints):
            for until, moments in ((t, (mean, cov)), (t + 1, (seen.filtered_mean, seen.filtered_cov))):
                for value, expected in zip(moments, joint.moments(t, until), strict=True):
                    np.testing.assert_allclose(value[n], expected, rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(seen.log_likelihood[n], joint.log_likelihood(t), rtol=1e-8, atol=1e-9)
        mean, cov = seen.filtered_mean, seen.filtered_cov


def test_independent_sensors_can_be_processed_in_any_order():
    problem = make_problem(time=1)
    mean, cov = start(problem)
    y, C, R = problem.y[:, 0], problem.parameters["C"], problem.parameters["R"]
    at_once = kalman_update(y, mean, cov, C=C, R=R)
    for order in ((0, 1), (1, 0)):
        now, total = (mean, cov), 0.0
        for i in order:
            seen = kalman_update(y[:, i : i + 1], *now, C=C[i : i + 1], R=R[i : i + 1])
            now, total = (seen.filtered_mean, seen.filtered_cov), total + seen.log_likelihood
        torch.testing.assert_close(now, (at_once.filtered_mean, at_once.filtered_cov))
        torch.testing.assert_close(total, at_once.log_likelihood)


def test_gradcheck():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    def step(y, mean, factor, A, q, b, C, r):
        cov = factor @ factor.mT + torch.eye(2)
        mean, cov = kalman_predict(mean, cov, A=A, Q=q.exp(), b=b)
        seen = kalman_update(y, mean, cov, C=C, R=r.exp(), mask=torch.tensor([[True, False, True], [True] * 3]))
        return seen.filtered_mean, seen.filtered_cov, seen.log_likelihood

    inputs = draw(2, 3), draw(2, 2), draw(2, 2, 2), draw(2, 2), draw(2), draw(2), draw(3, 2), draw(3)
    assert torch.autograd.gradcheck(step, inputs)


def ones(*shape):
    return torch.ones(shape, dtype=torch.float64)


GOOD = {"y": ones(4, 2), "mean": ones(4, 3), "cov": torch.eye(3, dtype=torch.float64).expand(4, 3, 3)}
GOOD |= {"C": ones(2, 3), "R": ones(2), "A": ones(3, 3), "Q": ones(3)}
MESSAGES = {
    "predict state": (
        "predict",
        {"A": ones(2, 2), "Q": ones(2)},
        r"mean: expected \(batch, 2\) with the state of A, got \(4, 3\)",
    ),
    "predict time": (
        "predict",
        {"A": ones(1, 5, 3, 3)},
        r"A: expected \(1 or 4, 1, 3, 3\) .* given: mean \(4, 3\), cov",
    ),
    "predict cov": ("predict", {"cov": ones(3, 3)}, r"cov: expected \(4, 3, 3\) to go with mean, got \(3, 3\)"),
    "predict Q": ("predict", {"Q": -ones(3)}, "Q: a variance is negative"),
    "update batch": (
        "update",
        {"y": ones(3, 2)},
        r"y: expected a tensor \(batch, obs\) with batch = 4 .* got \(3, 2\)",
    ),
    "update list": ("update", {"y": [1.0]}, r"y: expected a tensor \(batch, obs\) .* got list"),
    "update dtype": ("update", {"y": torch.ones(4, 2)}, r"y: expected torch.float64 on cpu as mean, got torch.float32"),
    "update C": (
        "update",
        {"C": ones(3, 3)},
        r"C: expected 2 rows, .* got \(3, 3\); .*; given: y \(4, 2\), mean \(4, 3\)",
    ),
    "update R": ("update", {"R": ones(3)}, r"R: expected \(2,\) .* with obs = 2, got \(3,\)"),
    "update mask": ("update", {"mask": ones(2).bool()}, r"mask: expected \(4, 2\) as y or \(4,\), got \(2,\)"),
    "update nan": ("update", {"y": ones(4, 2) * np.nan}, "y: nan at batch 0, time 0, channel 0; pass mask"),
}


@pytest.mark.parametrize(("which", "changes", "message"), MESSAGES.values(), ids=MESSAGES)
def test_a_wrong_argument_is_named(which, changes, message):
    values = {**GOOD, **changes}
    moments = values["mean"], values["cov"]

    def call():
        if which == "predict":
            return kalman_predict(*moments, A=values["A"], Q=values["Q"])
        return kalman_update(values["y"], *moments, C=values["C"], R=values["R"], mask=values.get("mask"))

    with pytest.raises(InputError, match=message) as raised:
        call()
    assert raised.value.parameter == str(raised.value).split(":")[0]
