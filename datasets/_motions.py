"""Motions of the dot in a video: the base class, and the motions in two dimensions.

A motion draws trajectories, each with its own initial phase, and computes the conditional mean of the next position
given the past, which is the reference for a learned predictor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ive

from kalmanssl.datasets._process_noise import PROCESS_NOISES, unit_noise
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_choice, check_condition

__all__ = ["Circular", "CircularJumps", "Figure8", "Motion", "Square", "Trajectories", "Wobbly", "stationary_path"]

_JUMP = np.exp(0.75j * np.pi)  # +135 degrees
_LOBES, _WOBBLE, _LOBE_PHASE = 4, 0.5, -3.0 * np.pi / 8.0  # k, a and theta_0 of the wobbly oscillator


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of a batch of videos.

    Attributes
    ----------
    position : ndarray
        True latents, (videos, frames, dims).
    predicted : ndarray
        Conditional mean of each position given the earlier ones, the same shape; NaN in frame 0.
    phase : ndarray or None
        Angle along the motion, radians, (videos, frames), where the motion has one.
    jumps : ndarray or None
        True where the position has just jumped, (videos, frames), for the motion with jumps.
    """

    position: np.ndarray
    predicted: np.ndarray
    phase: np.ndarray | None = None
    jumps: np.ndarray | None = None


@dataclass(frozen=True)
class Motion:
    """Base class of motions; the settings of a motion are its fields.

    Attributes
    ----------
    dims : int
        Number of latent dimensions.
    noise_variance : float
        Variance of the pixel noise in the experiment the motion belongs to.
    mixing : str
        Mixing function of that experiment.
    starts_at_full_noise : bool
        Whether the published generator gives the first frame the mean noise level whatever the noise type.
    """

    dims: int = 2
    noise_variance: ClassVar[float] = 0.0
    mixing: ClassVar[str] = "plain"
    starts_at_full_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_condition("dims", self.dims, self.dims == 2, "2 for this motion ('oscillators' has 2 to 10)")

    def extent(self, n_frames: int) -> float:
        """Bound on the absolute value of each coordinate over `n_frames` frames (with noise, almost certain)."""
        return 1.0

    def draw(self, seed: np.random.SeedSequence, n_videos: int, n_frames: int, published: bool) -> Trajectories:
        """Draw trajectories; a larger draw begins with the trajectories of a smaller one of the same seed.

        Parameters
        ----------
        seed : numpy.random.SeedSequence
            Seed of all random numbers.
        n_videos, n_frames : int
            Number of videos, and of frames in each.
        published : bool
            Start where the published generator starts, instead of at a random phase.
        """
        raise NotImplementedError

    def step(self, position: np.ndarray) -> np.ndarray:
        """Mean of the next position given this one, (..., dims)."""
        raise InputError(
            f"{type(self).__name__.lower()} has no step map: its next position follows from the phase, not from the "
            "position; `predicted` holds the conditional means"
        )

    def _check_rates(self) -> None:
        for name in ("dt", "period"):
            value = getattr(self, name, 1.0)
            check_condition(name, value, 0 < value < np.inf, "positive")
        variance = getattr(self, "process_variance", 0.0)
        check_condition("process_variance", variance, 0 <= variance < np.inf, "0 or more")


def stationary_path(
    step: Callable[[np.ndarray], np.ndarray], start: np.ndarray, shift: np.ndarray, burn_in: int
) -> Trajectories:
    """Return trajectories s_t = step(s_{t-1}) + shift_t after a burn-in.

    Parameters
    ----------
    step : callable
        Maps positions (videos, dims) to the means of the next ones.
    start : (videos, dims)
        Positions before the first frame of the burn-in.
    shift : (videos, burn_in + frames, dims)
        Noise.
    burn_in : int
        Frames that are discarded at the start.
    """
    frames = shift.shape[1]
    path = np.empty((frames, *start.shape))
    mean = np.empty_like(path)
    here = start
    for t in range(frames):
        mean[t] = step(here)
        here = path[t] = mean[t] + shift[:, t]
    mean[burn_in] = np.nan
    position, predicted = (np.ascontiguousarray(x[burn_in:].swapaxes(0, 1)) for x in (path, mean))
    return Trajectories(position, predicted)


def _start(rng: np.random.Generator, n_videos: int, published: bool) -> np.ndarray:
    """Initial phases, radians, (videos,)."""
    return np.zeros(n_videos) if published else rng.uniform(0.0, 2.0 * np.pi, n_videos)


def _pair(z: np.ndarray) -> np.ndarray:
    """Complex (...) as real (..., 2)."""
    return np.stack([z.real, z.imag], axis=-1)


def _complex(position: np.ndarray) -> np.ndarray:
    return position[..., 0] + 1j * position[..., 1]


def _after_first(expected: np.ndarray) -> np.ndarray:
    """Conditional means with NaN in frame 0, which has no past."""
    predicted = expected.copy()
    predicted[:, 0] = np.nan
    return predicted


@dataclass(frozen=True)
class Circular(Motion):
    """Around the unit circle: rotation by 2 pi dt / period, isotropic Gaussian noise, projection, jumps.

    Attributes
    ----------
    period, dt : float
        Duration of a lap, and of a frame.
    process_variance : float
        Variance of the noise in each coordinate, before the position is projected onto the circle.
    jump_rate : float
        Probability that a frame, from the second on, is a jump of +135 degrees.
    """

    period: float = 2.0
    dt: float = 0.1
    process_variance: float = 0.05
    jump_rate: float = 0.0
    noise_variance: ClassVar[float] = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_rates()
        check_condition("jump_rate", self.jump_rate, 0 <= self.jump_rate <= 1, "a probability per frame, 0 to 1")

    def draw(self, seed: np.random.SeedSequence, n_videos: int, n_frames: int, published: bool) -> Trajectories:
        """Draw trajectories, see `Motion.draw`."""
        first, noise, jump = (np.random.default_rng(s) for s in seed.spawn(3))
        jumps = jump.random((n_videos, n_frames)) < self.jump_rate
        jumps[:, 0] = False
        # Isotropic noise is the same in the rotating frame; only its angle remains after the projection.
        angle = np.zeros((n_videos, n_frames))
        if self.process_variance > 0:
            shift = np.sqrt(self.process_variance) * noise.standard_normal((n_videos, n_frames, 2))
            angle = np.arctan2(shift[..., 1], 1.0 + shift[..., 0])
        angle += 2.0 * np.pi * self.dt / self.period + np.where(jumps, np.angle(_JUMP), 0.0)
        angle[:, 0] = _start(first, n_videos, published)
        phase = np.cumsum(angle, axis=1)
        position = _pair(np.exp(1j * phase))
        predicted = np.full_like(position, np.nan)
        predicted[:, 1:] = self.step(position[:, :-1])
        return Trajectories(position, predicted, np.mod(phase, 2.0 * np.pi), jumps if self.jump_rate > 0 else None)

    def step(self, position: np.ndarray) -> np.ndarray:
        """Mean of the next position, (..., 2): a rotation, shortened by the noise of the angle and by the jumps.

        The mean length of a Gaussian N(e, v I) projected onto the circle, |e| = 1, is
        sqrt(pi / (8 v)) exp(-1 / (4 v)) (I_0 + I_1)(1 / (4 v)) (Mardia & Jupp, Directional Statistics, 3.5.6).
        """
        turn = np.exp(2j * np.pi * self.dt / self.period) * (1.0 + self.jump_rate * (_JUMP - 1.0))
        if self.process_variance > 0:
            x = 0.25 / self.process_variance
            turn *= np.sqrt(0.5 * np.pi * x) * (ive(0, x) + ive(1, x))
        return _pair(_complex(position) * turn)


@dataclass(frozen=True)
class CircularJumps(Circular):
    """`Circular` with the published jump rate, noiseless between the jumps."""

    process_variance: float = 0.0
    jump_rate: float = 0.01
    noise_variance: ClassVar[float] = 0.15


@dataclass(frozen=True)
class Square(Motion):
    """Around the square with corners (+-1, +-1) at constant speed, without process noise.

    Phase 0 is the corner (1, -1); the published generator then sets frame 0 to (1, 0).
    """

    period: float = 4.0
    dt: float = 0.2
    noise_variance: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_rates()

    def draw(self, seed: np.random.SeedSequence, n_videos: int, n_frames: int, published: bool) -> Trajectories:
        """Draw trajectories, see `Motion.draw`."""
        first = _start(np.random.default_rng(seed), n_videos, published) / (2.0 * np.pi)
        lap = np.mod(first[:, None] + np.arange(n_frames) * (self.dt / self.period), 1.0)
        side, along = np.divmod(4.0 * lap, 1.0)
        # The first side runs from (1, -1) to (1, 1); each next one is turned by a right angle.
        z = (1.0 + 1j * (2.0 * along - 1.0)) * np.array([1, 1j, -1, -1j])[side.astype(int) % 4]
        position = _pair(z)
        predicted = _after_first(position)
        if published:
            position[:, 0] = (1.0, 0.0)
        return Trajectories(position, predicted, 2.0 * np.pi * lap)


@dataclass(frozen=True)
class Figure8(Motion):
    """The figure eight (cos theta, sin theta cos theta) with theta = pi t dt / period, without process noise."""

    period: float = 1.0
    dt: float = 0.1
    noise_variance: ClassVar[float] = 0.01
    starts_at_full_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_rates()

    def draw(self, seed: np.random.SeedSequence, n_videos: int, n_frames: int, published: bool) -> Trajectories:
        """Draw trajectories, see `Motion.draw`."""
        first = _start(np.random.default_rng(seed), n_videos, published)
        theta = first[:, None] + np.pi * self.dt / self.period * np.arange(n_frames)
        position = np.stack([np.cos(theta), np.sin(theta) * np.cos(theta)], axis=-1)
        return Trajectories(position, _after_first(position), np.mod(theta, 2.0 * np.pi))


@dataclass(frozen=True)
class Wobbly(Motion):
    """A nonlinear oscillator whose radius wobbles four times a turn, with process noise.

    With polar coordinates r, theta: dr/dt = a k cos(k (theta - theta_0)), dtheta/dt = 1, k = 4, a = 1/2,
    theta_0 = -3 pi / 8; a frame is one Runge-Kutta step of fourth order of length dt, plus noise. The flow keeps
    r - a sin(k (theta - theta_0)), so the radius has no restoring force and the noise drives it outward; steps of 0.3
    conserve it only roughly at radii below 1, since the field is singular at the origin. Starts are uniform on the unit
    circle. (arXiv 2605.03517, equation 16.)

    Attributes
    ----------
    dt : float
        Time of a frame.
    process_variance : float
        Variance of the noise in each coordinate.
    process_noise : str
        Shape of the noise, a key of `PROCESS_NOISES`.
    """

    dt: float = 0.3
    process_variance: float = 0.1
    process_noise: str = "gaussian"
    mixing: ClassVar[str] = "swirl"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_rates()
        check_choice("process_noise", self.process_noise, tuple(PROCESS_NOISES))

    def extent(self, n_frames: int) -> float:
        """Bound exceeded by fewer than one video in ten thousand: the radius diffuses like a random walk."""
        return 1.0 + 2.0 * _WOBBLE + 4.0 * np.sqrt(self.process_variance * n_frames)

    def draw(self, seed: np.random.SeedSequence, n_videos: int, n_frames: int, published: bool) -> Trajectories:
        """Draw trajectories, see `Motion.draw`; the published generator starts at random here too."""
        first, noise = (np.random.default_rng(s) for s in seed.spawn(2))
        shift = _complex(unit_noise(self.process_noise, noise, (n_videos, n_frames, 2)))
        shift *= np.sqrt(self.process_variance)
        # Frames first: each step then works on neighboring memory.
        z = np.empty((n_frames, n_videos), dtype=complex)
        mean = np.full_like(z, np.nan + 1j * np.nan)
        z[0] = np.exp(1j * _start(first, n_videos, published=False))
        for t in range(1, n_frames):
            mean[t] = self._flow(z[t - 1])
            z[t] = mean[t] + shift[:, t]
        return Trajectories(_pair(z.T), _pair(mean.T), np.mod(np.angle(z.T), 2.0 * np.pi))

    def step(self, position: np.ndarray) -> np.ndarray:
        """Mean of the next position given this one, (..., 2)."""
        return _pair(self._flow(_complex(position)))

    def _flow(self, z: np.ndarray) -> np.ndarray:
        k1 = _wobbly_field(z)
        k2 = _wobbly_field(z + 0.5 * self.dt * k1)
        k3 = _wobbly_field(z + 0.5 * self.dt * k2)
        k4 = _wobbly_field(z + self.dt * k3)
        return z + self.dt / 6.0 * (k1 + 2.0 * (k2 + k3) + k4)


def _wobbly_field(z: np.ndarray) -> np.ndarray:
    radius = np.abs(z)
    # The angle of the origin is 0, as in atan2.
    direction = np.divide(z, radius, out=np.ones_like(z), where=radius > 0)
    lobes = direction * direction
    lobes *= lobes * np.exp(-1j * _LOBES * _LOBE_PHASE)
    return _WOBBLE * _LOBES * lobes.real * direction + 1j * z
