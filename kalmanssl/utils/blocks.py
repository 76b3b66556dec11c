"""Blocks of time, the units of cross-validation and of standard errors, since errors of neighboring bins correlate."""

from __future__ import annotations

import numpy as np

from kalmanssl.utils.segments import gap_starts, segment_index

__all__ = ["block_borders", "blocks_of_time", "mean_over_blocks", "outside_block", "rolling_origins"]

_MAX_SHIFT = 0.25  # a border is moved to the next cut if it is at most this fraction of a block away


def blocks_of_time(time: np.ndarray, min_blocks: int = 40) -> np.ndarray:
    """Number the contiguous segments of time, with long ones cut until there are enough.

    The errors of the bins of one traversal are correlated. The calibration therefore counts segments (traversals, if
    only running bins are given) and not bins.

    Parameters
    ----------
    time : (time,)
        Increasing, seconds.
    min_blocks : int
        If there are fewer segments than this, those longer than the bins' share of one block are cut into pieces.

    Returns
    -------
    (time,) int
    """
    segment = segment_index(time)
    if len(time) < 2 or segment[-1] + 1 >= min_blocks:
        return segment
    longest = max(1, len(time) // min_blocks)
    within = np.arange(len(time)) - np.concatenate([[0], gap_starts(time)])[segment]
    length = np.bincount(segment)
    pieces = np.maximum(1, np.round(length / longest)).astype(int)
    piece = np.minimum(within * pieces[segment] // length[segment], pieces[segment] - 1)
    first = np.concatenate([[0], np.cumsum(pieces)[:-1]])
    return first[segment] + piece


def rolling_origins(block: np.ndarray, n_folds: int = 4, first_fold_fraction: float = 0.4) -> list[int]:
    """Return the indices of the bins at which the training part of each fold ends; all are borders of blocks.

    Parameters
    ----------
    block : (time,) int
        From `blocks_of_time`.
    n_folds : int
    first_fold_fraction : float
        Fraction of the bins in the training part of the first fold. The rest is divided into `n_folds + 1` parts, and
        the training part grows by one of them from fold to fold.
    """
    borders = np.flatnonzero(np.diff(block)) + 1
    if len(borders) == 0:
        return []
    wanted = (first_fold_fraction + (1 - first_fold_fraction) * np.arange(n_folds) / (n_folds + 1)) * len(block)
    return sorted({int(borders[np.argmin(np.abs(borders - value))]) for value in wanted})


def block_borders(n_bins: int, n_blocks: int, cuts: np.ndarray, only_at_cuts: bool = False) -> list[int]:
    """Divide bins into contiguous blocks of about equal length that begin at given cuts.

    Parameters
    ----------
    n_bins, n_blocks : int
        There must be at least one bin for each block.
    cuts : (cuts,) int
        Indices of bins at which a block should begin, such as the first ones after gaps; increasing, from 1 on.
    only_at_cuts : bool
        True: every block begins at a cut; there must be at least ``n_blocks - 1`` cuts. False: a border is moved to the
        nearest cut if this is at most a quarter of a block away.

    Returns
    -------
    list of int
        0, the indices of the first bins of the other blocks, and `n_bins`.
    """
    borders, first = [0], 0
    for number, border in enumerate(np.round(np.arange(1, n_blocks) * n_bins / n_blocks).astype(int), 1):
        if only_at_cuts:
            last = len(cuts) - (n_blocks - 1 - number)  # enough cuts are left for the blocks after this one
            first += int(np.argmin(np.abs(cuts[first:last] - border))) + 1
            borders.append(int(cuts[first - 1]))
            continue
        near = cuts[np.abs(cuts - border) <= _MAX_SHIFT * n_bins / n_blocks]
        borders.append(int(near[np.argmin(np.abs(near - border))]) if len(near) else int(border))
    return [*borders, n_bins]


def outside_block(time: np.ndarray, first: int, stop: int, before: float, after: float) -> np.ndarray:
    """Return which bins are outside the block ``first:stop`` and not near to it, (time,) bool.

    Parameters
    ----------
    time : (time,)
        Increasing, in units of the bin width.
    first, stop : int
        First bin of the block, and the bin after its last one.
    before, after : float
        Number of bins before and after the block that are near to it.
    """
    return (time < time[first] - before - 0.5) | (time > time[stop - 1] + after + 0.5)


def mean_over_blocks(values: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of values (bins, columns) over the bins, and its standard error over the blocks (bins,) int."""
    _, block = np.unique(block, return_inverse=True)
    mean = values.mean(axis=0)
    size = np.bincount(block)
    excess = np.stack([np.bincount(block, column) for column in (values - mean).T], axis=1)
    count = len(size)
    return mean, np.sqrt((excess**2).sum(axis=0) * count / max(count - 1, 1)) / size.sum()
