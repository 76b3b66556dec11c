"""Random training windows, and the choice of their length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.validation import check_integer

__all__ = ["RandomWindows", "choose_window"]

_LEAST_USABLE = 0.9  # smallest fraction of the bins in segments that hold a training window


def choose_window(lengths: Sequence[int], window: int, bins_per_step: int, hold_out: bool) -> int:
    """Choose the length of the training windows for segments of these lengths: as long as possible, at most `window`.

    Every window lies inside one segment, so shorter segments cannot be used for training. The result is the longest
    window that meets two conditions. The segments of at least its length have 90 % of the bins of all segments of at
    least two steps, and they hold several windows: four if a part is held out, else two.

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


class RandomWindows:
    """Draws batches of windows that start at random times of contiguous segments.

    Without a preference for active windows, a segment is drawn with a probability proportional to its number of bins,
    and each start time in it is equally likely.

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
        These probabilities are multiplied by this power of the mean activity of the window (the sum over features) and
        normalized. With 0 the activity has no influence.
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
        self._ends = torch.from_numpy(np.cumsum(lengths))
        places = [np.arange(o, o + n - window + 1) for o, n in zip(offsets, lengths, strict=True)]
        self.starts = torch.from_numpy(np.concatenate(places))
        activity = torch.cat([torch.zeros(1, dtype=torch.float64), self.data[:, :n_active].sum(1).double().cumsum(0)])
        in_window = activity[self.starts + window] - activity[self.starts]
        # A segment that is just as long as a window has one start time, however many bins it has.
        n_starts = lengths - window + 1
        bins_per_start = torch.from_numpy(np.repeat(lengths / n_starts, n_starts))
        active = in_window.clamp_min(0)
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

    def tiles(self) -> tuple[Tensor, Tensor]:
        """Return windows (windows, entries, features) that do not overlap and have nearly all bins; and their segments.

        The latter are numbers of segments, (windows,) int.
        """
        starts = torch.from_numpy(np.concatenate(self._tile_starts))
        return self.data[starts[:, None] + self.offsets], self._segment_of(starts)

    def batches(self, count: int, epoch: int = 0) -> Iterator[Tensor]:
        """Draw `count` batches (batch, entries, features) of an epoch.

        Every epoch has its own stream of random numbers, and so has every process of those that train together.
        """
        for rows in self._draws(count, epoch):
            yield self.data.index_select(0, rows.flatten()).unflatten(0, rows.shape)  # faster than with brackets

    def batch_with_segments(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Return the first batch of an epoch, and the number of the segment of each window, (batch,) int."""
        rows = next(self._draws(1, epoch))
        return self.data[rows], self._segment_of(rows[:, 0])

    def _draws(self, count: int, epoch: int) -> Iterator[Tensor]:
        """Draw the bins (batch, entries) int of `count` batches."""
        seed = self.seed + 1_000_003 * epoch + 500_009 * rank_and_size()[0]
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            drawn = torch.rand(self.batch_size, generator=generator, dtype=torch.float64) * self.cumulative[-1]
            chosen = torch.searchsorted(self.cumulative, drawn, right=True).clamp_max(len(self.starts) - 1)
            yield self.starts[chosen][:, None] + self.offsets

    def _segment_of(self, starts: Tensor) -> Tensor:
        return torch.searchsorted(self._ends, starts.contiguous(), right=True)
