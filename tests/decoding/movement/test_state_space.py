"""Forward and backward pass on the grid, against hidden Markov models with enumerated states and paths."""

import itertools

import numpy as np
import pytest

from kalmanssl.decoding.grids._grid import Axis, Grid
from kalmanssl.decoding.movement import _state_space
from kalmanssl.decoding.movement._movement import Movement, MovementStatistics
from kalmanssl.decoding.movement._posterior_mass import posterior_marginals, posterior_mass
from kalmanssl.decoding.movement._readout_mass import ReadoutMass
from kalmanssl.decoding.movement._state_space import Transition, backward, forward, forward_step


def random_transition(rng, states, rows, columns, jump, circular=False):
    """A transition with arbitrary positive kernels, normalized so that all transitions sum to one."""

    def kernels(size):
        if not circular:
            return rng.uniform(0.01, 1, size=(states, size, size))
        offset = (np.arange(size) - np.arange(size)[:, None]) % size
        return np.ascontiguousarray(rng.uniform(0.01, 1, size=(states, size))[:, offset])

    along_rows, along_columns = kernels(rows), kernels(columns) if columns > 1 else np.ones((states, 1, 1))
    after = rng.uniform(0.1, 1, size=(states, rows, columns))
    before = 1 / np.einsum("sxX,syY,sXY->sxy", along_rows, along_columns, after)
    prior = rng.dirichlet(np.ones(states * rows * columns)).reshape(states, rows, columns)
    switching = rng.dirichlet(np.ones(states), size=states)
    return Transition(prior, along_rows, along_columns, before, after, switching, jump)


def dense_matrix(t):
    """Transition probabilities between all pairs (motion state, row, column), by enumeration."""
    states, rows, columns = t.prior.shape
    every = list(itertools.product(range(states), range(rows), range(columns)))
    matrix = np.empty((len(every), len(every)))
    for i, (s, x, y) in enumerate(every):
        for j, (S, X, Y) in enumerate(every):
            step = t.before[S, x, y] * t.along_rows[S, x, X] * t.along_columns[S, y, Y] * t.after[S, X, Y]
            matrix[i, j] = (1 - t.jump) * t.switching[s, S] * step + t.jump * t.prior[S, X, Y]
    return matrix


def dense_passes(likelihood, start, t):
    """Filtered and smoothed distributions by products with the dense matrix."""
    matrix, prior = dense_matrix(t), t.prior.ravel()
    emission = np.tile(likelihood.reshape(len(likelihood), -1), len(t.prior))
    filtered, message = np.empty((2, *emission.shape))
    for time in range(len(emission)):
        predicted = prior if start[time] else filtered[time - 1] @ matrix
        filtered[time] = predicted * emission[time] / (predicted @ emission[time])
    message[-1] = 1.0
    for time in range(len(emission) - 2, -1, -1):
        message[time] = 1.0 if start[time + 1] else matrix @ (message[time + 1] * emission[time + 1])
    smoothed = filtered * message
    smoothed /= smoothed.sum(axis=1, keepdims=True)
    return (part.reshape(-1, *t.prior.shape) for part in (filtered, smoothed))


CASES = {
    "one dimension": (1, 12, 1, 1e-4, False),
    "one dimension, three motion states": (3, 9, 1, 0.05, False),
    "circle, two motion states": (2, 10, 1, 1e-3, True),
    "two dimensions": (1, 5, 4, 0.01, False),
    "two dimensions, three motion states": (3, 4, 5, 0.2, False),
    "torus, two motion states": (2, 5, 4, 1e-4, True),
    "rows of two cells": (2, 5, 2, 0.01, False),
    "rows of three cells": (2, 3, 3, 0.01, False),
    "rows of two SIMD vectors": (2, 6, 13, 0.01, False),
    "rows of three SIMD vectors": (2, 4, 20, 1e-3, False),
    "rows of five SIMD vectors": (1, 7, 40, 0.01, False),
}


def problem(case, bins=60):
    """A transition, likelihoods with missing bins, and segments, some of them of one bin."""
    rng = np.random.default_rng(len(case))
    states, rows, columns, jump, circular = CASES[case]
    t = random_transition(rng, states, rows, columns, jump, circular)
    likelihood = rng.uniform(size=(bins, rows, columns)) ** 6
    likelihood[[0, 7, 8, 9, 30, bins - 1]] = 1.0
    start = np.zeros(bins, dtype=bool)
    start[[0, 20, 30, 31, 45]] = True
    return likelihood, start, t


@pytest.mark.parametrize("case", CASES)
def test_both_passes_match_a_dense_hidden_markov_model(case):
    likelihood, start, t = problem(case)
    np.testing.assert_allclose(dense_matrix(t).sum(axis=1), 1.0)
    expected_filtered, expected_smoothed = dense_passes(likelihood, start, t)
    filtered = forward(likelihood, start, t)
    np.testing.assert_allclose(filtered, expected_filtered, atol=1e-6, rtol=1e-5)
    smoothed = backward(filtered, likelihood, start, t)
    np.testing.assert_allclose(smoothed, expected_smoothed, atol=1e-6, rtol=1e-5)


def test_both_passes_match_the_sum_over_all_paths():
    rng = np.random.default_rng(0)
    t = random_transition(rng, 2, 3, 1, 0.1)
    likelihood = rng.uniform(size=(5, 3, 1))
    matrix, prior, emission = dense_matrix(t), t.prior.ravel(), np.tile(likelihood[:, :, 0], 2)
    filtered, smoothed = np.zeros((2, 5, 6))
    for length in range(1, 6):
        for path in itertools.product(range(6), repeat=length):
            weight = prior[path[0]] * emission[0, path[0]]
            for time in range(1, length):
                weight *= matrix[path[time - 1], path[time]] * emission[time, path[time]]
            filtered[length - 1, path[-1]] += weight
            if length == 5:
                smoothed[np.arange(5), path] += weight
    start = np.array([True, False, False, False, False])
    found = forward(likelihood, start, t)
    both = backward(found, likelihood, start, t)
    for result, expected in ((found, filtered), (both, smoothed)):
        np.testing.assert_allclose(
            result.reshape(5, -1), expected / expected.sum(axis=1, keepdims=True), atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize("case", CASES)
def test_compiled_passes_match_those_without_a_compiler(case, monkeypatch):
    likelihood, start, t = problem(case)
    filtered = forward(likelihood, start, t)
    smoothed = backward(filtered, likelihood, start, t)
    monkeypatch.setattr(_state_space, "has_compiler", lambda: False)
    plain = forward(likelihood, start, t)
    np.testing.assert_allclose(filtered, plain, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(smoothed, backward(plain, likelihood, start, t), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_forward_pass_continues_from_a_belief(case):
    likelihood, start, t = problem(case)
    whole = forward(likelihood, start, t)
    first = forward(likelihood[:25], start[:25], t)
    rest = forward(likelihood[25:], start[25:], t, first[-1].astype(float))
    np.testing.assert_allclose(np.concatenate([first, rest]), whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("circular", [False, True])
def test_leaving_out_negligible_entries_of_narrow_kernels_changes_nothing(circular):
    rng = np.random.default_rng(5)
    axes = tuple(Axis(0.0, 1.0, n, float(n) if circular else None) for n in (40, 30))
    statistics = MovementStatistics(
        Grid(axes),
        np.full((2, 40, 30), 1 / 2400),
        np.zeros((2, 2)),
        np.array([[0.3, 0.3], [1.0, 2.0]]),
        np.full((2, 2), 0.5),
    )
    t = Movement(statistics, 1.0, 1.0, 1e-4).transition()
    likelihood = rng.uniform(size=(50, 40, 30)) ** 6
    start = np.arange(50) == 0
    expected = _state_space._forward(likelihood, start, t.prior, t)
    found = forward(likelihood, start, t)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-9)
    smoothed = _state_space._backward(expected, likelihood, start, t, np.ones(t.prior.shape))
    np.testing.assert_allclose(backward(found, likelihood, start, t), smoothed, rtol=5e-5, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_single_steps_match_the_forward_pass(case):
    likelihood, start, t = problem(case)
    belief, beliefs = None, []
    for first, now in zip(start, likelihood, strict=True):
        belief = forward_step(None if first else belief, now, t)
        beliefs.append(belief)
    np.testing.assert_allclose(forward(likelihood, start, t), beliefs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_segments_are_independent_and_the_scale_of_a_likelihood_has_no_effect(case):
    likelihood, start, t = problem(case)
    filtered = forward(likelihood, start, t)
    smoothed = backward(filtered, likelihood, start, t)
    alone = likelihood[20:30], start[20:30]
    np.testing.assert_allclose(forward(*alone, t), filtered[20:30], rtol=1e-6)
    np.testing.assert_allclose(backward(filtered[20:30], *alone, t), smoothed[20:30], rtol=1e-6)
    scaled = likelihood * np.geomspace(1e-30, 1e20, len(likelihood))[:, None, None]
    np.testing.assert_allclose(forward(scaled, start, t), filtered, rtol=1e-5, atol=1e-9)


class KnownPrior:
    """A movement prior with a given transition, for likelihoods in place of the distributions of a readout."""

    def __init__(self, transition):
        self._transition = transition

    def transition(self):
        return self._transition

    def likelihood(self, mass):
        return mass.reshape(-1, *self._transition.prior.shape[1:]).copy()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rows", [7, 10, 1000])
def test_a_recording_smoothed_in_pieces_is_that_smoothed_at_once(case, rows, monkeypatch):
    likelihood, start, t = problem(case)
    prior = KnownPrior(t)
    monkeypatch.setattr("kalmanssl.decoding.movement._posterior_mass._ROWS", rows)
    given = ReadoutMass(likelihood, start, np.zeros(len(start), dtype=bool))
    found = posterior_mass(prior, given, smooth=True)
    expected = backward(forward(likelihood, start, t), likelihood, start, t).sum(axis=1)
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-5, atol=1e-7)
    nothing = ReadoutMass(likelihood[:0], start[:0], given.missing[:0])
    assert posterior_mass(prior, nothing, smooth=True).shape == likelihood[:0].shape


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_marginals_are_those_of_the_posterior(case, smooth, compiled, monkeypatch):
    likelihood, start, t = problem(case)
    monkeypatch.setattr("kalmanssl.decoding.movement._posterior_mass._ROWS", 25)
    monkeypatch.setattr("kalmanssl.decoding.movement._posterior_mass._FILTERED_ROWS", 7)
    if not compiled:
        monkeypatch.setattr("kalmanssl.decoding.movement._posterior_mass.has_compiler", lambda: False)
    shape = t.prior.shape[1:2] if t.prior.shape[2] == 1 else t.prior.shape[1:]
    given = ReadoutMass(likelihood.reshape(-1, *shape), start, np.zeros(len(start), dtype=bool))
    chosen = np.random.default_rng(0).uniform(size=len(start)) < 0.7
    chosen[14:21] = True  # one of the pieces
    for prior in (None, KnownPrior(t)):
        found = posterior_marginals(prior, given, smooth, chosen)
        posterior = posterior_mass(prior, given, smooth)[chosen]
        for axis, marginal in enumerate(found):
            others = tuple(1 + other for other in range(len(shape)) if other != axis)
            np.testing.assert_allclose(marginal, posterior.sum(axis=others), rtol=1e-5, atol=1e-7)
        assert len(found) == len(shape)
        none = posterior_marginals(prior, given, smooth, np.zeros_like(chosen))
        assert [one.shape for one in none] == [(0, n_cells) for n_cells in shape]


def test_a_long_recording_with_narrow_likelihoods_stays_finite():
    """A belief that is certain and wrong is left by a jump."""
    rng = np.random.default_rng(1)
    t = random_transition(rng, 1, 20, 1, 1e-4)
    likelihood = np.full((4000, 20, 1), 1e-12)
    likelihood[np.arange(4000), rng.integers(20, size=4000)] = 1.0
    start = np.arange(4000) == 0
    filtered = forward(likelihood, start, t)
    smoothed = backward(filtered, likelihood, start, t)
    for result in (filtered, smoothed):
        np.testing.assert_allclose(result.sum(axis=(1, 2, 3)), 1.0, rtol=1e-5)
