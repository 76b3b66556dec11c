"""Motions in more dimensions: coupled oscillators in 2 to 10 dimensions, and a random walk on the sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kalmanssl.datasets._motions import Motion, Trajectories, stationary_path
from kalmanssl.datasets._process_noise import PROCESS_NOISES, unit_noise
from kalmanssl.utils.validation import check_choice, check_condition

__all__ = ["Oscillators", "Sphere"]

_OUTER, _INNER = 0.5, 0.9  # slope far from the origin, and the additional slope of tanh at the origin
_SLOWEST, _FASTER = 0.3, 0.15  # rad per frame of the first rotation, and the increment of each next one
_BURN_IN = 40  # frames discarded at the start, so that the trajectories are stationary
_TURN, _TWIST, _TILT = 0.3, 0.8, 0.4  # rad per frame on the sphere


@dataclass(frozen=True)
class Oscillators(Motion):
    """Coupled nonlinear oscillators in 2 to 10 dimensions, with noise of constant covariance.

    s_t = R f(s_{t-1}) + noise, f(u) = u / 2 + 0.9 tanh(u) in every coordinate, R a rotation: one angle per pair of
    directions (0.3, 0.45, ... rad per frame, none for the odd direction out) in a basis drawn once per number of
    dimensions, so that all coordinates are coupled. The step map is a smooth bijection whose Jacobian R f'(s) has
    singular values between 0.5 and 1.4 everywhere: full rank, as the identifiability theorem requires, and well
    conditioned. The origin repels, far from it the map halves distances, so |s| stays bounded in mean square, and the
    trajectories rotate around the origin at a distance of order one per coordinate. They start in the stationary
    distribution. (The system of the paper's experiment in higher dimensions is not published; this one is ours.)

    Attributes
    ----------
    dims : int
        Number of dimensions, 2 to 10.
    process_variance : float
        Variance of the noise in each coordinate.
    process_noise : str
        Shape of the noise, a key of `PROCESS_NOISES`.
    """

    dims: int = 5
    process_variance: float = 0.1
    process_noise: str = "gaussian"
    mixing: ClassVar[str] = "network"
    starts_at_full_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_condition("dims", self.dims, self.dims in range(2, 11), "a whole number from 2 to 10")
        self._check_rates()
        check_choice("process_noise", self.process_noise, tuple(PROCESS_NOISES))

    def extent(self, n_frames: int) -> float:
        """Bound of the noiseless attractor, |s| <= 0.9 sqrt(dims) / (1 - 0.5), plus five deviations of the noise."""
        attractor = _INNER * np.sqrt(self.dims) / (1.0 - _OUTER)
        return float(attractor + 5.0 * np.sqrt(self.process_variance / (1.0 - _OUTER**2)))

    def rotation(self) -> np.ndarray:
        """The rotation R, (dims, dims)."""
        basis, _ = np.linalg.qr(np.random.default_rng(self.dims).standard_normal((self.dims, self.dims)))
        turn = np.eye(self.dims)
        for pair in range(self.dims // 2):
            angle = _SLOWEST + _FASTER * pair
            cos, sin = np.cos(angle), np.sin(angle)
            turn[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = [[cos, -sin], [sin, cos]]
        return basis @ turn @ basis.T

    def draw(self, seed: np.random.SeedSequence, n_videos: int, n_frames: int, published: bool) -> Trajectories:
        """Draw trajectories, see `Motion.draw`; there is no published generator of these."""
        first, noise = (np.random.default_rng(s) for s in seed.spawn(2))
        rotation = self.rotation().T
        shift = unit_noise(self.process_noise, noise, (n_videos, _BURN_IN + n_frames, self.dims))
        shift *= np.sqrt(self.process_variance)

        def step(here: np.ndarray) -> np.ndarray:
            return (_OUTER * here + _INNER * np.tanh(here)) @ rotation  # the rotation is made once

        return stationary_path(step, first.standard_normal((n_videos, self.dims)), shift, _BURN_IN)

    def step(self, position: np.ndarray) -> np.ndarray:
        """Mean of the next position given this one, (..., dims)."""
        return (_OUTER * position + _INNER * np.tanh(position)) @ self.rotation().T


@dataclass(frozen=True)
class Sphere(Motion):
    """A random walk on the unit sphere in three dimensions whose steps have a von Mises-Fisher distribution.

    s_t ~ vMF(m(s_{t-1}), kappa), where m rotates a point about the vertical axis by 0.3 + 0.8 z rad (z is its
    height, so m is not linear), then rotates it by 0.4 rad about the first axis. m is a smooth
    bijection of the sphere that preserves areas, and so does the noise, so positions are uniform on the sphere at all
    times.

    Attributes
    ----------
    process_variance : float
        1 / kappa, which for a large kappa is the variance in each direction along the sphere.
    """

    dims: int = 3
    process_variance: float = 0.1
    mixing: ClassVar[str] = "network"
    starts_at_full_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_condition("dims", self.dims, self.dims == 3, "3 for this motion ('oscillators' has 2 to 10)")
        v = self.process_variance
        check_condition("process_variance", v, 0 < v < np.inf, "positive (it is 1 / kappa)")

    def draw(self, seed: np.random.SeedSequence, n_videos: int, n_frames: int, published: bool) -> Trajectories:
        """Draw trajectories, see `Motion.draw`; there is no published generator of these."""
        first, height, around = (np.random.default_rng(s) for s in seed.spawn(3))
        # Steps around the north pole; the height has the density exp(kappa w), inverted in closed form (Wood 1994).
        kappa = 1.0 / self.process_variance
        u = 1.0 - height.random((n_videos, n_frames))
        w = 1.0 + np.log(u + (1.0 - u) * np.exp(-2.0 * kappa)) / kappa
        aside = np.sqrt(np.maximum(0.0, 1.0 - w * w)) * np.exp(2j * np.pi * around.random((n_videos, n_frames)))
        steps = np.stack([aside.real, aside.imag, w], axis=-1)

        start = first.standard_normal((n_videos, 3))
        path = np.empty((n_frames, n_videos, 3))
        mean = np.full_like(path, np.nan)
        path[0] = start / np.linalg.norm(start, axis=-1, keepdims=True)
        for t in range(1, n_frames):
            direction = self.direction(path[t - 1])
            moved = _from_pole(steps[:, t], direction)
            path[t] = moved / np.linalg.norm(moved, axis=-1, keepdims=True)
            mean[t] = self.mean_length * direction
        position, predicted = (np.ascontiguousarray(x.swapaxes(0, 1)) for x in (path, mean))
        return Trajectories(position, predicted)

    @property
    def mean_length(self) -> float:
        """Length of the mean of a von Mises-Fisher distribution, coth(kappa) - 1 / kappa."""
        return float(1.0 / np.tanh(1.0 / self.process_variance) - self.process_variance)

    def direction(self, position: np.ndarray) -> np.ndarray:
        """Mean direction m of the next position, (..., 3), of length one."""
        z = position[..., 2]
        turned = (position[..., 0] + 1j * position[..., 1]) * np.exp(1j * (_TURN + _TWIST * z))
        tilted = (turned.imag + 1j * z) * np.exp(1j * _TILT)
        return np.stack([turned.real, tilted.real, tilted.imag], axis=-1)

    def step(self, position: np.ndarray) -> np.ndarray:
        """Mean of the next position given this one, (..., 3): inside the sphere, along `direction`."""
        return self.mean_length * self.direction(position)


def _from_pole(points: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Map points around the north pole to points around a direction, by an isometry of the sphere."""
    # A reflection that takes the pole to -direction or to direction, whichever is farther from it, hence stable.
    side = np.where(direction[..., 2:] < 0, -1.0, 1.0)
    normal = side * direction
    normal[..., 2] += 1.0
    along = (points * normal).sum(-1, keepdims=True) / (0.5 * (normal * normal).sum(-1, keepdims=True))
    return -side * (points - along * normal)
