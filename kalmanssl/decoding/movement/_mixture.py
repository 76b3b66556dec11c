"""Mixtures of movement priors: the posteriors of several kinds are averaged ("linear opinion pool", Stone 1961).

On held-out bins, several kinds of movement prior can be about equally good, and each makes errors of its own. The
continuous ranked probability score is convex, so that of a mean of posteriors is at most the mean of their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from kalmanssl.decoding.movement._familiarity import Familiarity, temper
from kalmanssl.decoding.movement._movement import Movement, MovementStatistics
from kalmanssl.decoding.movement._posterior_mass import filtered_mass, posterior_mass

__all__ = ["MovementComponent", "MovementMixture", "ReadoutMass"]


@dataclass(frozen=True)
class ReadoutMass:
    """Distributions of a readout over a grid, and what a movement prior needs to know of the bins.

    Attributes
    ----------
    mass : (time, *shape)
    start, missing : (time,) bool
        First bins of segments, and bins without latents.
    occupancy : (*shape)
        Of the behavior in the fitted bins.
    distance : (time,), optional
        Distance of the latents to those of the fit; without it, familiarity has no effect.
    """

    mass: np.ndarray
    start: np.ndarray
    missing: np.ndarray
    occupancy: np.ndarray | None = None
    distance: np.ndarray | None = None

    def temper(self, familiarity: Familiarity) -> np.ndarray:
        """Return the distributions with those of unfamiliar bins closer to the occupancy, (time, *shape)."""
        if self.occupancy is None or self.distance is None:
            return self.mass
        return temper(self.mass, familiarity.weight(self.distance), self.occupancy)


@dataclass(frozen=True)
class MovementComponent:
    """A movement prior of a mixture.

    Attributes
    ----------
    kind : str
        "none", "walk" or "states", as in `MovementSettings`.
    weight : float
    movement : Movement or None
        None for "none": every bin is decoded by itself.
    familiarity : Familiarity
    """

    kind: str
    weight: float
    movement: Movement | None
    familiarity: Familiarity

    def to_state(self) -> dict[str, Any]:
        """Return arrays and plain values from which `from_state` makes the component again."""
        movement = None if self.movement is None else self.movement.to_state()
        own = {"kind": self.kind, "weight": self.weight, "movement": movement}
        return own | {"familiarity": self.familiarity.to_state()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a component from what `to_state` returned."""
        movement = None if state["movement"] is None else Movement.from_state(state["movement"])
        return cls(state["kind"], float(state["weight"]), movement, Familiarity.from_state(state["familiarity"]))


@dataclass(frozen=True)
class MovementMixture:
    """Movement priors of one or several kinds, whose posteriors are averaged.

    Attributes
    ----------
    components : tuple of MovementComponent
        Their weights sum to one.
    """

    components: tuple[MovementComponent, ...]

    @classmethod
    def none(cls) -> Self:
        """Return the mixture with which every bin is decoded by itself."""
        return cls((MovementComponent("none", 1.0, None, Familiarity()),))

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each kind."""
        return {component.kind: component.weight for component in self.components}

    def with_statistics(self, measure: Callable[[str], MovementStatistics]) -> Self:
        """Return the mixture with other statistics; `measure` returns those of a kind."""
        return replace(
            self,
            components=tuple(
                part if part.movement is None
                else replace(part, movement=replace(part.movement, statistics=measure(part.kind)))
                for part in self.components
            ),
        )  # fmt: skip

    def posterior(self, given: ReadoutMass, smooth: bool) -> np.ndarray:
        """Return the posterior over the grid, (time, *shape); with `smooth` from later bins, too."""
        return self.mean(
            [
                posterior_mass(part.movement, given.temper(part.familiarity), given.start, given.missing, smooth)
                for part in self.components
            ]
        )

    def filtered(
        self, given: ReadoutMass, beliefs: Sequence[np.ndarray | None]
    ) -> tuple[np.ndarray, list[np.ndarray | None]]:
        """Return the filtered posterior over the grid (time, *shape), and the belief of each component at the last bin.

        Parameters
        ----------
        given : ReadoutMass
        beliefs : sequence of (states, rows, columns) array or None
            Beliefs at the bin before the first one, which then continues its segment; empty at the start of one.
        """
        found = [
            filtered_mass(part.movement, given.temper(part.familiarity), given.start, given.missing, belief)
            for part, belief in zip(self.components, beliefs or [None] * len(self.components), strict=True)
        ]
        return self.mean([mass for mass, _ in found]), [belief for _, belief in found]

    def mean(self, posteriors: Sequence[np.ndarray]) -> np.ndarray:
        """Return the weighted mean of the posteriors of all components, which have one shape."""
        if len(posteriors) == 1:
            return posteriors[0]
        total = self.components[0].weight * posteriors[0]
        for part, posterior in zip(self.components[1:], posteriors[1:], strict=True):
            total += part.weight * posterior
        return total

    def to_state(self) -> list[dict[str, Any]]:
        """Return arrays and plain values from which `from_state` makes the mixture again."""
        return [part.to_state() for part in self.components]

    @classmethod
    def from_state(cls, state: Sequence[dict[str, Any]]) -> Self:
        """Make a mixture from what `to_state` returned."""
        return cls(tuple(MovementComponent.from_state(part) for part in state))
