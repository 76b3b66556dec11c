"""Held-out blocks of time, for the choice of the best epoch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_fraction

__all__ = ["hold_out_blocks"]


_MAX_BLOCKS = 5


def hold_out_blocks(
    segments: Sequence[np.ndarray], fraction: float, window: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Hold out up to five blocks of time, evenly distributed over all contiguous segments.

    Blocks and not single windows are held out, because neighboring bins of a recording resemble each other: a held-out
    bin between two training bins would not be independent of them. For the same reason a block consists of whole
    segments where these are short. Only segments of at least twice the length of a block are cut.

    Parameters
    ----------
    segments : sequence of (time, features)
    fraction : float
        Fraction of the time to hold out, 0 <= fraction < 1, approximately. With 0 nothing is held out.
    window : int
        Bins per window. Shorter pieces are dropped from either part, since no window can be drawn from them. There are
        fewer blocks if the held-out time is shorter than five windows.

    Returns
    -------
    (training segments, held-out segments)

    Raises
    ------
    InputError
        If either part cannot hold one window.
    """
    check_fraction("validation_fraction", fraction)
    longest = max((len(s) for s in segments), default=0)
    if longest < window:
        raise InputError(
            f"the longest segment without a gap has {longest} bins, shorter than a window of {window} bins: "
            "use a smaller window, or a longer recording",
            parameter="window",
        )
    segments = [s for s in segments if len(s) >= window]
    if fraction == 0:
        return segments, []
    borders = np.cumsum([0, *(len(s) for s in segments)])
    training: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    blocks = _held_out_intervals(borders, fraction, window)
    for segment, start, stop in zip(segments, borders, borders[1:], strict=False):
        inside = [min(max(edge, start), stop) - start for block in blocks for edge in block]
        edges = [0, *inside, len(segment)]
        for i, (a, b) in enumerate(pairwise(edges)):
            if b - a >= window:
                (held_out if i % 2 else training).append(segment[a:b])
    if not training or not held_out:
        raise InputError(
            f"{borders[-1]} bins are too few to hold out {fraction:.0%} of them and train on the rest in windows of "
            f"{window} bins: use a smaller window, validation_fraction=0, or a longer recording",
            parameter="validation_fraction",
        )
    return training, held_out


def _held_out_intervals(borders: np.ndarray, fraction: float, window: int) -> list[tuple[int, int]]:
    """Return the held-out intervals of the joined segments, whose borders are given, in order."""
    total = int(borders[-1])
    n_blocks = max(1, min(_MAX_BLOCKS, round(fraction * total / window)))
    block = max(round(fraction * total / n_blocks), window)
    cut_allowed = np.zeros(total + 1, dtype=bool)
    cut_allowed[borders] = True
    for start, stop in pairwise(borders):
        if stop - start >= 2 * block:  # both pieces of a segment that is cut must hold a window
            cut_allowed[start + window : stop - window + 1] = True
    cuts = np.flatnonzero(cut_allowed)

    def nearest(position: int, minimum: int) -> int:
        allowed = cuts[np.searchsorted(cuts, minimum) :]
        return int(allowed[np.argmin(np.abs(allowed - position))]) if len(allowed) else total

    intervals: list[tuple[int, int]] = []
    end = 0
    for i in range(n_blocks):
        start = nearest(int((i + 0.5) / n_blocks * total) - block // 2, end)
        end = nearest(start + block, start + window)
        if end > start:
            intervals.append((start, end))
    return intervals
