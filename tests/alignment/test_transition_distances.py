"""Distances between the transitions of sessions: they tell a path from its mirror image and from its reversal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kalmanssl.alignment import MatchCandidate, ReferenceStates, SessionLatents, SessionMatch, transition_distances
from kalmanssl.alignment._reference import StateChain


def path(n_rounds: int, seed: int) -> np.ndarray:
    """Return a path (time, 2) that goes fast along one side of an oval and slowly along the other one."""
    rng = np.random.default_rng(seed)
    phase = np.concatenate([np.linspace(0, 0.5, 10, endpoint=False), np.linspace(0.5, 1, 30, endpoint=False)])
    angle = 2 * np.pi * np.tile(phase, n_rounds)
    return np.stack([2 * np.cos(angle), np.sin(angle)], axis=1) + 0.05 * rng.standard_normal((len(angle), 2))


def session(latents: np.ndarray) -> SessionLatents:
    return SessionLatents(latents, latents, np.zeros(len(latents), dtype=int), 1)


def match(fitted: SessionLatents, targets: list[np.ndarray]) -> SessionMatch:
    mean, cov = fitted.smoothed.mean(0), np.cov(fitted.smoothed.T)
    chain = StateChain(np.eye(2), np.full(2, 0.5), np.full(2, 0.5))
    candidates = (MatchCandidate(0.0, 0.0, 0.0, 1.0),) * len(targets)
    reference = ReferenceStates(np.zeros((2, 2)), np.eye(2), chain, mean, cov)
    stacked = np.stack(targets)
    return SessionMatch(reference, np.arange(len(targets[0])), stacked, candidates, stacked[:0], 0.1)


@pytest.fixture(scope="module")
def sessions() -> tuple[SessionLatents, SessionLatents, SessionMatch]:
    """A fitted session, a new one with rotated latents, and two matches: the right one and the mirror image."""
    fitted, truth = session(path(40, 0)), path(30, 1)
    new = session(truth @ np.array([[0.6, -0.8], [0.8, 0.6]]))
    return fitted, new, match(fitted, [truth, truth * [-1.0, 1.0]])


def test_the_right_match_is_closer_than_the_mirror_image(sessions):
    fitted, new, both = sessions
    own, other = transition_distances(both, 0, new, [fitted], 5)
    assert own < 0.05
    assert other > 5 * own
    assert transition_distances(both, 1, new, [fitted], 5) == (other, own)


def test_without_a_different_match_there_is_nothing_to_compare_with(sessions):
    fitted, new, both = sessions
    alone = replace(both, targets=both.targets[:1], candidates=both.candidates[:1])
    own, other = transition_distances(alone, 0, new, [fitted, fitted], 5)
    assert own < 0.05
    assert other is None


def test_candidates_of_other_fitted_sessions_count(sessions):
    fitted, new, both = sessions
    wrong = replace(both, targets=both.targets[1:], candidates=both.candidates[1:], further_targets=both.targets[:1])
    assert transition_distances(wrong, 0, new, [fitted], 5) == transition_distances(both, 1, new, [fitted], 5)


def test_the_direction_of_time_counts(sessions):
    """Positions alone have the same distribution in a reversed path."""
    fitted, new, both = sessions
    reversed_ = SessionLatents(new.smoothed[::-1], new.observed[::-1], new.segment, 1)
    own, _ = transition_distances(replace(both, targets=both.targets[:, ::-1]), 0, reversed_, [fitted], 5)
    assert own > 0.1


def test_the_lag_is_shorter_in_short_segments(sessions):
    fitted, new, both = sessions
    short = replace(new, segment=np.arange(len(new.segment)) // 10)
    assert transition_distances(both, 0, short, [fitted], 500) == transition_distances(both, 0, short, [fitted], 5)
