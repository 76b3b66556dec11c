"""Distributions of a readout over the grids for one bin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kalmanssl.data import Covariances
from kalmanssl.decoding._label_decoder import LabelDecoder
from kalmanssl.decoding._latent_decoder import LatentDecoder

__all__ = ["OneBinReadout", "one_bin_readout"]

OneBinReadout = Callable[[np.ndarray, np.ndarray, np.ndarray, float], list[np.ndarray]]
"""Returns one distribution (*shape) per grid from features, mean and covariance of the latents, and the time."""

_ONE = np.zeros(1, dtype=int)


def one_bin_readout(decoder: LatentDecoder | LabelDecoder) -> OneBinReadout:
    """Return the readout of a decoder as a function of one bin."""
    if isinstance(decoder, LabelDecoder):
        readout = decoder.readout

        def label_mass(features: np.ndarray, mean: np.ndarray, cov: np.ndarray, time: float) -> list[np.ndarray]:
            return [decoder.feature_mass(readout, features[None], Covariances(cov[None], _ONE))[0]]

        return label_mass
    fitted = decoder.readout

    def mass(features: np.ndarray, mean: np.ndarray, cov: np.ndarray, time: float) -> list[np.ndarray]:
        covariances = Covariances(cov[None], _ONE)
        parts = decoder.feature_mass(fitted, features[None], mean[None], covariances, np.array([time]))
        return [part[0] for part in parts]

    return mass
