"""Mixtures of movement priors: the posteriors of several kinds are averaged ("linear opinion pool", Stone 1961).

On held-out bins, several kinds of movement prior can be about equally good, and each makes errors of its own. The
continuous ranked probability score is convex, so that of a mean of posteriors is at most the mean of their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from kalmanssl.decoding.movement._familiarity import Familiarity
from kalmanssl.decoding.movement._movement import Movement, MovementStatistics
from kalmanssl.decoding.movement._posterior_mass import filtered_mass, posterior_marginals, posterior_mass
from kalmanssl.decoding.movement._readout_mass import ReadoutMass

__all__ = ["MovementComponent", "MovementMixture"]


@dataclass(frozen=True)
class MovementComponent:
    """A movement prior of a mixture.

    Attributes
    ----------
    kind : str
        "none", "walk" or "states", as in `MovementSettings`.
    combination : str
        "product" or "average" of the parts of the readout.
    weight : float
    movement : Movement or None
        None for "none": every bin is decoded by itself.
    familiarity : Familiarity
    """

    kind: str
    combination: str
    weight: float
    movement: Movement | None
    familiarity: Familiarity

    def posterior(self, given: ReadoutMass, smooth: bool) -> np.ndarray:
        """Return the posterior over the grid, (time, *shape); with `smooth` from later bins, too."""
        return posterior_mass(self.movement, given.temper(self.familiarity, self.combination), smooth)

    def marginals(self, given: ReadoutMass, smooth: bool, chosen: np.ndarray) -> list[np.ndarray]:
        """Return the marginals of the posterior in the chosen bins (time,) bool, as `posterior_marginals`."""
        return posterior_marginals(self.movement, given.temper(self.familiarity, self.combination), smooth, chosen)

    def filtered(self, given: ReadoutMass, belief: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the filtered posterior, and the belief at the last bin, as `filtered_mass`."""
        return filtered_mass(self.movement, given.temper(self.familiarity, self.combination), belief)

    def to_state(self) -> dict[str, Any]:
        """Return arrays and plain values from which `from_state` makes the component again."""
        movement = None if self.movement is None else self.movement.to_state()
        own = {"kind": self.kind, "combination": self.combination, "weight": self.weight, "movement": movement}
        return own | {"familiarity": self.familiarity.to_state()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a component from what `to_state` returned."""
        movement = None if state["movement"] is None else Movement.from_state(state["movement"])
        familiarity = Familiarity.from_state(state["familiarity"])
        return cls(state["kind"], state["combination"], float(state["weight"]), movement, familiarity)


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
        return cls((MovementComponent("none", "product", 1.0, None, Familiarity()),))

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each kind."""
        kinds = dict.fromkeys(part.kind for part in self.components)
        return {kind: sum(part.weight for part in self.components if part.kind == kind) for kind in kinds}

    @property
    def uses_average(self) -> bool:
        """Whether a component uses the average of the parts of the readout."""
        return any(part.combination == "average" for part in self.components)

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
        return self.mean(part.posterior(given, smooth) for part in self.components)

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
        after: list[np.ndarray | None] = []

        def posteriors() -> Iterator[np.ndarray]:
            before = beliefs or [None] * len(self.components)
            for part, belief in zip(self.components, before, strict=True):
                posterior, last = part.filtered(given, belief)
                after.append(last)
                yield posterior

        return self.mean(posteriors()), after

    def mean(self, posteriors: Iterable[np.ndarray]) -> np.ndarray:
        """Return the weighted mean of the posteriors of all components; one after another is needed."""
        if len(self.components) == 1:
            (posterior,) = posteriors
            return posterior
        total: np.ndarray | None = None
        for part, posterior in zip(self.components, posteriors, strict=True):
            weighted = part.weight * posterior
            total = weighted if total is None else np.add(total, weighted, out=total)
        assert total is not None
        return total

    def to_state(self) -> list[dict[str, Any]]:
        """Return arrays and plain values from which `from_state` makes the mixture again."""
        return [part.to_state() for part in self.components]

    @classmethod
    def from_state(cls, state: Sequence[dict[str, Any]]) -> Self:
        """Make a mixture from what `to_state` returned."""
        return cls(tuple(MovementComponent.from_state(part) for part in state))
