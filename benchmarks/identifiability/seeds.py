"""Agreement of the latents of several seeds, by our own measure and by the package ituna where it is installed."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from kalmanssl.identifiability import consistency

__all__ = ["ITUNA_MISSING", "agreement", "from_text", "ituna_agreement", "to_text"]

ITUNA_MISSING = (
    "" if find_spec("ituna") else "ituna is not installed (pip install -e '.[benchmarks]'): its score is left out."
)


def agreement(latents: Sequence[np.ndarray]) -> float:
    """Return the R² of the latents of one seed from those of another; each second frame fits the map, the others count.

    Parameters
    ----------
    latents : sequence of (frames, dims)
        Latents of the same frames, one for each of two or more seeds.
    """
    return consistency(*_halves(latents))


def ituna_agreement(latents: Sequence[np.ndarray]) -> float:
    """Return the score of `ituna.metrics.PairwiseConsistency` with affine maps, on the same frames as `agreement`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an optional package that only saves its configurations
        from ituna.metrics import Affine, PairwiseConsistency

    fitted, scored = _halves(latents)
    return float(PairwiseConsistency(Affine()).fit(fitted).score(scored))


def to_text(latents: np.ndarray) -> dict[str, Any]:
    """Return latents (frames, dims) as their shape and base64 text; lists of numbers would be most of the results."""
    numbers = np.asarray(latents, dtype="<f4")
    return {"shape": list(numbers.shape), "float32": base64.b64encode(numbers.tobytes()).decode("ascii")}


def from_text(stored: dict[str, Any]) -> np.ndarray:
    """Return the latents (frames, dims) of `to_text`."""
    numbers = np.frombuffer(base64.b64decode(stored["float32"]), dtype="<f4")
    return numbers.reshape(stored["shape"]).astype(float)


def _halves(latents: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [z[::2] for z in latents], [z[1::2] for z in latents]
