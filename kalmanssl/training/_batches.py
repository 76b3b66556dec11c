"""What training draws its batches from: windows of sequences, or pairs of views of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from kalmanssl.errors import InputError
from kalmanssl.training._windows import RandomWindows
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.validation import check_whole

__all__ = ["PairBatches", "TrainingData", "WindowBatches", "WindowSettings"]


class TrainingData(Protocol):
    """Batches, of whatever the model's `terms` takes.

    Every epoch has its own stream of random numbers, so that a run that was interrupted and resumed sees what an
    uninterrupted one would have seen.
    """

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""

    @property
    def held_out(self) -> IterableDataset | None:
        """The batch that training is judged by, always the same; None if nothing is held out."""

    def batches(self, epoch: int) -> IterableDataset:
        """Batches of an epoch."""

    def sample(self) -> Any:
        """Return one batch of the training part, always the same."""


@dataclass(frozen=True)
class WindowSettings:
    """How windows are drawn.

    Attributes
    ----------
    window, bins_per_step : int
        Bins per training window, and bins that the filter advances by.
    batch_size : int
        Windows per step. The entropy is estimated on the latents of one batch.
    steps_per_epoch : int
    activity_sampling_power : float
        Power of the mean activity that windows are drawn in proportion to.
    """

    window: int
    bins_per_step: int
    batch_size: int
    steps_per_epoch: int
    activity_sampling_power: float

    def __post_init__(self) -> None:
        for name in ("window", "bins_per_step", "batch_size", "steps_per_epoch"):
            check_whole(name, getattr(self, name), 1)
        if self.activity_sampling_power < 0:
            raise InputError(f"activity_sampling_power must not be negative, got {self.activity_sampling_power}")
        if self.window < 2 * self.bins_per_step:
            raise InputError(
                f"window must hold at least 2 steps of {self.bins_per_step} bins, since a sequence needs a past; "
                f"got {self.window} bins"
            )


class WindowBatches:
    """Batches of windows (batch, time, features) of contiguous stretches.

    Parameters
    ----------
    training, held_out : sequences of (time, features)
        Contiguous stretches (`kalmanssl.training.hold_out_blocks`); without held-out ones nothing is held out.
    settings : WindowSettings
    seed : int
    """

    def __init__(
        self, training: Sequence[np.ndarray], held_out: Sequence[np.ndarray], settings: WindowSettings, seed: int
    ) -> None:
        self.training, self.settings, self.seed = training, settings, seed
        self.steps_per_epoch = settings.steps_per_epoch
        # Drawn as those of training are: a loss on other windows would not compare.
        self.held_out = self._windows(held_out, 1, -1) if len(held_out) else None

    def batches(self, epoch: int) -> RandomWindows:
        """Batches of an epoch."""
        return self._windows(self.training, self.steps_per_epoch, epoch)

    def sample(self) -> Tensor:
        """Return one batch of the training part, always the same."""
        return next(iter(self._windows(self.training, 1, -1)))

    def _windows(self, stretches: Sequence[np.ndarray], batches: int, epoch: int) -> RandomWindows:
        s = self.settings
        return RandomWindows(
            stretches,
            s.window,
            s.bins_per_step,
            s.batch_size,
            batches,
            activity_sampling_power=s.activity_sampling_power,
            seed=self.seed,
            epoch=epoch,
        )


class PairBatches:
    """Batches of pairs (x, x'): two views of the same samples, or partners that belong together.

    Parameters
    ----------
    n_samples : int
        Samples that an epoch goes through, in an order of its own; what does not fill a batch is left out.
    draw : callable
        Takes indices (batch,) and returns the pair (x, x') of tensors (batch, …), with whatever randomness from torch's
        global generator, which is seeded before each call.
    batch_size : int
        Pairs per step and process. The entropy is estimated on one batch, of all processes that train together.
    seed : int
        Not negative.

    Raises
    ------
    InputError
        If a batch is larger than the set, or has less than two pairs.
    """

    held_out = None

    def __init__(
        self, n_samples: int, draw: Callable[[Tensor], tuple[Tensor, Tensor]], batch_size: int, seed: int
    ) -> None:
        check_whole("batch_size", batch_size, 2)
        check_whole("seed", seed, 0)
        if batch_size > n_samples:
            raise InputError(f"batch_size must be at most the {n_samples} samples that there are, got {batch_size}")
        self.n_samples, self.draw, self.batch_size, self.seed = n_samples, draw, int(batch_size), int(seed)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch, which processes that train together share."""
        return max(1, self.n_samples // (self.batch_size * rank_and_size()[1]))

    def batches(self, epoch: int) -> _Pairs:
        """Batches of an epoch."""
        return _Pairs(self, epoch)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return one batch, always the same."""
        return next(iter(_Pairs(self, -1)))


class _Pairs(IterableDataset):
    """One epoch of a `PairBatches`."""

    def __init__(self, source: PairBatches, epoch: int) -> None:
        super().__init__()
        self.source, self.seed = source, source.seed + 1_000_003 * epoch

    def __len__(self) -> int:
        return self.source.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        source, (rank, size) = self.source, rank_and_size()
        generator = torch.Generator().manual_seed(abs(self.seed))
        order = torch.randperm(source.n_samples, generator=generator)
        generator.manual_seed(int(torch.randint(2**62, (), generator=generator)) + rank)
        for chosen in order.split(source.batch_size)[rank : len(self) * size : size]:
            with torch.random.fork_rng(devices=[]):  # dropout and the like go on drawing as if nothing had been
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
                pair = source.draw(chosen)
            yield pair
