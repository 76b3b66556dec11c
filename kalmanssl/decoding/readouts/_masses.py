"""Distributions of any readout over the grids of the behavior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kalmanssl.data import Covariances
from kalmanssl.decoding.grids import Grid, group_dimensions
from kalmanssl.decoding.readouts._base import BinMasses
from kalmanssl.decoding.readouts._classifier import ClassifierReadout
from kalmanssl.decoding.readouts._ensemble import EnsembleReadout
from kalmanssl.decoding.readouts._mlp import MLPReadout

__all__ = ["predict_masses"]


def predict_masses(
    readout: Any,
    features: np.ndarray,
    cov: Covariances | None,
    grids: Sequence[Grid],
    with_average: bool = False,
    networks: list[np.ndarray] | None = None,
) -> BinMasses:
    """Return the distributions of a fitted readout over grids.

    Parameters
    ----------
    readout : Readout or ClassifierReadout
        One that predicts histograms was fitted with `grids`. The predictive distributions of others are discretized;
        two dimensions of a grid are then independent of each other.
    features : (time, features)
        Latents, with their temporal context if the readout was fitted with it.
    cov : Covariances or None
        Posterior covariances of the latents, if they are used.
    grids : sequence of Grid
        One for each group of dimensions.
    with_average : bool
        Whether the averages of the parts of an `EnsembleReadout` are needed, too.
    networks : list of (time, *shape), optional
        From `EnsembleReadout.network_masses` of the same bins, if they are known.
    """
    if isinstance(readout, EnsembleReadout):
        return readout.predict_masses(features, cov, networks, with_average)
    if isinstance(readout, MLPReadout | ClassifierReadout):
        return BinMasses(readout.predict_mass(features, cov))
    predictives = readout.predict(features, cov)
    masses = []
    for grid, dims in zip(grids, group_dimensions(len(predictives)), strict=True):
        parts = [axis.discretize(predictives[dim]) for axis, dim in zip(grid.axes, dims, strict=True)]
        masses.append(parts[0] if len(parts) == 1 else parts[0][:, :, None] * parts[1][:, None, :])
    return BinMasses(masses)
