"""Simulated sessions with cells of their own on one track, and settings of a small model."""

from __future__ import annotations

import numpy as np

from kalmanssl import Recording

TINY = {"latent_dim": 6, "state_dim": 8, "hidden": (8,), "epochs": 2, "steps_per_epoch": 5, "batch_size": 32}
TINY |= {"window": 40, "bins_per_step": 2, "progress": False, "random_state": 0}


def laps(n_laps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the position on a track from 0 to 1, and the direction, of laps with a pause at one end."""
    position, direction = [], []
    for _ in range(n_laps):
        there, back = rng.integers(25, 35, 2)
        pause = rng.integers(15, 25)
        position += [np.linspace(0, 1, there), np.ones(pause), np.linspace(1, 0, back)]
        direction += [np.ones(there), np.zeros(pause), -np.ones(back)]
    return np.concatenate(position), np.concatenate(direction)


def make_session(
    name: str,
    n_units: int = 60,
    n_laps: int = 30,
    seed: int = 0,
    bin_size: float = 0.05,
    symmetric: bool = False,
) -> Recording:
    """Return place cells on a track; their fields depend on the direction.

    The code is denser at one end unless `symmetric`.
    """
    rng = np.random.default_rng(seed)
    position, direction = laps(n_laps, rng)
    centers = rng.beta(1.0, 1.0 if symmetric else 1.6, (n_units, 2))
    way = (direction < 0).astype(int)
    rates = 0.05 + 2.0 * np.exp(-0.5 * ((position[:, None] - centers[:, way].T) / 0.12) ** 2)
    counts = rng.poisson(rates)
    return Recording.from_arrays(
        counts, bin_size=bin_size, behavior={"position": position}, session=name,
        unit_ids=[f"{name}-{i}" for i in range(n_units)],
    )  # fmt: skip
