"""Segments of time: random training windows, held-out blocks, and filter steps of several bins.

The filter may advance by several bins at a time, with the activity summed over them. A segment is then cut into
interleaved sequences: with steps of four bins there are four sequences, each shifted by one bin against the next, which
together contain every bin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.validation import check_condition, check_number

__all__ = ["RandomWindows", "deinterleave", "hold_out_blocks", "interleave", "sum_bins"]


def hold_out_blocks(
    segments: Sequence[np.ndarray], fraction: float, window: int, n_blocks: int = 5
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Hold out `n_blocks` blocks of time, evenly distributed over all contiguous segments.

    Blocks and not single windows are held out, because neighboring bins of a recording resemble each other: a held-out
    bin between two training bins would not be independent of them.

    Parameters
    ----------
    segments : sequence of (time, features)
    fraction : float
        Fraction of the time to hold out, 0 <= fraction < 1. With 0 nothing is held out.
    window : int
        Bins per window. Pieces shorter than this are dropped from either part, since no window can be drawn from them.
    n_blocks : int

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
    if fraction == 0:
        return [s for s in segments if len(s) >= window], []
    total = sum(len(s) for s in segments)
    block = max(round(fraction * total / n_blocks), window)
    centers = (np.arange(n_blocks) + 0.5) / n_blocks * total
    training: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    offset = 0
    for segment in segments:
        cuts = [0]
        for center in centers:
            start = int(center) - block // 2 - offset
            if start >= cuts[-1] and start + block <= len(segment):
                held_out.append(segment[start : start + block])
                cuts += [start, start + block]
        cuts.append(len(segment))
        training += [segment[a:b] for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
        offset += len(segment)
    training = [s for s in training if len(s) >= window]
    if not training or not held_out:
        raise InputError(
            f"{total} bins are too few to hold out {n_blocks} blocks of at least {window} bins and train on the rest: "
            "use a smaller window, validation_fraction=0, or a longer recording",
            parameter="validation_fraction",
        )
    return training, held_out


def sum_bins(values: np.ndarray, n: int, ahead: int = 0) -> np.ndarray:
    """Sum n bins for every bin of (time, features): the bin itself, `ahead` bins after it, and the others before it.

    Bins before the start and after the end count as zeros.
    """
    before, after = np.zeros((n - ahead, values.shape[1])), np.zeros((ahead, values.shape[1]))
    padded = np.cumsum(np.concatenate([before, values, after]), axis=0, dtype=np.float64)
    return padded[n:] - padded[:-n]


def interleave(values: np.ndarray, n: int) -> np.ndarray:
    """Cut (time, features) into n sequences of every n-th bin, (n, steps, features), with zeros before the start."""
    missing = -len(values) % n
    padded = np.concatenate([np.zeros((missing, values.shape[1]), values.dtype), values])
    return padded.reshape(-1, n, values.shape[1]).swapaxes(0, 1)


def deinterleave(sequences: np.ndarray, time: int) -> np.ndarray:
    """Join sequences (n, steps, ...) to (time, ...), the inverse of `interleave`."""
    joined = sequences.swapaxes(0, 1).reshape(-1, *sequences.shape[2:])
    return joined[len(joined) - time :]


class RandomWindows:
    """Draws batches of windows that start at random times of contiguous segments.

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
        Windows are drawn with a probability proportional to this power of their mean activity (the sum over features);
        with 0 all start times are equally likely.
    seed : int
    """

    def __init__(
        self,
        segments: Sequence[np.ndarray],
        window: int,
        step: int,
        batch_size: int,
        activity_sampling_power: float,
        seed: int,
    ) -> None:
        self.data = torch.from_numpy(np.concatenate(segments)).float()
        lengths = np.array([len(s) for s in segments])
        offsets = np.cumsum(lengths) - lengths
        places = [np.arange(o, o + n - window + 1) for o, n in zip(offsets, lengths, strict=True)]
        self.starts = torch.from_numpy(np.concatenate(places))
        activity = torch.cat([torch.zeros(1, dtype=torch.float64), self.data.sum(1).double().cumsum(0)])
        mean_activity = activity[self.starts + window] - activity[self.starts]
        weight = mean_activity.clamp_min(0) ** activity_sampling_power
        self.cumulative = weight.cumsum(0) if weight.sum() > 0 else torch.ones_like(weight).cumsum(0)
        self.offsets = step * torch.arange(window // step)
        self.batch_size, self.seed = batch_size, seed

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
