"""Decoding of filtered latents in pieces: each piece continues where the one before ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from kalmanssl.decoding.inputs import DecoderInput
from kalmanssl.utils.segments import is_gap

__all__ = ["Continuation"]

_TIME_CONSTANTS = 40  # after which an exponential average has forgotten the start, to double precision


@dataclass(frozen=True)
class Continuation:
    """What decoding needs of the bins before a piece.

    Attributes
    ----------
    time : float
        Time of the last bin, seconds.
    mean : (bins, features)
        Latents of the last bins, for the temporal context.
    beliefs : list of (states, rows, columns) array or None
        Filtered distribution of the last bin for each movement prior of each group of dimensions; None for the kind
        "none".
    """

    time: float
    mean: np.ndarray
    beliefs: list[np.ndarray | None]

    def reaches(self, time: float, bin_size: float) -> bool:
        """Return whether a bin at `time`, seconds, follows the last bin without a gap."""
        return time > self.time and not is_gap(time - self.time, bin_size)

    def to_state(self) -> dict[str, Any]:
        """Return the arguments that make this object again."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make the object from what `to_state` returned."""
        return cls(**state)

    @classmethod
    def after(
        cls,
        before: Continuation | None,
        given: DecoderInput,
        beliefs: list[np.ndarray | None],
        context_bins: float,
    ) -> Self:
        """Return the end of a piece; `context_bins` is the longest time scale of the temporal context."""
        last = given.mean[given.segment == given.segment[-1]]
        if before is not None and len(last) == len(given.mean):
            last = np.concatenate([before.mean, last])
        kept = math.ceil(_TIME_CONSTANTS * context_bins)
        return cls(float(given.bin_time[-1]), last[len(last) - min(kept, len(last)) :].copy(), beliefs)
