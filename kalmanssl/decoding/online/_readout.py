"""Distributions of a readout over the grids for one bin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kalmanssl.data import Covariances
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding.readouts import (
    BinMasses,
    EnsembleReadout,
    MLPReadout,
    NeighborReadout,
    OneBinMasses,
    with_remaining_norm,
)
from kalmanssl.kalman.kernels import has_compiler

__all__ = ["one_bin_readout"]

_ONE = np.zeros(1, dtype=int)

_ReadoutFunction = Callable[[np.ndarray, np.ndarray], OneBinMasses]


def one_bin_readout(decoder: LatentDecoder) -> _ReadoutFunction:
    """Return the readout of a decoder as a function of one bin.

    The function takes the latents with their temporal context, and the covariance of the latents. Readouts of networks
    and neighbors that use the posterior mean are compiled, the others are called with a single bin.
    """
    readout, with_average = decoder.readout, decoder.uses_average
    compiled = _compiled(readout, not decoder.context.is_used, with_average)
    if compiled is not None:
        networks = readout if type(readout) is MLPReadout else readout.networks
        compiled(np.array(networks.center, dtype=float))  # compiles now
        return lambda features, _: compiled(features)

    def mass(features: np.ndarray, cov: np.ndarray) -> OneBinMasses:
        return _first_bin(decoder.readout_mass(readout, features[None], Covariances(cov[None], _ONE), with_average))

    return mass


def _first_bin(masses: BinMasses) -> OneBinMasses:
    """Return the distributions of the first bin."""
    first = masses.transform(lambda parts: [part[0] for part in parts])
    distance = None if masses.distance is None else float(masses.distance[0])
    return OneBinMasses(first.product, first.average, distance)


def _compiled(readout: Any, uses_cov: bool, with_average: bool) -> Callable[[np.ndarray], OneBinMasses] | None:
    """Return a compiled function of the latents with their context, or None for a readout that has none."""
    if not has_compiler():
        return None
    if type(readout) is EnsembleReadout:
        networks = _compiled(readout.networks, uses_cov, False)
        if networks is None:
            return None
        from kalmanssl.decoding.online._kernels import combine_kernel

        share, neighbors = float(readout.settings.neighbor_weight), _OneBinNeighbors(readout.neighbors)

        def combined(features: np.ndarray) -> OneBinMasses:
            near, distance = neighbors(features)
            masses = networks(features).product
            average = None
            if with_average:
                pairs = zip(masses, near, strict=True)
                average = [(1 - share) * mass + share * neighbor for mass, neighbor in pairs]
            for mass, neighbor in zip(masses, near, strict=True):
                combine_kernel(mass.reshape(-1), neighbor.reshape(-1), share)
            return OneBinMasses(masses, average, distance)

        return combined
    is_mean = type(readout) is MLPReadout and (readout.posterior == "mean" or not uses_cov)
    return _OneBinNetworks(readout) if is_mean else None


class _OneBinNetworks:
    """`MLPReadout.predict_mass` for one bin, from the posterior mean."""

    def __init__(self, readout: MLPReadout) -> None:
        from kalmanssl.decoding.online._kernels import network_kernel

        self._kernel = network_kernel  # an import at every bin takes microseconds
        grids = readout.grids
        borders = np.cumsum([0, *(grid.size for grid in grids)])
        self._n_cells = int(borders[-1])
        self._parts = [
            (int(first), int(stop), grid.shape) for first, stop, grid in zip(borders, borders[1:], grids, strict=False)
        ]
        weights = tuple(np.ascontiguousarray(weight.numpy()) for weight in readout.weights)
        n_features = readout.inputs.shape[-1]
        self._arguments = (
            *(np.array(np.broadcast_to(part, (n_features,)), dtype=float) for part in (readout.center, readout.scale)),
            np.ascontiguousarray(readout.inputs.numpy()[:, 0]),
            weights,
            tuple(np.ascontiguousarray(bias.numpy()[:, 0]) for bias in readout.biases),
            borders,
            np.empty((2, weights[1].shape[1]), dtype=np.float32),
            np.empty(self._n_cells, dtype=np.float32),
            1 - readout.settings.uniform_fraction,
        )

    def __call__(self, features: np.ndarray) -> OneBinMasses:
        mass = np.empty(self._n_cells, dtype=np.float32)
        self._kernel(features, *self._arguments, mass)
        return OneBinMasses([mass[first:stop].reshape(shape) for first, stop, shape in self._parts])


class _OneBinNeighbors:
    """`NeighborReadout.predict_mass_and_distance` for one bin; the search starts at the neighbors of the last bin."""

    def __init__(self, readout: NeighborReadout) -> None:
        from kalmanssl.decoding.readouts._histogram_kernel import histogram_kernel
        from kalmanssl.decoding.readouts._nearest_kernel import nearest_kernel

        self._nearest, self._histogram = nearest_kernel, histogram_kernel
        references = readout.search.references
        bounded = np.ascontiguousarray(with_remaining_norm(references).T)
        self._near = np.arange(readout.n_neighbors)[None]
        self._search = (
            np.ascontiguousarray(readout.center, dtype=float),
            np.ascontiguousarray(readout.components),
            bounded,
            references,
            np.empty((1, references.shape[1]), dtype=np.float32),
            np.empty(len(bounded), dtype=np.float32),
            np.empty((1, len(references)), dtype=np.float32),
            self._near,
            np.empty(self._near.shape, dtype=np.float32),
        )
        votes, share = np.ascontiguousarray(readout.votes, dtype=float), 1 - readout.settings.uniform_fraction
        self._groups = [
            (
                (self._near[0], votes, np.ascontiguousarray(cells), *readout.smoothing_matrices(grid), share),
                grid.shape,
            )
            for grid, cells in zip(readout.grids, readout.cells, strict=True)
        ]

    def __call__(self, features: np.ndarray) -> tuple[list[np.ndarray], float]:
        distance = self._nearest(features, *self._search)
        masses = []
        for arguments, shape in self._groups:
            mass = np.empty((arguments[3].shape[0], arguments[4].shape[0]), dtype=np.float32)
            self._histogram(*arguments, mass)
            masses.append(mass.reshape(shape))
        return masses, distance
