"""Ring scores of constructed laps: rotations with noise, lines and clouds."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.data import traversals
from kalmanssl.errors import InputError
from kalmanssl.probes import RingScores, coherent_rotations, ring_scores

STEP, LAP = 0.05, 80  # seconds, steps per lap
DIMS, LAPS = 6, 12
FIRST_HELD_OUT = 7 * LAP


def mixing(dims: int = DIMS) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(1).standard_normal((dims, dims)))[0]


def dynamics(modulus: float = 0.99, turn: float = 2 * np.pi / LAP) -> np.ndarray:
    """A rotation in the first two of the mixed dimensions, decay in the others."""
    block = np.diag([0.0, 0.0, 0.9, 0.8, 0.5, 0.3])
    block[:2, :2] = modulus * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return mixing() @ block @ mixing().T


def laps(count: int = LAPS) -> tuple[np.ndarray, np.ndarray]:
    """Position from 0 to 1 and back, and the fraction of the lap."""
    lap = np.arange(count * LAP) / LAP % 1
    return 1 - np.abs(2 * lap - 1), lap


def embed(plane: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """States with given coordinates (time, 2) in the dimensions of the rotation and small noise in all dimensions."""
    states = noise * np.random.default_rng(seed).standard_normal((len(plane), DIMS))
    states[:, :2] += plane
    return states @ mixing().T


def scores(states: np.ndarray, A: np.ndarray | None = None, **settings: object) -> RingScores:
    position, _ = laps(len(states) // LAP)
    time = STEP * np.arange(len(states))
    arguments = {"A": dynamics() if A is None else A, "position": position, "time": time} | settings
    arguments.setdefault("traversal", traversals(position, 0.08, 0.92))
    arguments.setdefault("held_out", time >= STEP * FIRST_HELD_OUT)
    return ring_scores(states, step=STEP, **arguments)  # type: ignore[arg-type]


def ring(noise: float, seed: int = 0, turns: float = 1.0) -> np.ndarray:
    angle = 2 * np.pi * turns * laps()[1]
    return embed(np.stack([np.cos(angle), np.sin(angle)], axis=1), noise, seed)


# Rotations of the dynamics


def test_eigenvalue_period_and_decay_of_a_rotation_are_those_of_the_matrix() -> None:
    (found,) = coherent_rotations(dynamics(modulus=0.99), STEP)
    np.testing.assert_allclose(found.eigenvalue, 0.99 * np.exp(2j * np.pi / LAP), atol=1e-12)
    np.testing.assert_allclose([found.period, found.decay_time], [LAP * STEP, -STEP / np.log(0.99)])
    assert found.projection.shape == (DIMS, 2)


def test_projected_states_are_multiplied_by_the_eigenvalue_in_every_step() -> None:
    A, center = dynamics(), np.arange(DIMS) / 3
    (found,) = coherent_rotations(A, STEP)
    state = np.random.default_rng(3).standard_normal((5, DIMS))
    before, after = (found.project(h, center) @ [1, 1j] for h in (state, (state - center) @ A.T + center))
    np.testing.assert_allclose(after, found.eigenvalue * before)


def test_rotations_are_ordered_by_period_and_those_that_decay_before_they_turn_are_left_out() -> None:
    A = np.zeros((6, 6))
    for i, (modulus, period) in enumerate(((0.95, 10), (0.98, 60), (0.4, 300))):
        angle = 2 * np.pi / period
        A[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = modulus * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
    np.testing.assert_allclose([r.period for r in coherent_rotations(A, 1.0)], [60, 10])


def test_real_eigenvalues_are_no_rotations() -> None:
    assert coherent_rotations(np.diag([0.9, -0.5, 1.0]), 1.0) == []


def test_undamped_rotation_never_decays() -> None:
    assert coherent_rotations([[0.0, -1.0], [1.0, 0.0]], 1.0)[0].decay_time == np.inf


# Scores


def test_perfect_ring_has_the_scores_of_a_circle() -> None:
    found = scores(ring(noise=0.0))
    np.testing.assert_allclose(found.lap_time, LAP * STEP)
    np.testing.assert_allclose(found.lap_time, found.rotation.period)
    assert found.radius_variation < 1e-9
    np.testing.assert_allclose([found.turns_per_lap, found.turns_sd, found.one_turn_laps], [1, 0, 1], atol=1e-9)
    assert found.phase_r2 > 0.99  # not 1: the phase varies inside the cells
    assert found.n_laps == 8  # ten held-out traversals: a lap begins with each but the last two


def test_noise_widens_the_ring_as_expected() -> None:
    noise = 0.15
    found = scores(ring(noise))
    # The radius has the noise of one coordinate; the phase that of the other, divided by the radius.
    np.testing.assert_allclose(found.radius_variation, noise, rtol=0.1)
    np.testing.assert_allclose(found.phase_r2, 1 - noise**2, atol=0.015)
    assert found.one_turn_laps == 1


def test_scores_do_not_depend_on_the_scale_or_the_center_of_the_states() -> None:
    states, center = ring(0.1), np.arange(DIMS) / 2
    first, second = scores(states), scores(7 * states + center, center=center)
    for name in ("radius_variation", "turns_per_lap", "turns_sd", "phase_r2"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name))
    np.testing.assert_allclose(
        np.linalg.norm(second.coordinates, axis=1), 7 * np.linalg.norm(first.coordinates, axis=1)
    )


def test_line_beside_the_center_has_no_turns() -> None:
    position = laps()[0]
    found = scores(embed(np.stack([2 * position - 1, np.full_like(position, 0.5)], axis=1), 0.01))
    np.testing.assert_allclose([found.turns_per_lap, found.turns_sd], 0, atol=0.02)
    assert found.one_turn_laps == 0


def test_line_through_the_center_turns_either_way_and_has_a_variable_radius() -> None:
    """The phase passes the center on a random side, by half a turn, in each of two traversals: -1, 0, 0 or 1 turns."""
    position = laps(200)[0]
    found = scores(embed(np.stack([2 * position - 1, 0 * position], axis=1), 0.01))
    np.testing.assert_allclose([found.turns_per_lap, found.turns_sd], [0, np.sqrt(0.5)], atol=0.15)
    np.testing.assert_allclose(found.one_turn_laps, 0.25, atol=0.1)
    assert found.radius_variation > 0.4


def test_cloud_of_noise_has_no_ring() -> None:
    plane = np.random.default_rng(0).standard_normal((LAPS * LAP, 2))
    found = scores(embed(plane))
    np.testing.assert_allclose(found.radius_variation, np.sqrt(4 / np.pi - 1), rtol=0.1)
    assert abs(found.phase_r2) < 0.15
    assert found.turns_sd > 1
    assert found.one_turn_laps < 0.5


def test_two_turns_per_lap_are_counted() -> None:
    found = scores(ring(0.02, turns=2.0))
    np.testing.assert_allclose(found.turns_per_lap, 2, atol=0.02)
    assert found.one_turn_laps == 0
    assert found.phase_r2 > 0.9


def test_ring_against_the_direction_of_the_dynamics_has_negative_turns() -> None:
    np.testing.assert_allclose(scores(ring(0.02, turns=-1.0)).turns_per_lap, -1, atol=0.02)


def test_states_outside_traversals_do_not_change_the_scores() -> None:
    states, outside = ring(0.1), traversals(laps()[0], 0.08, 0.92) < 0
    changed = states.copy()
    changed[outside] = 100 * np.random.default_rng(0).standard_normal((outside.sum(), DIMS))
    first, second = scores(states), scores(changed)
    for name in ("radius_variation", "turns_per_lap", "turns_sd", "phase_r2", "lap_time"):
        assert getattr(first, name) == getattr(second, name)


def test_rest_between_traversals_lengthens_the_lap_time_only() -> None:
    time = STEP * np.arange(LAPS * LAP) + 10.0 * (np.arange(LAPS * LAP) // (LAP // 2))
    rested, first = scores(ring(0.1), time=time), scores(ring(0.1))
    np.testing.assert_allclose(rested.lap_time, first.lap_time + 20)
    assert rested.turns_per_lap == first.turns_per_lap


def test_phase_that_changed_its_meaning_after_the_fit_is_not_predicted() -> None:
    states = ring(0.05)
    rotated = embed(np.stack([-1.0 * np.cos(2 * np.pi * laps()[1]), -np.sin(2 * np.pi * laps()[1])], axis=1), 0.05)
    states[FIRST_HELD_OUT:] = rotated[FIRST_HELD_OUT:]
    found = scores(states)
    assert found.phase_r2 < 0
    assert found.one_turn_laps == 1


@pytest.mark.parametrize(
    ("settings", "parameter", "message"),
    [
        ({"A": np.eye(DIMS)}, "A", "no pair"),
        ({"A": dynamics()[:4]}, "A", "square"),
        ({"A": np.array([[0.0, -1.0], [1.0, 0.0]])}, "A", "2 states"),
        ({"rotation": 3}, "rotation", "below 1"),
        ({"center": np.zeros(3)}, "center", "3 states"),
        ({"time": np.arange(5)}, "time", "shape"),
        ({"held_out": np.ones(LAPS * LAP)}, "held_out", "at least 2"),
        ({"held_out": np.zeros(LAPS * LAP)}, "held_out", "no lap"),
        ({"position": np.full(LAPS * LAP, np.nan)}, "position", "NaN"),
    ],
)
def test_wrong_arguments_are_named(settings: dict[str, object], parameter: str, message: str) -> None:
    extra = {"traversal": traversals(laps()[0], 0.08, 0.92)}
    with pytest.raises(InputError, match=message) as raised:
        scores(ring(0.1), **(extra | settings))
    assert raised.value.parameter == parameter
