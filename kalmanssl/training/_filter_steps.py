"""Filter steps of several bins.

The filter may advance by several bins at a time, with the activity summed over them. A segment is then cut into
interleaved sequences: with steps of four bins there are four sequences, each shifted by one bin against the next, which
together contain every bin.
"""

from __future__ import annotations

import numpy as np

__all__ = ["interleave", "join_steps", "sum_bins"]


def sum_bins(values: np.ndarray, n: int, ahead: int = 0) -> np.ndarray:
    """Sum n bins for every bin of (time, features): the bin itself, `ahead` bins after it, and the others before it.

    Bins before the start and after the end count as zeros. The sums have the type of the values.
    """
    total = values.copy()
    # A difference of cumulative sums would leave rounding errors where all bins are zero.
    for shift in range(1, n - ahead):
        total[shift:] += values[: max(len(values) - shift, 0)]
    for shift in range(1, ahead + 1):
        total[: max(len(values) - shift, 0)] += values[shift:]
    return total


def interleave(values: np.ndarray, n: int, pad_end: bool = False) -> np.ndarray:
    """Cut (time, features) into n sequences of every n-th bin, (n, steps, features).

    If `time` is not a multiple of n, there are zeros before the start, or with `pad_end` after the end. With the latter
    the sequences up to a bin do not depend on how many bins follow it.
    """
    zeros = np.zeros((-len(values) % n, values.shape[1]), values.dtype)
    padded = np.concatenate([values, zeros] if pad_end else [zeros, values])
    return padded.reshape(-1, n, values.shape[1]).swapaxes(0, 1)


def join_steps(steps: np.ndarray, time: int, pad_end: bool = False) -> np.ndarray:
    """Join the bins of all steps (steps, n, ...) to (time, ...), the inverse of `interleave` with its axes swapped."""
    joined = steps.reshape(-1, *steps.shape[2:])
    return joined[:time] if pad_end else joined[len(joined) - time :]
