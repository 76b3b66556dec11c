"""Simulated recordings: small ones for tests, and kinds of recordings that the data folder does not have.

The small ones are a linear track, a ring of directions, and a plane. The others have what makes such recordings hard:
firing rates that fluctuate by gains of their own, place fields that move, theta rhythm, cells that are hardly tuned,
calcium signals with noise that all channels share, and an offset between code and heading that drifts.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from kalmanssl.data import Recording
from kalmanssl.datasets import place_cells

__all__ = ["arm", "compass", "grid_cells", "open_field", "ring", "track"]

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


SPIKE_BIN, FRAME = 0.025, 0.1  # s


def open_field(peak: float = 6.0, duration: float = 900.0) -> Recording:
    """Simulate 63 cells of hippocampus while a rat forages in a box of 1 m; `peak` is the median peak rate, Hz.

    Three in four cells have one to three place fields, which move with time. The others are weakly modulated.
    """
    rng = np.random.default_rng(3)
    position = _foraging(rng, round(duration / SPIKE_BIN))
    bins = len(position)
    theta = 2 * np.pi * SPIKE_BIN * np.cumsum(8 + 0.3 * _slow(rng, bins, 1.0, SPIKE_BIN))
    rate = np.empty((bins, 63))
    for cell in range(rate.shape[1]):
        tuning = rng.lognormal(np.log(0.15), 0.6) * np.ones(bins)
        if rng.random() < 0.75:
            top = rng.lognormal(np.log(peak), 0.6)
            moves = 0.05 * np.linspace(0, 1, bins)[:, None] * rng.normal(size=2)
            for _ in range(rng.integers(1, 4)):
                distance = position - rng.random(2) - moves
                tuning += top * np.exp(-0.5 * (distance**2).sum(axis=1) / rng.uniform(0.07, 0.14) ** 2)
        else:
            wave = np.sin(2 * np.pi * (position @ rng.normal(size=2) + rng.random()))
            tuning = rng.lognormal(0, 0.8) * (1 + 0.4 * wave)
        rate[:, cell] = tuning * _gain(rng, bins, 0.5) * (1 + 0.6 * np.cos(theta + rng.uniform(0, 2 * np.pi)))
    return _spikes(rng, rate, position)


def grid_cells(duration: float = 900.0) -> Recording:
    """Simulate 40 grid cells in four modules while a rat forages in a box of 1 m; every fourth prefers a heading."""
    rng = np.random.default_rng(4)
    position = _foraging(rng, round(duration / SPIKE_BIN))
    velocity = np.gradient(position, axis=0)
    heading = np.arctan2(velocity[:, 1], velocity[:, 0])
    rate = np.empty((len(position), 40))
    for cell in range(rate.shape[1]):
        spacing, rotation = [(0.3, 0.1), (0.42, 0.25), (0.59, 0.15), (0.83, 0.3)][cell // 10]
        angles = rotation + np.pi / 3 * np.arange(3)
        waves = np.stack([np.cos(angles), np.sin(angles)]) * 4 * np.pi / (np.sqrt(3) * spacing)
        lattice = np.cos((position - rng.random(2)) @ waves).sum(axis=1)
        tuning = rng.lognormal(np.log(10), 0.4) * np.exp(0.6 * (lattice - 3)) + 0.2
        if cell % 4 == 0:
            tuning *= 1.5 * np.exp(1.5 * (np.cos(heading - rng.uniform(0, 2 * np.pi)) - 1))
        rate[:, cell] = tuning * _gain(rng, len(position), 0.4)
    return _spikes(rng, rate, position)


def compass(duration: float = 1200.0) -> Recording:
    """Simulate calcium signals of 16 sectors of the ellipsoid body of a walking fly, in frames of 100 ms.

    A bump of activity follows the heading with a delay of 0.3 s and an offset that drifts.
    """
    rng = np.random.default_rng(5)
    bins = round(duration / FRAME)
    walks = _slow(rng, bins, 4.0, FRAME) > -0.4
    turns = 1.6 * _slow(rng, bins, 0.5, FRAME) * walks
    heading = np.cumsum(turns) * FRAME
    offset = 0.006 * np.cumsum(rng.normal(size=bins)) + 0.3 * _slow(rng, bins, 20.0, FRAME)
    bump = _past_average(heading, 0.3, FRAME) + offset
    amplitude = (0.6 + 0.4 * np.minimum(_past_average(np.abs(turns), 1.0, FRAME), 1.5)) * _gain(rng, bins, 0.2, FRAME)
    sectors = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    signal = _past_average(amplitude[:, None] * np.exp(2 * (np.cos(bump[:, None] - sectors) - 1)), 0.8, FRAME)
    signal = signal * rng.lognormal(0, 0.3, size=16) + 0.1 * rng.normal(size=signal.shape)
    signal += 0.1 * _slow(rng, bins, 60.0, FRAME)[:, None] + 0.1 * _slow(rng, bins, 0.5, FRAME)[:, None]
    time = FRAME * (np.arange(bins) + 0.5)
    behavior = {"head_direction": heading % (2 * np.pi)}
    return Recording.from_arrays(signal, time=time, bin_size=FRAME, behavior=behavior, kind="signal")


def _spikes(rng: np.random.Generator, rate: np.ndarray, position: np.ndarray) -> Recording:
    """Return a recording with spike counts of rates (time, cells), Hz."""
    time = SPIKE_BIN * (np.arange(len(rate)) + 0.5)
    counts = rng.poisson(rate * SPIKE_BIN)
    return Recording.from_arrays(counts, time=time, bin_size=SPIKE_BIN, behavior={"position": position})


def _foraging(rng: np.random.Generator, bins: int) -> np.ndarray:
    """Return positions (bins, 2) of a walk in a box of 1 m with rests; velocities are correlated over 0.7 s."""
    moves = _slow(rng, bins, 5.0, SPIKE_BIN) > -0.8
    velocity = 0.15 * np.stack([_slow(rng, bins, 0.7, SPIKE_BIN) for _ in range(2)], axis=1) * moves[:, None]
    walk = (rng.random(2) + SPIKE_BIN * np.cumsum(velocity, axis=0)) % 2
    return np.minimum(walk, 2 - walk)


def _gain(rng: np.random.Generator, bins: int, sd: float, bin_size: float = SPIKE_BIN) -> np.ndarray:
    """Return a positive gain with mean one that fluctuates over 2 s; `sd` is that of its logarithm, (bins,)."""
    return np.exp(sd * _slow(rng, bins, 2.0, bin_size) - sd**2 / 2)


def _slow(rng: np.random.Generator, bins: int, time_constant: float, bin_size: float) -> np.ndarray:
    """Return an autoregressive process with variance one and a time constant in seconds, (bins,)."""
    decay = np.exp(-bin_size / time_constant)
    return lfilter([np.sqrt(1 - decay**2)], [1, -decay], rng.normal(size=bins))


def _past_average(values: np.ndarray, time_constant: float, bin_size: float) -> np.ndarray:
    """Return exponential averages over the past along the first axis; the time constant is in seconds."""
    decay = np.exp(-bin_size / time_constant)
    return lfilter([1 - decay], [1, -decay], values, axis=0)


def _smooth_noise(rng: np.random.Generator, bins: int, time_constant: float) -> np.ndarray:
    """Return noise of variance one, filtered twice by an exponential, (bins,)."""
    noise = rng.normal(size=bins)
    for _ in range(2):
        noise = _past_average(noise, time_constant, BIN_SIZE)
    return noise / noise.std()
