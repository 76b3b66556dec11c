"""Time as training and the filter see it: windows, blocks that are held out, and steps of several bins.

The filter may advance by several bins at a time, with the activity summed over them. Its sequences then interleave:
with steps of four bins there are four, each a bin behind the next, and together they pass every bin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from kalmanssl.errors import InputError
from kalmanssl.utils.distributed import rank_and_size

__all__ = ["RandomWindows", "deinterleave", "hold_out_blocks", "interleave", "sum_bins"]


def hold_out_blocks(
    stretches: Sequence[np.ndarray], fraction: float, window: int, n_blocks: int = 5
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Take `n_blocks` blocks of time out of contiguous stretches, evenly spread over all of the time.

    Blocks and not single windows, because neighboring bins of a recording resemble each other: a held-out bin
    between two training bins would tell nothing.

    Parameters
    ----------
    stretches : sequence of (time, features)
    fraction : float
        Share of the time to hold out, 0 <= fraction < 1. With 0 nothing is held out.
    window : int
        Bins per window: no piece shorter than this is kept on either side, since no window could be drawn from it.

    Returns
    -------
    (training stretches, held-out stretches)

    Raises
    ------
    InputError
        If what is left cannot hold one window on either side.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"validation_fraction must be at least 0 and below 1, got {fraction}")
    longest = max((len(s) for s in stretches), default=0)
    if longest < window:
        raise InputError(
            f"the longest stretch without a gap has {longest} bins, shorter than a window of {window} bins: "
            "use a smaller window, or a longer recording"
        )
    if fraction == 0:
        return [s for s in stretches if len(s) >= window], []
    total = sum(len(s) for s in stretches)
    block = max(round(fraction * total / n_blocks), window)
    centers = (np.arange(n_blocks) + 0.5) / n_blocks * total
    training: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    offset = 0
    for stretch in stretches:
        cuts = [0]
        for center in centers:
            start = int(center) - block // 2 - offset
            if start >= cuts[-1] and start + block <= len(stretch):
                held_out.append(stretch[start : start + block])
                cuts += [start, start + block]
        cuts.append(len(stretch))
        training += [stretch[a:b] for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
        offset += len(stretch)
    training = [s for s in training if len(s) >= window]
    if not training or not held_out:
        raise InputError(
            f"{total} bins are too few to hold out {n_blocks} blocks of at least {window} bins and train on the rest: "
            "use a smaller window, validation_fraction=0, or a longer recording"
        )
    return training, held_out


def sum_bins(values: np.ndarray, n: int, ahead: int = 0) -> np.ndarray:
    """Sum of n bins for every bin, (time, features): itself, `ahead` bins after it and the others before it.

    Before the start and after the end there is nothing but zeros.
    """
    before, after = np.zeros((n - ahead, values.shape[1])), np.zeros((ahead, values.shape[1]))
    padded = np.cumsum(np.concatenate([before, values, after]), axis=0, dtype=np.float64)
    return padded[n:] - padded[:-n]


def interleave(values: np.ndarray, n: int) -> np.ndarray:
    """Cut (time, features) into n sequences of every n-th bin, (n, steps, features), zeros before the start."""
    missing = -len(values) % n
    padded = np.concatenate([np.zeros((missing, values.shape[1]), values.dtype), values])
    return padded.reshape(-1, n, values.shape[1]).swapaxes(0, 1)


def deinterleave(sequences: np.ndarray, time: int) -> np.ndarray:
    """Put sequences (n, steps, …) together again, (time, …): the inverse of `interleave`."""
    joined = sequences.swapaxes(0, 1).reshape(-1, *sequences.shape[2:])
    return joined[len(joined) - time :]


class RandomWindows(IterableDataset):
    """Batches of windows that start at random places of the stretches.

    Every epoch draws from its own stream, so that a run that was interrupted and resumed sees what an uninterrupted
    one would have seen.

    Parameters
    ----------
    stretches : sequence of (time, features), each at least `window` long
    window : int
        Bins from the first to the last of a window.
    step : int
        Bins between two entries of a window, which has `window` // `step` of them.
    batch_size, batches_per_epoch : int
    activity_sampling_power : float
        Windows are drawn with a probability that goes as their mean activity (the sum over features) to this power;
        with 0 every place is equally likely.
    seed, epoch : int
    """

    def __init__(
        self,
        stretches: Sequence[np.ndarray],
        window: int,
        step: int,
        batch_size: int,
        batches_per_epoch: int,
        activity_sampling_power: float,
        seed: int,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self.data = torch.from_numpy(np.concatenate(stretches)).float()
        lengths = np.array([len(s) for s in stretches])
        offsets = np.cumsum(lengths) - lengths
        places = [np.arange(o, o + n - window + 1) for o, n in zip(offsets, lengths, strict=True)]
        self.starts = torch.from_numpy(np.concatenate(places))
        activity = np.concatenate([[0.0], np.cumsum(self.data.sum(1).double().numpy())])
        mean_activity = torch.from_numpy(activity)[self.starts + window] - torch.from_numpy(activity)[self.starts]
        weight = mean_activity.clamp_min(0) ** activity_sampling_power
        self.cumulative = weight.cumsum(0) if weight.sum() > 0 else torch.ones_like(weight).cumsum(0)
        self.offsets = step * torch.arange(window // step)
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.seed = seed + 1_000_003 * epoch

    def __len__(self) -> int:
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[Tensor]:
        # Processes that train together draw windows of their own.
        generator = torch.Generator().manual_seed(self.seed + 500_009 * rank_and_size()[0])
        for _ in range(self.batches_per_epoch):
            drawn = torch.rand(self.batch_size, generator=generator, dtype=torch.float64) * self.cumulative[-1]
            chosen = torch.searchsorted(self.cumulative, drawn, right=True).clamp_max(len(self.starts) - 1)
            yield self.data[self.starts[chosen][:, None] + self.offsets]
