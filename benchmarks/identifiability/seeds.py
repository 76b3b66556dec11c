"""Agreement of the latents of several seeds, by our own measure and by the package ituna where it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from kalmanssl.identifiability import consistency

__all__ = ["ITUNA_MISSING", "agreement", "ituna_agreement"]

ITUNA_MISSING = (
    "" if find_spec("ituna") else "ituna is not installed (pip install -e '.[benchmarks]'): its score is left out."
)


def agreement(latents: Sequence[np.ndarray]) -> float:
    """Return the R² of the latents of one seed from those of another; each second frame fits the map, the others count.

    Parameters
    ----------
    latents : sequence of (frames, dims)
        Of the same frames, one for each of two or more seeds.
    """
    return consistency(*_halves(latents))


def ituna_agreement(latents: Sequence[np.ndarray]) -> float:
    """Return the score of `ituna.metrics.PairwiseConsistency` with affine maps, on the same frames as `agreement`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an optional package that only saves its configurations
        from ituna.metrics import Affine, PairwiseConsistency

    fitted, scored = _halves(latents)
    return float(PairwiseConsistency(Affine()).fit(fitted).score(scored))


def _halves(latents: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [z[::2] for z in latents], [z[1::2] for z in latents]
