"""The latents that the decoder of one kind of latents receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kalmanssl.data import Covariances

__all__ = ["DecoderInput"]


@dataclass(frozen=True)
class DecoderInput:
    """Latents of consecutive bins to decode, with what a decoder needs to know of the bins.

    Attributes
    ----------
    mean : (time, features)
        Not finite where latents are missing.
    cov : Covariances or None
    segment : (time,) int
        Number of the contiguous segment of each bin.
    time : (time,) or None
        Seconds, if they are known.
    time_since_fit : (time,)
        Time since the end of the fit, seconds; NaN where it is unknown.
    earlier : (earlier bins, features), optional
        Latents of the bins before the first one, which continues their segment.
    """

    mean: np.ndarray
    cov: Covariances | None
    segment: np.ndarray
    time: np.ndarray | None
    time_since_fit: np.ndarray
    earlier: np.ndarray | None = None

    @property
    def bin_time(self) -> np.ndarray:
        """The times, or the numbers of the bins if times are not known, (time,)."""
        return np.arange(len(self.mean), dtype=float) if self.time is None else self.time

    @property
    def age(self) -> np.ndarray:
        """The time since the end of the fit, seconds, (time,); zero where it is unknown."""
        return np.nan_to_num(self.time_since_fit)

    @property
    def missing(self) -> np.ndarray:
        """The bins without latents, (time,) bool."""
        return ~np.isfinite(self.mean).all(axis=1)

    def zero_missing(self, values: np.ndarray) -> np.ndarray:
        """Return values (time, columns) with zeros in the bins without latents."""
        missing = self.missing
        return np.where(missing[:, None], 0.0, values) if missing.any() else values

    def features(self, make: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Return `make(mean, segment)` of the bins, from their latents and the earlier ones of their segment."""
        if self.earlier is None or len(self.earlier) == 0:
            return make(self.mean, self.segment)
        before = np.full(len(self.earlier), self.segment[0])
        mean, segment = np.concatenate([self.earlier, self.mean]), np.concatenate([before, self.segment])
        return make(mean, segment)[len(self.earlier) :]
