"""The match of the latents of sessions by a Markov chain over hidden states."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.alignment import (
    LatentMap,
    MatchSettings,
    SessionLatents,
    SessionMatch,
    behavior_targets,
    fit_map,
    match_session,
    sliced_wasserstein,
)
from kalmanssl.errors import InputError

SETTINGS = MatchSettings(n_states=12, n_dims=3, n_runs=2, n_starts=20, n_candidates=4)


def curve(phase: np.ndarray) -> np.ndarray:
    """Return points (time, 3) on a closed curve without symmetry."""
    radius = 1 + 0.6 * np.cos(phase)
    return np.stack([radius * np.cos(phase), radius * np.sin(phase), 0.7 * np.sin(2 * phase + 0.5)], axis=1)


def simulate(seed: int, n_bins: int = 1500) -> tuple[SessionLatents, np.ndarray]:
    """Return latents that go around the curve, slowly in one part of it, with noise; and their phase."""
    rng = np.random.default_rng(seed)
    phase = np.zeros(n_bins)
    for t in range(1, n_bins):
        phase[t] = phase[t - 1] + 0.15 * (1 + 0.7 * np.sin(phase[t - 1])) + 0.05 * rng.standard_normal()
    clean = curve(phase)
    observed = clean + 0.3 * rng.standard_normal(clean.shape)
    smoothed = clean + 0.05 * rng.standard_normal(clean.shape)
    return SessionLatents(smoothed, observed, np.repeat([0, 1, 2], n_bins // 3), 1), phase


def transformed(latents: SessionLatents, matrix: np.ndarray) -> SessionLatents:
    """Return latents after a linear map and a shift."""
    smoothed, observed = (z @ matrix.T + 3 for z in (latents.smoothed, latents.observed))
    return SessionLatents(smoothed, observed, latents.segment, latents.bins_per_step)


def map_of(latents: SessionLatents, match: SessionMatch) -> LatentMap:
    """Return the map of the latents to the targets of the best candidate."""
    return fit_map(latents.smoothed, match.bins, match.targets[0], match.reference.mean, match.reference.cov)


@pytest.fixture(scope="module")
def matched():
    fitted, _ = simulate(0)
    latents, phase = simulate(1)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))
    unknown = transformed(latents, 2.0 * rotation)
    return unknown, phase, match_session([fitted], unknown, SETTINGS, 0)


def test_an_unknown_rotation_and_scale_of_the_latents_is_found(matched):
    unknown, phase, match = matched
    mapped = map_of(unknown, match)(unknown.smoothed)
    error = np.linalg.norm(mapped - curve(phase), axis=1)
    chance = np.linalg.norm(np.random.default_rng(0).permutation(mapped) - curve(phase), axis=1)
    assert error.mean() < 0.25 * chance.mean()


def test_the_mapped_latents_have_the_moments_of_the_fitted_sessions(matched):
    unknown, _, match = matched
    mapped = map_of(unknown, match)(unknown.smoothed)
    np.testing.assert_allclose(mapped.mean(0), match.reference.mean, atol=1e-8)
    np.testing.assert_allclose(np.cov(mapped.T), match.reference.cov, atol=1e-8)


def test_candidates_are_sorted_and_the_margin_is_that_to_a_different_solution(matched):
    *_, match = matched
    scores = [one.score for one in match.candidates]
    assert scores == sorted(scores, reverse=True)
    assert match.candidates[0].agreement == pytest.approx(1)
    different = [one.score for one in match.candidates if one.agreement < 0.5]
    assert match.margin == pytest.approx(min(scores[0] - max(different, default=-np.inf), 0.3))
    assert match.targets.shape == (len(scores), len(match.bins), 3)


def test_a_fitted_session_in_wrong_coordinates_is_outvoted(matched):
    """Two fitted sessions agree, and a third one was mirrored in its place."""
    unknown, phase, _ = matched
    fitted = [simulate(seed)[0] for seed in (0, 3)]
    wrong = transformed(simulate(4)[0], np.diag([-1.0, -1.0, -1.0]))
    mapped = map_of(unknown, match_session([wrong, *fitted], unknown, SETTINGS, 0))(unknown.smoothed)
    assert np.linalg.norm(mapped - curve(phase), axis=1).mean() < 0.5


def test_the_same_seed_gives_the_same_match(matched):
    unknown, _, match = matched
    again = match_session([simulate(0)[0]], unknown, SETTINGS, 0)
    np.testing.assert_array_equal(again.targets, match.targets)


def test_the_distance_of_distributions_is_zero_for_the_same_and_one_for_a_shift_of_one_sd():
    z = np.random.default_rng(0).standard_normal((4000, 3))
    assert sliced_wasserstein(z, z[::-1]) == pytest.approx(0, abs=1e-12)
    one_dimension = z[:, :1]
    assert sliced_wasserstein(one_dimension, one_dimension + 1) == pytest.approx(1, abs=0.05)


def test_targets_are_the_mean_latents_at_the_most_similar_known_behavior():
    fitted_behavior = np.array([[0.0], [1.0], [2.0], [10.0], [np.nan]])
    latents = np.arange(10.0).reshape(5, 2)
    bins, targets = behavior_targets(np.array([[np.nan], [0.4], [9.0]]), fitted_behavior, latents, n_neighbors=2)
    np.testing.assert_array_equal(bins, [1, 2])
    np.testing.assert_array_equal(targets, [latents[[0, 1]].mean(0), latents[[3, 2]].mean(0)])


def test_a_rotation_is_found_from_the_behavior():
    fitted, fitted_phase = simulate(0)
    latents, phase = simulate(1)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))
    unknown = transformed(latents, 2.0 * rotation)
    features = [np.stack([np.cos(angle), np.sin(angle)], axis=1) for angle in (phase, fitted_phase)]
    bins, targets = behavior_targets(*features, fitted.smoothed)
    mapping = fit_map(unknown.smoothed, bins, targets, fitted.smoothed.mean(0), np.cov(fitted.smoothed.T))
    assert np.linalg.norm(mapping(unknown.smoothed) - curve(phase), axis=1).mean() < 0.15


def test_settings_are_checked():
    with pytest.raises(InputError) as caught:
        MatchSettings(n_runs=0)
    assert caught.value.parameter == "n_runs"
