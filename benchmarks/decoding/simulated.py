"""Small simulated recordings for tests: a linear track, a ring of directions, and a plane."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from kalmanssl.data import Recording
from kalmanssl.datasets import place_cells

__all__ = ["arm", "ring", "track"]

BIN_SIZE = 0.05


def track() -> Recording:
    """Simulate four minutes of a rat on a linear track with 30 place cells."""
    return place_cells(n_units=30, duration=240.0, n_interneurons=0, bin_size=BIN_SIZE, random_state=0)


def ring() -> Recording:
    """Simulate 140 s of 20 cells that are tuned to head direction, with two gaps in time."""
    rng = np.random.default_rng(1)
    time = BIN_SIZE * (np.arange(2800) + 0.5)
    angle = np.cumsum(_smooth_noise(rng, len(time), 0.5)) * 2.5 * BIN_SIZE
    preferred = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    rate = 0.5 + 25 * np.exp(4 * (np.cos(angle[:, None] - preferred) - 1))
    counts = rng.poisson(rate * BIN_SIZE)
    kept = (time % 60 > 1.0) | (time < 10)
    return Recording.from_arrays(
        counts[kept], time=time[kept], bin_size=BIN_SIZE, behavior={"head_direction": (angle % (2 * np.pi))[kept]}
    )


def arm() -> Recording:
    """Simulate 200 s of 30 cells that are tuned to position and velocity in the plane."""
    rng = np.random.default_rng(2)
    time = BIN_SIZE * (np.arange(4000) + 0.5)
    position = 0.1 * np.stack([_smooth_noise(rng, len(time), 0.6) for _ in range(2)], axis=1)
    velocity = np.gradient(position, time, axis=0)
    drive = position / position.std(axis=0) @ rng.normal(size=(2, 30)) + velocity / velocity.std(axis=0) @ (
        0.5 * rng.normal(size=(2, 30))
    )
    rate = 8 * np.exp(0.7 * np.clip(drive, -3, 3))
    counts = rng.poisson(rate * BIN_SIZE)
    return Recording.from_arrays(
        counts, time=time, bin_size=BIN_SIZE, behavior={"position": position, "velocity": velocity}
    )


def _smooth_noise(rng: np.random.Generator, bins: int, time_constant: float) -> np.ndarray:
    """Return noise of variance one, filtered twice by an exponential, (bins,)."""
    decay = np.exp(-BIN_SIZE / time_constant)
    noise = rng.normal(size=bins)
    for _ in range(2):
        noise = lfilter([1 - decay], [1, -decay], noise)
    return noise / noise.std()
