"""The Lorenz system with process noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kalmanssl.datasets._motions import Motion, Trajectories, stationary_path
from kalmanssl.datasets._process_noise import PROCESS_NOISES, unit_noise
from kalmanssl.utils.validation import check_choice, check_condition

__all__ = ["Lorenz"]

_SIGMA, _RHO, _BETA = 10.0, 28.0, 8.0 / 3.0
_CENTER, _SCALE = np.array([0.0, 0.0, 23.5]), np.array([7.9, 9.0, 8.6])  # mean and standard deviation on the attractor
_SUBSTEPS = 4  # Runge-Kutta steps per frame
_BURN_IN = 150  # frames discarded at the start, so that the trajectories are on the attractor


@dataclass(frozen=True)
class Lorenz(Motion):
    """The Lorenz system in coordinates with mean 0 and variance 1, with noise of constant covariance.

    With x = (0, 0, 23.5) + (7.9, 9.0, 8.6) s: dx_1/dt = 10 (x_2 - x_1), dx_2/dt = x_1 (28 - x_3) - x_2,
    dx_3/dt = x_1 x_2 - 8/3 x_3 (Lorenz 1963, J. Atmos. Sci. 20:130). A frame is four Runge-Kutta steps of fourth order
    of total length dt, plus noise. Trajectories start on the attractor.

    Attributes
    ----------
    dt : float
        Time of a frame, at most 0.1.
    process_variance : float
        Variance of the noise in each coordinate of s.
    process_noise : str
        Shape of the noise, a key of `PROCESS_NOISES`.
    """

    dims: int = 3
    dt: float = 0.03
    process_variance: float = 0.02
    process_noise: str = "gaussian"
    mixing: ClassVar[str] = "network"
    starts_at_full_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_condition("dims", self.dims, self.dims == 3, "3 for this motion ('oscillators' has 2 to 10)")
        self._check_rates()
        check_condition("dt", self.dt, self.dt <= 0.1, "at most 0.1, since longer steps are not stable")
        check_choice("process_noise", self.process_noise, tuple(PROCESS_NOISES))

    def draw(self, seed: np.random.SeedSequence, n_videos: int, n_frames: int, published: bool) -> Trajectories:
        """Draw trajectories, see `Motion.draw`; there is no published generator of these."""
        first, noise = (np.random.default_rng(s) for s in seed.spawn(2))
        shift = unit_noise(self.process_noise, noise, (n_videos, _BURN_IN + n_frames, 3))
        shift *= np.sqrt(self.process_variance)
        return stationary_path(self.step, first.standard_normal((n_videos, 3)), shift, _BURN_IN)

    def step(self, position: np.ndarray) -> np.ndarray:
        """Mean of the next position given this one, (..., 3)."""
        x = _CENTER + _SCALE * position
        h = self.dt / _SUBSTEPS
        for _ in range(_SUBSTEPS):
            k1 = _field(x)
            k2 = _field(x + 0.5 * h * k1)
            k3 = _field(x + 0.5 * h * k2)
            k4 = _field(x + h * k3)
            x = x + h / 6.0 * (k1 + 2.0 * (k2 + k3) + k4)
        return (x - _CENTER) / _SCALE


def _field(x: np.ndarray) -> np.ndarray:
    a, b, c = np.moveaxis(x, -1, 0)
    return np.stack([_SIGMA * (b - a), a * (_RHO - c) - b, a * b - _BETA * c], axis=-1)
