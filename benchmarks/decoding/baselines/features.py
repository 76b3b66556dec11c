"""Features of every bin: smoothed square-root counts or signals, and their sums in lagged windows."""

from __future__ import annotations

from typing import Literal

import numpy as np

from decoding.baselines.smoothing import causal_gaussian, centered_gaussian, lagged_sums
from decoding.tasks import Data

__all__ = ["CAUSAL_SD", "CENTERED_SD", "Smoothing", "lagged_counts", "smooth", "smoothed_counts", "square_roots"]

Smoothing = Literal["causal", "centered"]
CAUSAL_SD, CENTERED_SD = 0.2, 0.25  # s
LAG_WINDOW = 1.0  # s
MAX_FEATURES = 3500


def square_roots(data: Data, part: str) -> np.ndarray:
    """Return square roots of counts, or signals above their minimum in the training part, (time, units)."""
    activity = data.part(part).activity
    if data.train.kind == "counts":
        return np.sqrt(activity)
    return np.maximum(activity - np.asarray(data.train.activity).min(axis=0), 0.0)


def smoothed_counts(data: Data, part: str, kind: Smoothing) -> np.ndarray:
    """Return square roots of counts, smoothed with a half-Gaussian of 200 ms or a centered Gaussian of 250 ms."""
    return data.cache.get(("smoothed", part, kind), lambda: smooth(square_roots(data, part), data, part, kind))


def smooth(signal: np.ndarray, data: Data, part: str, kind: Smoothing) -> np.ndarray:
    """Smooth a signal (time, features) within the segments of a part of a recording."""
    rec = data.part(part)
    if kind == "causal":
        return causal_gaussian(signal, CAUSAL_SD / rec.bin_size, rec.segments()).astype(np.float32)
    return centered_gaussian(signal, CENTERED_SD / rec.bin_size, rec.segments()).astype(np.float32)


def lagged_counts(data: Data, part: str, kind: Smoothing) -> np.ndarray:
    """Return sums of square-root counts in successive windows of 1 s in total, (time, windows * units).

    The windows are 100 ms long, or 200 ms if there are many units. Causal ones end with the present bin; centered ones
    extend half a second to both sides.
    """

    def make() -> np.ndarray:
        rec = data.part(part)
        count = 10 if 10 * rec.n_units <= MAX_FEATURES else 5
        bins = max(round(LAG_WINDOW / count / rec.bin_size), 1)
        shift = 0 if kind == "causal" else count * bins // 2
        return lagged_sums(square_roots(data, part), bins, count, shift, rec.segments())

    return data.cache.get(("lagged", part, kind), make)
