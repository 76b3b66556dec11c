"""Maximum likelihood of the emissions of a hidden Markov model, against the recursions written as loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kalmanssl.alignment._emissions import _forward_backward

STARTS, SEQUENCES, STEPS, STATES = 3, 4, 9, 5


def forward_backward_in_loops(
    log_density: np.ndarray, P: np.ndarray, start: np.ndarray, length: int
) -> tuple[np.ndarray, float]:
    """Return the posterior (steps, states) of one sequence and its log-likelihood, in double precision."""
    largest = log_density.max(1)
    density = np.exp(log_density - largest[:, None])
    forward = np.zeros_like(density)
    total = 0.0
    state = start
    for step in range(length):
        forward[step] = (state if step == 0 else state @ P) * density[step]
        total += np.log(forward[step].sum()) + largest[step]
        forward[step] /= forward[step].sum()
        state = forward[step]
    backward = np.ones(len(P))
    posterior = np.zeros_like(density)
    for step in range(length - 1, -1, -1):
        posterior[step] = forward[step] * backward / (forward[step] @ backward)
        backward = P @ (density[step] * backward)
        backward /= backward.sum()
    return posterior, total


@pytest.mark.parametrize("range_of_log_density", [5.0, 1000.0])
def test_forward_backward_equals_loops_also_for_sequences_of_different_lengths(range_of_log_density):
    rng = np.random.default_rng(0)
    log_density = -range_of_log_density * rng.random((STARTS, SEQUENCES, STEPS, STATES))
    P = rng.dirichlet(np.ones(STATES), STATES)
    start = rng.dirichlet(np.ones(STATES), SEQUENCES)
    lengths = [STEPS, 1, STEPS - 2, 4]
    known = np.arange(STEPS) < np.array(lengths)[:, None]
    posterior, total = _forward_backward(
        *(torch.from_numpy(array).float() for array in (log_density, P, start)), torch.from_numpy(known)
    )
    for first in range(STARTS):
        expected = [
            forward_backward_in_loops(log_density[first, number], P, start[number], length)
            for number, length in enumerate(lengths)
        ]
        for number, (each, _) in enumerate(expected):
            np.testing.assert_allclose(posterior[first, number].numpy(), each, atol=1e-5)
        assert float(total[first]) == pytest.approx(sum(value for _, value in expected), rel=1e-5)
