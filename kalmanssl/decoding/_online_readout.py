"""Distributions of a readout over the grids for one bin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kalmanssl.data import Covariances
from kalmanssl.decoding._ensemble_readout import EnsembleReadout
from kalmanssl.decoding._grid import Grid
from kalmanssl.decoding._label_decoder import LabelDecoder
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding._mlp_readout import MLPReadout
from kalmanssl.decoding._nearest import with_remaining_norm
from kalmanssl.decoding._neighbor_readout import NeighborReadout
from kalmanssl.kalman.kernels import has_compiler

__all__ = ["one_bin_readout"]

_ONE = np.zeros(1, dtype=int)
_MassFunction = Callable[[np.ndarray], tuple[list[np.ndarray], float | None]]


def one_bin_readout(
    decoder: LatentDecoder | LabelDecoder,
) -> Callable[[np.ndarray, np.ndarray, np.ndarray, float], list[np.ndarray]]:
    """Return the readout of a decoder as a function of one bin.

    The function takes the latents with their temporal context, the mean and the covariance of the latents and the time.
    It returns the distribution over each grid, (*shape), tempered by familiarity. Readouts of networks and neighbors
    that use the posterior mean are compiled, the others are called with a single bin.
    """
    readout: Any = decoder.readout if isinstance(decoder, LabelDecoder) else decoder.readout.readout
    compiled = _compiled(readout, uses_cov=not decoder.context)
    if compiled is not None:
        compiled(np.array(readout.center if type(readout) is MLPReadout else readout.networks.center))  # compiles now

    def mass(features: np.ndarray, mean: np.ndarray, cov: np.ndarray, time: float) -> list[np.ndarray]:
        if compiled is not None:
            masses, distance = compiled(features)
        elif isinstance(decoder, LabelDecoder):
            return [decoder.feature_mass(decoder.readout, features[None], Covariances(cov[None], _ONE))[0]]
        else:
            found, distances = decoder.readout_mass(readout, features[None], Covariances(cov[None], _ONE))
            masses, distance = [part[0] for part in found], None if distances is None else float(distances[0])
        if isinstance(decoder, LabelDecoder):
            return masses
        if decoder.readout.drift.rate != 0:
            moved = decoder.correct_drift(
                decoder.readout, [part[None] for part in masses], mean[None], np.array([time])
            )
            masses = [part[0] for part in moved]
        if distance is None or all(part.weight(distance) == 1 for part in decoder.familiarities):
            return masses
        return [part[0] for part in decoder.temper([part[None] for part in masses], np.array([distance]))]

    return mass


def _compiled(readout: Any, uses_cov: bool) -> _MassFunction | None:
    """Return a compiled function of the latents with their context, or None for a readout that has none."""
    if not has_compiler():
        return None
    if type(readout) is EnsembleReadout:
        networks = _compiled(readout.networks, uses_cov)
        if networks is None:
            return None
        share, neighbors = readout.settings.neighbor_weight, _OneBinNeighbors(readout.neighbors)

        def combined(features: np.ndarray) -> tuple[list[np.ndarray], float | None]:
            near, distance = neighbors(features)
            masses = []
            for network, neighbor in zip(networks(features)[0], near, strict=True):
                mass = np.exp((1 - share) * np.log(network) + share * np.log(neighbor))
                mass /= mass.sum()
                masses.append(mass)
            return masses, distance

        return combined
    is_mean = type(readout) is MLPReadout and (readout.posterior == "mean" or not uses_cov)
    return _OneBinNetworks(readout) if is_mean else None


class _OneBinNetworks:
    """`MLPReadout.predict_mass` for one bin, from the posterior mean."""

    def __init__(self, readout: MLPReadout) -> None:
        self._center, self._scale = readout.center, readout.scale
        uniform = readout.settings.uniform_fraction
        self._inputs = np.ascontiguousarray(readout.inputs.numpy()[:, 0])
        self._weights = tuple(np.ascontiguousarray(weight.numpy()) for weight in readout.weights)
        self._biases = tuple(np.ascontiguousarray(bias.numpy()[:, 0]) for bias in readout.biases)
        self._borders = np.cumsum([0, *(grid.size for grid in readout.grids)])
        self._hidden = np.empty((2, self._weights[1].shape[1]), dtype=np.float32)
        self._logits, self._mass = np.empty((2, int(self._borders[-1])), dtype=np.float32)
        self._parts = [
            (self._mass[first:stop].reshape(grid.shape), 1 - uniform, uniform / grid.size)
            for grid, first, stop in zip(readout.grids, self._borders, self._borders[1:], strict=False)
        ]

    def __call__(self, features: np.ndarray) -> tuple[list[np.ndarray], None]:
        from kalmanssl.decoding._online_kernels import network_kernel

        x = ((features - self._center) / self._scale).astype(np.float32)
        network_kernel(
            x, self._inputs, self._weights, self._biases, self._borders, self._hidden, self._logits, self._mass
        )
        return [share * part + uniform for part, share, uniform in self._parts], None


class _OneBinNeighbors:
    """`NeighborReadout.predict_mass_and_distance` for one bin; the search starts at the neighbors of the last bin."""

    def __init__(self, readout: NeighborReadout) -> None:
        self._readout = readout
        self._references = readout.search.references
        self._bounded = np.ascontiguousarray(with_remaining_norm(self._references).T)
        self._bounds = np.empty((1, len(self._references)), dtype=np.float32)
        self._index = np.arange(readout.n_neighbors)[None]
        self._products = np.empty(self._index.shape, dtype=np.float32)
        self._uniform = readout.settings.uniform_fraction
        self._groups = [
            (grid.size, grid.shape, cells, _smoothing_matrices(grid, readout))
            for grid, cells in zip(readout.grids, readout.cells, strict=True)
        ]

    def __call__(self, features: np.ndarray) -> tuple[list[np.ndarray], float]:
        from kalmanssl.decoding._nearest_kernel import largest_kernel
        from kalmanssl.decoding._online_kernels import product_kernel

        readout = self._readout
        query = readout.project(features[None])
        product_kernel(with_remaining_norm(query)[0], self._bounded, self._bounds[0])
        index = self._index[0]
        largest_kernel(self._bounds, query, self._references, index.copy(), self._index, self._products)
        distance = 1.0 - float(self._products.mean(dtype=float))
        votes = readout.votes[index]
        masses = []
        for size, shape, cells, matrices in self._groups:
            counts = np.bincount(cells[index], votes, minlength=size).astype(np.float32)
            mass = matrices[0] @ counts.reshape(shape)
            if len(matrices) > 1:
                mass = mass @ matrices[1].T
            masses.append((1 - self._uniform) / np.add.reduce(mass, axis=None) * mass + self._uniform / size)
        return masses, distance


def _smoothing_matrices(grid: Grid, readout: NeighborReadout) -> list[np.ndarray]:
    """Return for each axis the matrix that smooths histograms along it."""
    s = readout.settings
    smoothing = s.smoothing if len(grid.axes) == 1 else s.smoothing_joint
    return [Grid((axis,)).smooth(np.eye(axis.n_cells), smoothing).T.astype(np.float32) for axis in grid.axes]
