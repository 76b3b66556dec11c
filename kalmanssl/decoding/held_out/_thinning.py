"""Subsets of the bins of long recordings, for fits and choices that need no more."""

from __future__ import annotations

import numpy as np

from kalmanssl.utils.moments import evenly_spaced

__all__ = ["thin_bins", "thin_blocks"]

_MIN_PIECE = 400  # bins of a block that are kept at least; a posterior depends on the start of a shorter piece


def thin_bins(bins: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of the bins of a mask (time,), evenly spaced and including the last one, as a mask."""
    count = int(bins.sum())
    if count <= most:
        return bins
    kept = np.zeros_like(bins)
    kept[np.flatnonzero(bins)[evenly_spaced(count, most)]] = True
    return kept


def thin_blocks(bins: np.ndarray, known: np.ndarray, block: np.ndarray, most: int) -> np.ndarray:
    """Return about `most` of the bins of a mask (time,): the first part of each block of time, without gaps.

    Parameters
    ----------
    bins : (time,) bool
    known : (time,) bool
        Bins that have a block; others are kept if they lie inside the part of a block that is kept.
    block : (time,) int
        Block of time of each known bin, increasing.
    most : int
        If there are very many blocks, evenly spaced ones are kept, so that 400 bins of each remain.
    """
    count = int(bins.sum())
    if count <= most:
        return bins
    index = np.flatnonzero(bins & known)
    first = np.flatnonzero(np.diff(block[index], prepend=block[index[0]] - 1))
    n_blocks = min(len(first), max(1, most // min(_MIN_PIECE, max(1, count // len(first)))))
    last = np.append(first[1:], len(index)) - 1
    picked = evenly_spaced(len(first), n_blocks)
    start, length = index[first[picked]], index[last[picked]] - index[first[picked]] + 1
    length = np.ceil(length * min(1.0, most / length.sum())).astype(int)
    kept = np.zeros_like(bins)
    for begin, size in zip(start, length, strict=True):
        kept[begin : begin + size] = True
    return bins & kept
