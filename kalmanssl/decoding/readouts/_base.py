"""The interface of readouts, which map latents to a predictive distribution of each dimension of the behavior.

A readout does not know about time. `PositionDecoder` adds the effects of time: movement, and errors that grow with the
lag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from kalmanssl.data import Covariances
from kalmanssl.decoding.grids import Grid, Predictive

__all__ = ["BinMasses", "FittedBins", "OneBinMasses", "Readout"]


_Distance = TypeVar("_Distance", np.ndarray, float)


@dataclass(frozen=True)
class ReadoutMasses(Generic[_Distance]):
    """Distributions of a readout over the grid of each group of dimensions, without regard to time.

    Those of a single bin (`OneBinMasses`) have no axis of time.

    Attributes
    ----------
    product : list of (time, *shape)
        The distributions; of a readout with several parts the weighted geometric means, normalized.
    average : list of (time, *shape) or None
        The weighted arithmetic means of the parts; None if they were not asked for, or the readout has one part.
    distance : (time,) or None
        Distance of the latents to those of the fit; None if the readout does not know it.
    """

    product: list[np.ndarray]
    average: list[np.ndarray] | None = None
    distance: _Distance | None = None

    def by_grid(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Return the product and, if it is known, the average over each grid."""
        averages = [None] * len(self.product) if self.average is None else self.average
        return list(zip(self.product, averages, strict=True))

    def transform(self, change: Callable[[list[np.ndarray]], list[np.ndarray]]) -> Self:
        """Return the masses with `change`, a function of the distributions over all grids, applied to both kinds."""
        average = None if self.average is None else change(self.average)
        return replace(self, product=change(self.product), average=average)


BinMasses = ReadoutMasses[np.ndarray]
OneBinMasses = ReadoutMasses[float]


@dataclass(frozen=True)
class FittedBins:
    """The bins that a readout is fitted to.

    Attributes
    ----------
    mean : (time, features)
        Posterior means of the latents, which may be followed by their temporal context.
    cov : Covariances or None
        Posterior covariances of the latents, if they are used.
    behavior : (time, dims)
    weight : (time,), optional
        Weights of the bins, whose mean is one; a readout need not use them. By default all bins have the same.
    grids : list of Grid, optional
        The grids of the groups of dimensions. By default a readout that needs them makes grids that cover the behavior.
    n_present : int, optional
        Number of features that describe the bin itself; those that follow are its temporal context. By default all.
    """

    mean: np.ndarray
    cov: Covariances | None
    behavior: np.ndarray
    weight: np.ndarray | None = None
    grids: list[Grid] | None = None
    n_present: int | None = None


class Readout(Protocol):
    """What `kalmanssl.decoding.PositionDecoder` requires of a readout."""

    def fit(self, bins: FittedBins, rng: np.random.Generator) -> Self:
        """Fit to the latents and the behavior of bins; all random numbers come from `rng`."""
        ...

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Return one predictive distribution for each dimension of the behavior."""
        ...

    def to_state(self) -> dict[str, Any]:
        """Return arrays and plain values from which `from_state` makes the readout again."""
        ...

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a fitted readout from what `to_state` returned."""
        ...
