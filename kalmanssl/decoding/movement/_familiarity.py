"""The weight of a readout's distribution in bins whose latents are unlike those of the fit.

A readout extrapolates: its distribution can be narrow also for latents that resemble no fitted bin, such as those
during an unusual rest. Such latents are recognized by their distance to the nearest fitted bins, without the behavior.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

__all__ = ["Familiarity", "temper"]

_FAMILIAR_SHARE = 0.8  # fraction of the held-out bins whose distance counts as usual


@dataclass(frozen=True)
class Familiarity:
    """Weight of the readout's distribution by the distance of the latents to those of the fit.

    With ``weight = min(1, usual / distance) ** power``, the distribution that is used is the normalized product of the
    readout's distribution to the power `weight`, and the occupancy of the behavior to the power `1 - weight`.

    Attributes
    ----------
    usual : float
        Distance up to which latents count as familiar; infinite if distances are not known.
    power : float
        At least 0; 0 ignores the distance.
    """

    usual: float = np.inf
    power: float = 0.0

    @classmethod
    def from_held_out(cls, distance: np.ndarray) -> Self:
        """Find the usual distance from those of held-out bins (bins,); without any the distance is ignored."""
        return cls(float(np.quantile(distance, _FAMILIAR_SHARE))) if len(distance) else cls()

    @property
    def is_used(self) -> bool:
        """Whether the distance has any effect."""
        return bool(self.power > 0 and np.isfinite(self.usual))

    def weight(self, distance: np.ndarray | float) -> np.ndarray:
        """Return the weight of bins with a distance (time,) or of one bin, between 0 and 1."""
        return np.asarray(np.minimum(1.0, self.usual / np.maximum(distance, 1e-12)) ** self.power)

    def to_state(self) -> dict[str, Any]:
        """Return the arguments that make this object again."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make the object from what `to_state` returned."""
        return cls(**state)


def temper(mass: np.ndarray, weight: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
    """Return the normalized product ``mass ** weight * occupancy ** (1 - weight)`` of each bin.

    Parameters
    ----------
    mass : (time, *shape)
    weight : (time,)
        Between 0 and 1. Bins with weight 1 are not changed.
    occupancy : (*shape)
        Positive.
    """
    changed = np.flatnonzero(weight < 1)
    if len(changed) == 0:
        return mass
    result = mass.copy()
    share = weight[changed].reshape(-1, *[1] * occupancy.ndim).astype(mass.dtype)
    log_mass = np.log(np.maximum(mass[changed], 1e-12))
    tempered = np.exp(share * log_mass + (1 - share) * np.log(occupancy).astype(mass.dtype))
    tempered /= tempered.sum(axis=tuple(range(1, tempered.ndim)), keepdims=True)
    result[changed] = tempered
    return result
