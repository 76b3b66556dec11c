"""Properties that hold for every filter: invariances, causality and consistency."""

from __future__ import annotations

import pytest
import torch
from dense_joint import make_problem

from kalmanssl.kalman import forecast, kalman_filter, kalman_smoother
from kalmanssl.kalman.backends import BACKENDS

VARIES = ["none", "time", "batch", "both"]
MISSING = ["none", "steps", "channels"]


def run(problem, **changes):
    arguments = {"mask": problem.mask, **problem.parameters, **changes}
    return kalman_filter(arguments.pop("y", problem.y), **arguments)


def member(problem, index):
    """Return the arguments for some of the sequences."""
    chosen = {
        name: value[index] if value.shape[0] == len(problem.y) and value.ndim > 2 - (name == "m0") else value
        for name, value in problem.parameters.items()
    }
    return {"y": problem.y[index], **chosen, "mask": None if problem.mask is None else problem.mask[index]}


def assert_same(one, other):
    for name, value in one.tensors().items():
        torch.testing.assert_close(value, getattr(other, name), msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("varies", VARIES)
def test_filtering_a_batch_equals_filtering_each_sequence_alone(varies, missing):
    problem = make_problem(varies=varies, missing=missing, batch=4)
    whole = run(problem)
    for n in range(4):
        alone = run(problem, **member(problem, slice(n, n + 1)))
        for name, value in alone.tensors().items():
            torch.testing.assert_close(value[0], getattr(whole, name)[n])


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("varies", VARIES)
def test_reordering_the_batch_reorders_the_results(varies, missing):
    problem = make_problem(varies=varies, missing=missing, batch=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = run(problem, **member(problem, order))
    for name, value in run(problem).tensors().items():
        torch.testing.assert_close(value[order], getattr(permuted, name))


@pytest.mark.parametrize("cut", [1, 3, 5])
@pytest.mark.parametrize("varies", VARIES)
def test_filtering_in_two_parts_equals_filtering_at_once(varies, cut):
    problem = make_problem(varies=varies, full=True)
    whole = run(problem)

    def between(start, stop):
        return {
            name: value[:, start:stop] if value.ndim > 2 and value.shape[1] > 1 and name != "P0" else value
            for name, value in problem.parameters.items()
        }

    first = run(problem, y=problem.y[:, :cut], **between(0, cut))
    into = {k: v for k, v in between(cut, cut + 1).items() if k not in ("m0", "P0")}
    start = forecast(first.filtered_mean[:, -1], first.filtered_cov[:, -1], 1, **into)
    rest = between(cut, None) | {"m0": start.state_mean[:, 0], "P0": start.state_cov[:, 0]}
    second = run(problem, y=problem.y[:, cut:], **rest)
    for name, value in whole.tensors().items():
        torch.testing.assert_close(value, torch.cat([getattr(first, name), getattr(second, name)], 1))


def test_a_missing_step_equals_one_step_with_the_combined_transition():
    """Skipping step 3 is the same as a transition A A, offset A b + b and noise A Q A' + Q from step 2 to 4."""
    problem = make_problem(full=True, time=7)
    p = problem.parameters
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[:, 3] = False
    skipped = run(problem, mask=mask)

    steps = 6
    A, b, Q = p["A"].repeat(1, steps, 1, 1), p["b"].repeat(1, steps, 1), p["Q"].repeat(1, steps, 1, 1)
    A[:, 3] = p["A"] @ p["A"]
    b[:, 3] = p["A"] @ p["b"] + p["b"]
    Q[:, 3] = p["A"] @ p["Q"] @ p["A"].mT + p["Q"]
    keep = torch.tensor([0, 1, 2, 4, 5, 6])
    shorter = run(problem, y=problem.y[:, keep], mask=None, A=A, b=b, Q=Q)
    for name, value in shorter.tensors().items():
        torch.testing.assert_close(value, getattr(skipped, name)[:, keep])
    assert not skipped.log_likelihood[:, 3].any()


def test_missing_steps_at_the_end_do_not_change_earlier_results():
    problem = make_problem()
    longer = torch.cat([problem.y, torch.full((2, 3, 2), torch.nan, dtype=torch.float64)], 1)
    out = run(problem, y=longer, mask=torch.isfinite(longer))
    expected = kalman_smoother(problem.y, **problem.parameters)
    smoothed = kalman_smoother(longer, **problem.parameters, mask=torch.isfinite(longer))
    torch.testing.assert_close(out.filtered_mean[:, :6], expected.filter.filtered_mean)
    torch.testing.assert_close(smoothed.smoothed_mean[:, :6], expected.smoothed_mean)


@pytest.mark.parametrize("implementation", BACKENDS)
@pytest.mark.parametrize("varies", VARIES)
def test_a_mask_that_is_true_everywhere_equals_no_mask(varies, implementation):
    problem = make_problem(varies=varies, full=True)
    for shape in (problem.y.shape, problem.y.shape[:2]):
        seen = torch.ones(shape, dtype=torch.bool)
        assert_same(run(problem, mask=seen, implementation=implementation), run(problem, implementation=implementation))


@pytest.mark.parametrize("implementation", BACKENDS)
def test_masked_values_do_not_change_the_result(implementation):
    problem = make_problem(varies="both", full=True, missing="channels")
    other = torch.where(problem.mask, problem.y, torch.full_like(problem.y, 1e6))
    assert_same(run(problem, implementation=implementation), run(problem, y=other, implementation=implementation))


def test_reordering_the_channels_does_not_change_the_result():
    problem = make_problem(varies="both", full=True, missing="channels", obs=4)
    order = torch.tensor([2, 0, 3, 1])
    p = problem.parameters
    permuted = run(
        problem,
        y=problem.y[..., order],
        mask=problem.mask[..., order],
        C=p["C"][..., order, :],
        R=p["R"][..., order, :][..., order],
    )
    out = run(problem)
    torch.testing.assert_close(permuted.filtered_mean, out.filtered_mean)
    torch.testing.assert_close(permuted.filtered_cov, out.filtered_cov)
    torch.testing.assert_close(permuted.log_likelihood, out.log_likelihood)
    torch.testing.assert_close(permuted.innovation, out.innovation[..., order])


def test_independent_channels_may_be_observed_one_after_the_other():
    problem = make_problem(time=1, obs=3, state=4)
    p = problem.parameters
    at_once = run(problem)
    # The same three observations in three steps in which the state does not change.
    still = {"A": torch.eye(4, dtype=torch.float64), "Q": torch.zeros(4, dtype=torch.float64), "b": None}
    mask = torch.eye(3, dtype=torch.bool)[[2, 0, 1]].expand(2, 3, 3)
    in_turn = run(problem, y=problem.y.expand(2, 3, 3), mask=mask, **still)
    assert p["R"].ndim == 1
    torch.testing.assert_close(in_turn.filtered_mean[:, -1], at_once.filtered_mean[:, 0])
    torch.testing.assert_close(in_turn.filtered_cov[:, -1], at_once.filtered_cov[:, 0])
    torch.testing.assert_close(in_turn.log_likelihood.sum(1), at_once.log_likelihood[:, 0])


@pytest.mark.parametrize("implementation", BACKENDS)
@pytest.mark.parametrize("t", [0, 2, 5])
def test_predictions_do_not_depend_on_the_present_observation(t, implementation):
    problem = make_problem(varies="both")
    moved = problem.y.clone()
    moved[:, t] += 1.0
    before, after = (run(problem, y=y, implementation=implementation) for y in (problem.y, moved))
    torch.testing.assert_close(after.predicted_mean[:, : t + 1], before.predicted_mean[:, : t + 1], rtol=0, atol=0)
    torch.testing.assert_close(after.filtered_mean[:, :t], before.filtered_mean[:, :t], rtol=0, atol=0)
    torch.testing.assert_close(after.log_likelihood[:, :t], before.log_likelihood[:, :t], rtol=0, atol=0)
    assert (after.filtered_mean[:, t] - before.filtered_mean[:, t]).abs().amax() > 1e-3
    assert (after.log_likelihood[:, t] - before.log_likelihood[:, t]).abs().amax() > 1e-3


@pytest.mark.parametrize("name", ["A", "b", "Q", "C", "R"])
@pytest.mark.parametrize("t", [1, 3])
def test_predictions_do_not_depend_on_later_parameters(name, t):
    """A[t], b[t], Q[t] lead into step t; C[t], R[t] are first used to update at t."""
    problem = make_problem(varies="both")
    changed = problem.parameters[name].clone()
    changed[:, t] *= 1.5
    before, after = run(problem), run(problem, **{name: changed})
    same = t if name in "AbQ" else t + 1
    for moment in ("predicted_mean", "predicted_cov"):
        torch.testing.assert_close(getattr(after, moment)[:, :same], getattr(before, moment)[:, :same], rtol=0, atol=0)
    change = [
        (getattr(after, moment) - getattr(before, moment)).abs().flatten(2).amax((0, 2))
        for moment in ("predicted_mean", "filtered_mean", "predicted_cov")
    ]
    assert max(c[t] for c in change) > 1e-6
    assert change[1][t] > 1e-6


def test_observing_decreases_and_predicting_increases_the_covariance():
    problem = make_problem(varies="both", full=True, missing="channels")
    problem.parameters["A"] = torch.eye(3, dtype=torch.float64)
    out = run(problem)
    gained = torch.linalg.eigvalsh(out.predicted_cov - out.filtered_cov)
    lost = torch.linalg.eigvalsh(out.predicted_cov[:, 1:] - out.filtered_cov[:, :-1])
    assert gained.min() > -1e-10
    assert lost.min() > 0


def test_diagonal_noise_equals_full_noise_with_the_same_variances():
    problem = make_problem(varies="both", missing="channels")
    p = problem.parameters
    assert_same(run(problem), run(problem, Q=p["Q"].diag_embed(), R=p["R"].diag_embed()))
