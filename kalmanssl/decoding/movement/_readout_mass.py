"""Distributions of a readout over a grid, bin by bin, as movement priors use them.

A readout of several parts can be used in two ways. The product of their distributions is the more precise one, but it
excludes what one part excludes, and over many bins a movement prior multiplies such errors. Their average does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kalmanssl.decoding.grids import Grid
from kalmanssl.decoding.movement._familiarity import Familiarity, temper
from kalmanssl.decoding.movement._movement import coarsen_mass

__all__ = ["COMBINATIONS", "ReadoutMass", "select_combination"]

COMBINATIONS = ("product", "average")


@dataclass(frozen=True)
class ReadoutMass:
    """Distributions of a readout over a grid, and what a movement prior needs to know of the bins.

    Attributes
    ----------
    mass : (time, *shape)
    start, missing : (time,) bool
        First bins of segments, and bins without latents.
    occupancy : (*shape), optional
        Occupancy of the behavior in the fitted bins.
    distance : (time,), optional
        Distance of the latents to those of the fit. Without it, or without `occupancy`, familiarity has no effect.
    average : (time, *shape), optional
        The average of the distributions of the parts of the readout; `mass` is then their product.
    """

    mass: np.ndarray
    start: np.ndarray
    missing: np.ndarray
    occupancy: np.ndarray | None = None
    distance: np.ndarray | None = None
    average: np.ndarray | None = None

    def temper(self, familiarity: Familiarity, combination: str = "product") -> ReadoutMass:
        """Return one combination of the parts, with the distributions of unfamiliar bins closer to the occupancy."""
        mass = select_combination(combination, self.mass, self.average)
        if self.occupancy is not None and self.distance is not None:
            mass = temper(mass, familiarity.weight(self.distance), self.occupancy)
        return replace(self, mass=mass, average=None)

    def coarsen(self, grid: Grid, factor: int) -> ReadoutMass:
        """Return the distributions over a grid whose cells are `factor` times as wide as those of `grid`."""
        occupancy = None if self.occupancy is None else coarsen_mass(self.occupancy[None], grid, factor)[0]
        average = None if self.average is None else coarsen_mass(self.average, grid, factor)
        return replace(self, mass=coarsen_mass(self.mass, grid, factor), occupancy=occupancy, average=average)


def select_combination(combination: str, product: np.ndarray, average: np.ndarray | None) -> np.ndarray:
    """Return the product or the average of the parts of a readout; the average is None if the readout has one part."""
    if combination == "product":
        return product
    assert average is not None
    return average
