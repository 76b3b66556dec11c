"""The default readout: networks and nearest neighbors, whose histograms are multiplied.

The networks generalize between the fitted bins, and neighbors follow details of the code with few bins. Their errors
differ, so the geometric mean of their histograms has smaller errors than either. Their arithmetic mean is wider, but
does not exclude what only one of them excludes; movement priors can use either.

The temporal context of the latents can help or mislead the neighbors. With it they find bins in which the animal also
came from the same place, which are few where it takes a new path in every run. Joint histograms of two dimensions have
many cells, and need more neighbors if the activity of a bin says little.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from kalmanssl.data import Covariances
from kalmanssl.decoding.grids import Periods, Predictive, marginal_predictives
from kalmanssl.decoding.readouts._base import BinMasses, FittedBins
from kalmanssl.decoding.readouts._mlp import MLPReadout
from kalmanssl.decoding.readouts._mlp_settings import MLPReadoutSettings
from kalmanssl.decoding.readouts._neighbors import NeighborReadout, NeighborReadoutSettings
from kalmanssl.utils.moments import row_slices
from kalmanssl.utils.validation import check_condition, check_number

__all__ = ["EnsembleReadout", "EnsembleReadoutSettings", "NeighborVariant", "network_settings"]

_ROWS = 128  # bins whose histograms are multiplied at a time, so that they stay in the cache of the processor


@dataclass(frozen=True)
class EnsembleReadoutSettings:
    """Settings of `EnsembleReadout`.

    Attributes
    ----------
    networks : MLPReadoutSettings
    neighbors : NeighborReadoutSettings
    neighbor_weight : float
        Exponent of the neighbors' histogram in the weighted geometric mean, between 0 and 1; the networks have the
        rest.
    """

    networks: MLPReadoutSettings = field(default_factory=MLPReadoutSettings)
    neighbors: NeighborReadoutSettings = field(default_factory=NeighborReadoutSettings)
    neighbor_weight: float = 0.5

    def __post_init__(self) -> None:
        for name, expected in (("networks", MLPReadoutSettings), ("neighbors", NeighborReadoutSettings)):
            value: Any = getattr(self, name)
            if isinstance(value, dict):  # from a saved state
                object.__setattr__(self, name, expected(**value))
            else:
                check_condition(name, value, isinstance(value, expected), expected.__name__)
        check_number("neighbor_weight", self.neighbor_weight)
        check_condition("neighbor_weight", self.neighbor_weight, 0 <= self.neighbor_weight <= 1, "between 0 and 1")


@dataclass(frozen=True)
class NeighborVariant:
    """How the neighbors of an `EnsembleReadout` are searched; chosen by the decoding of held-out bins.

    Attributes
    ----------
    uses_context : bool
        Whether latents are compared with their temporal context.
    broad : bool
        Whether the settings of the neighbors are broadened (`NeighborReadoutSettings.broaden`).
    """

    uses_context: bool = True
    broad: bool = False


def network_settings(settings: Any) -> MLPReadoutSettings:
    """Return the settings of the networks in the settings of any readout; the default ones if it has no networks."""
    if isinstance(settings, EnsembleReadoutSettings):
        return settings.networks
    return settings if isinstance(settings, MLPReadoutSettings) else MLPReadoutSettings()


class EnsembleReadout:
    """Weighted geometric mean of the histograms of an `MLPReadout` and a `NeighborReadout`.

    Parameters
    ----------
    periods : tuple of float or None
        One per dimension of the behavior; None for a dimension that is not circular.
    posterior, n_samples
        As for `MLPReadout`. Neighbors use the posterior mean.
    settings : EnsembleReadoutSettings, optional
    """

    def __init__(
        self,
        periods: Periods,
        posterior: str = "mean",
        n_samples: int = 1000,
        settings: EnsembleReadoutSettings | None = None,
    ) -> None:
        self.periods = periods
        self.settings = settings or EnsembleReadoutSettings()
        self.networks = MLPReadout(periods, posterior, n_samples, self.settings.networks)
        self.neighbors = NeighborReadout(periods, self.settings.neighbors)
        self.variant = NeighborVariant()

    def fit(self, bins: FittedBins, rng: np.random.Generator) -> Self:
        """Fit both readouts."""
        self.networks.fit(bins, rng)
        self.grids = self.networks.grids
        return self.fit_neighbors(bins)

    def fit_neighbors(self, bins: FittedBins) -> Self:
        """Fit the neighbors alone, by the `variant`; without context to the features of the bin itself."""
        mean = bins.mean if self.variant.uses_context else bins.mean[:, : bins.n_present]
        self.neighbors = NeighborReadout(self.periods, self._neighbor_settings())
        self.neighbors.fit(mean, bins.behavior, bins.weight, self.grids)
        return self

    def _neighbor_settings(self) -> NeighborReadoutSettings:
        return self.settings.neighbors.broaden() if self.variant.broad else self.settings.neighbors

    def with_variant(self, variant: NeighborVariant, fitted_bins: Callable[[], FittedBins]) -> Self:
        """Return the readout with other neighbors and the same networks.

        `fitted_bins` returns the bins to which the neighbors are fitted, with temporal context if the variant uses it.
        It is called only if neighbors with other features are needed.
        """
        changed = copy.copy(self)
        changed.variant = variant
        if variant.uses_context != self.variant.uses_context:
            return changed.fit_neighbors(fitted_bins())
        changed.neighbors = self.neighbors.with_settings(changed._neighbor_settings())
        return changed

    def predict_mass(self, mean: np.ndarray, cov: Covariances | None) -> list[np.ndarray]:
        """Return the histogram over the grid of each group of dimensions, (time, *shape), float32."""
        return self.predict_masses(mean, cov).product

    def network_masses(self, mean: np.ndarray, cov: Covariances | None) -> list[np.ndarray]:
        """Return the histograms of the networks alone, as `predict_mass`."""
        masses = [np.empty((len(mean), *grid.shape), dtype=np.float32) for grid in self.grids]
        for rows in row_slices(len(mean)):
            for mass, part in zip(masses, self._network_masses(mean, cov, rows), strict=True):
                mass[rows] = part
        return masses

    def _network_masses(self, mean: np.ndarray, cov: Covariances | None, rows: slice) -> list[np.ndarray]:
        return self.networks.predict_mass(mean[rows], None if cov is None else cov[rows])

    def predict_masses(
        self,
        mean: np.ndarray,
        cov: Covariances | None,
        networks: list[np.ndarray] | None = None,
        with_average: bool = False,
    ) -> BinMasses:
        """Return the histograms as products of those of the parts, and with `with_average` their averages, too.

        `networks` are the histograms of the networks from `network_masses`, if they are known. Then only the features
        that the neighbors use are needed.
        """
        share = self.settings.neighbor_weight
        masses, averages = (
            [np.empty((len(mean), *grid.shape), dtype=np.float32) for grid in grids]
            for grids in (self.grids, self.grids if with_average else [])
        )
        distance = np.empty(len(mean))
        for rows in row_slices(len(mean)):
            near, distance[rows] = self.neighbors.predict_mass_and_distance(mean[rows])
            parts = [one[rows] for one in networks] if networks else self._network_masses(mean, cov, rows)
            for mass, network, neighbors in zip(masses, parts, near, strict=True):
                _write_geometric_mean(network, neighbors, share, mass[rows])
            for average, network, neighbors in zip(averages, parts, near, strict=False):
                np.multiply(network, 1 - share, out=average[rows])
                average[rows] += share * neighbors
        return BinMasses(masses, averages if with_average else None, distance)

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Return the histogram of each dimension."""
        return marginal_predictives(self.grids, self.predict_mass(mean, cov))

    def to_state(self) -> dict[str, Any]:
        """Return the settings and the states of both readouts."""
        return {
            "settings": asdict(self.settings),
            "networks": self.networks.to_state(),
            "neighbors": self.neighbors.to_state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a fitted readout from what `to_state` returned."""
        networks, neighbors = MLPReadout.from_state(state["networks"]), NeighborReadout.from_state(state["neighbors"])
        settings = EnsembleReadoutSettings(**state["settings"])
        readout = cls(networks.periods, networks.posterior, networks.n_samples, settings)
        readout.networks, readout.neighbors, readout.grids = networks, neighbors, networks.grids
        return readout


def _write_geometric_mean(network: np.ndarray, neighbors: np.ndarray, share: float, result: np.ndarray) -> None:
    """Write the normalized weighted geometric mean of histograms (time, *shape) to `result`."""
    axes = tuple(range(1, network.ndim))
    for first in range(0, len(network), _ROWS):
        rows = slice(first, first + _ROWS)
        if share == 0.5 and len(axes) > 1:  # logarithms of the many cells of a joint grid take longer
            product = np.sqrt(network[rows] * neighbors[rows])
        else:
            product = np.exp((1 - share) * np.log(network[rows]) + share * np.log(neighbors[rows]))
        np.divide(product, product.sum(axis=axes, keepdims=True), out=result[rows])
