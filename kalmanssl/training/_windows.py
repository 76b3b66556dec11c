"""Segments of time: random training windows, held-out blocks, and filter steps of several bins.

The filter may advance by several bins at a time, with the activity summed over them. A segment is then cut into
interleaved sequences: with steps of four bins there are four sequences, each shifted by one bin against the next, which
together contain every bin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.validation import check_condition, check_integer, check_number

__all__ = ["RandomWindows", "choose_window", "hold_out_blocks", "interleave", "join_steps", "sum_bins"]

_LEAST_USABLE = 0.9  # smallest fraction of the bins in segments that hold a training window


def choose_window(lengths: Sequence[int], window: int, bins_per_step: int, hold_out: bool) -> int:
    """Choose the length of the training windows for segments of these lengths: as long as possible, at most `window`.

    Every window lies inside one segment, so shorter segments cannot be used for training. The window is the longest one
    for which the segments that are long enough have at least 90 % of the bins (of segments of at least two steps). It
    is also so short that they hold several windows: four if a part is held out, else two.

    Parameters
    ----------
    lengths : sequence of int
        Bins of each contiguous segment.
    window : int
        Largest length, bins.
    bins_per_step : int
        Bins by which the filter advances in one step. The window is a multiple of it, at least two steps.
    hold_out : bool
        Whether a part of the time will be held out.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If `window` is shorter than two steps, or there is too little data for windows of two steps.
    """
    check_integer("window", window, 1)
    check_integer("bins_per_step", bins_per_step, 1)
    shortest = 2 * bins_per_step
    if window < shortest:
        raise InputError(
            f"window must hold at least 2 steps of {bins_per_step} bins, since a sequence needs a past; "
            f"got {window} bins",
            parameter="window",
        )
    bins = np.sort(np.asarray(lengths, dtype=int))
    longest = min(window, int(bins.max(initial=shortest)))
    candidates = np.arange(shortest, longest + 1, bins_per_step)
    # The bins in segments of at least each candidate.
    usable = np.append(np.cumsum(bins[::-1])[::-1], 0)[np.searchsorted(bins, candidates)]
    n_windows = 4 if hold_out else 2
    allowed = (usable >= _LEAST_USABLE * usable[0]) & (usable >= n_windows * candidates)
    if allowed.any():
        return int(candidates[allowed].max())
    raise InputError(
        f"too few bins to fit on: {usable[0]} of {bins.sum()} are in segments of at least {shortest} bins (2 steps), "
        f"and at least {n_windows} windows of this length are needed{' with a held-out part' if hold_out else ''}: "
        f"use a longer recording or fewer bins_per_step{', or validation_fraction=0' if hold_out else ''}"
    )


def hold_out_blocks(
    segments: Sequence[np.ndarray], fraction: float, window: int, n_blocks: int = 5
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Hold out up to `n_blocks` blocks of time, evenly distributed over all contiguous segments.

    Blocks and not single windows are held out, because neighboring bins of a recording resemble each other: a held-out
    bin between two training bins would not be independent of them. For the same reason a block consists of whole
    segments where these are short. Only segments of at least twice the length of a block are cut.

    Parameters
    ----------
    segments : sequence of (time, features)
    fraction : float
        Fraction of the time to hold out, 0 <= fraction < 1, approximately. With 0 nothing is held out.
    window : int
        Bins per window. Shorter pieces are dropped from either part, since no window can be drawn from them.
    n_blocks : int
        Largest number of blocks. There are fewer if the held-out time is shorter than `n_blocks` windows.

    Returns
    -------
    (training segments, held-out segments)

    Raises
    ------
    InputError
        If either part cannot hold one window.
    """
    check_number("validation_fraction", fraction)
    check_condition("validation_fraction", fraction, 0 <= fraction < 1, "at least 0 and below 1")
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
    blocks = _held_out_intervals(borders, fraction, window, n_blocks)
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


def _held_out_intervals(borders: np.ndarray, fraction: float, window: int, n_blocks: int) -> list[tuple[int, int]]:
    """Return the held-out intervals of the joined segments, whose borders are given, in order."""
    total = int(borders[-1])
    n_blocks = max(1, min(n_blocks, round(fraction * total / window)))
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


class RandomWindows:
    """Draws batches of windows that start at random times of contiguous segments.

    A segment is drawn in proportion to its number of bins, and each start time in it is equally likely, but for the
    preference for active windows.

    Parameters
    ----------
    segments : sequence of (time, features), each at least `window` long
    window : int
        Bins from the first to the last of a window.
    step : int
        Bins between two entries of a window, which has `window` // `step` entries.
    batch_size : int
        Windows per batch.
    activity_sampling_power : float
        Windows are drawn with a probability proportional to this power of their mean activity (the sum over features),
        too; with 0 the activity has no influence.
    seed : int
    n_active : int, optional
        Number of leading columns that are activity; by default all.
    """

    def __init__(
        self,
        segments: Sequence[np.ndarray],
        window: int,
        step: int,
        batch_size: int,
        activity_sampling_power: float,
        seed: int,
        n_active: int | None = None,
    ) -> None:
        joined = segments[0] if len(segments) == 1 else np.concatenate(segments)
        self.data = torch.from_numpy(np.ascontiguousarray(joined)).float()
        lengths = np.array([len(s) for s in segments])
        offsets = np.cumsum(lengths) - lengths
        places = [np.arange(o, o + n - window + 1) for o, n in zip(offsets, lengths, strict=True)]
        self.starts = torch.from_numpy(np.concatenate(places))
        activity = torch.cat([torch.zeros(1, dtype=torch.float64), self.data[:, :n_active].sum(1).double().cumsum(0)])
        mean_activity = activity[self.starts + window] - activity[self.starts]
        # A segment that is just as long as a window has one start time, however many bins it has.
        n_starts = lengths - window + 1
        bins_per_start = torch.from_numpy(np.repeat(lengths / n_starts, n_starts))
        active = mean_activity.clamp_min(0)
        weight = bins_per_start * active**activity_sampling_power
        if not bool(weight.sum().isfinite()):  # a large power overflows; the largest activity does not
            weight = bins_per_start * (active / active.max()) ** activity_sampling_power
        self.cumulative = (weight if weight.sum() > 0 else bins_per_start).cumsum(0)
        self.offsets = step * torch.arange(window // step)
        self.batch_size, self.seed = batch_size, seed
        self._tile_starts = [
            o + phase + np.arange(0, n - phase - int(self.offsets[-1]), step * len(self.offsets))
            for o, n in zip(offsets, lengths, strict=True)
            for phase in range(step)
        ]

    def tiles(self) -> Tensor:
        """Return windows (windows, entries, features) that do not overlap and have nearly all bins."""
        return self.data[torch.from_numpy(np.concatenate(self._tile_starts))[:, None] + self.offsets]

    def batches(self, count: int, epoch: int = 0) -> Iterator[Tensor]:
        """Draw `count` batches (batch, entries, features) of an epoch.

        Every epoch has its own stream of random numbers, and so has every process of those that train together.
        """
        seed = self.seed + 1_000_003 * epoch + 500_009 * rank_and_size()[0]
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            drawn = torch.rand(self.batch_size, generator=generator, dtype=torch.float64) * self.cumulative[-1]
            chosen = torch.searchsorted(self.cumulative, drawn, right=True).clamp_max(len(self.starts) - 1)
            yield self.data[self.starts[chosen][:, None] + self.offsets]
