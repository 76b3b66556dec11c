"""Process noise of unit variance: the Gaussian that the identifiability theorems assume, and other distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

__all__ = ["PROCESS_NOISES", "unit_noise"]

_DEGREES = 5.0  # of freedom of Student's t
_MODE = 0.8  # the mixture's two modes lie at +-0.8, each with variance 1 - 0.8^2


def _uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), shape)


def _laplace(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.laplace(0.0, np.sqrt(0.5), shape)


def _student_t(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.sqrt((_DEGREES - 2.0) / _DEGREES) * rng.standard_t(_DEGREES, shape)


def _mixture(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    # Components and values come from separate streams, so that a longer draw begins with a shorter one.
    uniform, normal = rng.spawn(2)
    mode = np.where(uniform.random(shape) < 0.5, -_MODE, _MODE)
    return mode + np.sqrt(1.0 - _MODE**2) * normal.standard_normal(shape)


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


PROCESS_NOISES: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = MappingProxyType(
    {
        "gaussian": _gaussian,
        "uniform": _uniform,
        "laplace": _laplace,
        "student_t": _student_t,
        "mixture": _mixture,
    }
)
"""Distributions by name. Student's t has 5 degrees of freedom; the mixture has two Gaussians at +-0.8."""


def unit_noise(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw independent values of mean 0 and variance 1.

    Parameters
    ----------
    kind : str
        A key of `PROCESS_NOISES`.
    rng : numpy.random.Generator
        Generator of the values.
    shape : tuple of int
        Shape of the draw; a draw with more rows begins with the draw with fewer.

    Returns
    -------
    ndarray
        Noise of that shape, float64.
    """
    return PROCESS_NOISES[kind](rng, shape)
