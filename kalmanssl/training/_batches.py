"""Sources of training batches: windows of sequences, and pairs of views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.training._windows import RandomWindows
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.validation import check_condition, check_fraction, check_integer, check_not_negative

__all__ = ["HeldOut", "PairBatches", "SessionBatches", "TrainingData", "WindowBatches", "WindowSettings"]


@dataclass(frozen=True)
class HeldOut:
    """Held-out part of the data of a training.

    Attributes
    ----------
    batches : iterable
        Batches, the same in every iteration.
    blocks : sequence of Tensor, optional
        For each batch the number of the block of time of each window, (windows,) int. The held-out score then has a
        standard error over these blocks.
    """

    batches: Iterable[Any]
    blocks: Sequence[Tensor] | None = None


class TrainingData(Protocol):
    """A source of batches, which may be anything that the model's `terms` accepts.

    Every epoch has its own stream of random numbers, so that a resumed run draws the same batches as an uninterrupted
    one.
    """

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""

    @property
    def held_out(self) -> HeldOut | None:
        """The held-out part; None if nothing is held out."""

    def batches(self, epoch: int) -> Iterable[Any]:
        """Return the batches of an epoch, counted from 0."""

    def sample(self) -> Any:
        """Return one batch of the training part, always the same."""


@dataclass(frozen=True)
class WindowSettings:
    """Settings of the random training windows.

    Attributes
    ----------
    window, bins_per_step : int
        Bins per training window, and bins by which the filter advances in one step.
    batch_size : int
        Windows per training step. The entropy is estimated on the latents of one batch.
    steps_per_epoch : int
    activity_sampling_power : float
        Windows are drawn with a probability proportional to this power of their mean activity.
    n_active : int, optional
        Number of leading columns that are activity, if the windows also contain other columns. By default all.
    """

    window: int
    bins_per_step: int
    batch_size: int
    steps_per_epoch: int
    activity_sampling_power: float
    n_active: int | None = None

    def __post_init__(self) -> None:
        for name in ("window", "bins_per_step", "batch_size", "steps_per_epoch"):
            check_integer(name, getattr(self, name), 1)
        check_not_negative("activity_sampling_power", self.activity_sampling_power)
        if self.window < 2 * self.bins_per_step:
            raise InputError(
                f"window must hold at least 2 steps of {self.bins_per_step} bins, since a sequence needs a past; "
                f"got {self.window} bins",
                parameter="window",
            )


class WindowBatches:
    """Batches of windows (batch, time, features) from contiguous segments of time.

    Parameters
    ----------
    training, held_out : sequences of (time, features)
        Contiguous segments (`kalmanssl.training.hold_out_blocks`). If `held_out` is empty, nothing is held out.
    settings : WindowSettings
    seed : int
    """

    def __init__(
        self, training: Sequence[np.ndarray], held_out: Sequence[np.ndarray], settings: WindowSettings, seed: int
    ) -> None:
        self.settings, self.seed = settings, seed
        self.steps_per_epoch = settings.steps_per_epoch
        self._training = self._windows(training)
        # Held-out windows are drawn in the same way as those of training if possible, so that losses can be compared.
        self._held_out = self._windows(held_out) if len(held_out) else None

    @property
    def held_out(self) -> HeldOut | None:
        """One held-out batch, always the same; its blocks are contiguous segments. None if nothing is held out.

        If a batch would have more entries than there are held-out bins, each bin is used about once instead: an entropy
        cannot be estimated from many copies of the same few bins.
        """
        if self._held_out is None:
            return None
        s = self.settings
        if s.batch_size * (s.window // s.bins_per_step) > len(self._held_out.data):
            (tiles, segments), (rank, size) = self._held_out.tiles(), rank_and_size()
            if len(tiles) >= size:
                mine = slice(rank, len(tiles) // size * size, size)
                return HeldOut([tiles[mine]], [segments[mine]])
        windows, segments = self._held_out.batch_with_segments(epoch=-1)
        return HeldOut([windows], [segments])

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Draw the batches of an epoch."""
        return self._training.batches(self.steps_per_epoch, epoch)

    def sample(self) -> Tensor:
        """Return one batch of the training part, always the same."""
        return next(self._training.batches(1, epoch=-1))

    def _windows(self, segments: Sequence[np.ndarray]) -> RandomWindows:
        s = self.settings
        return RandomWindows(
            segments, s.window, s.bins_per_step, s.batch_size, s.activity_sampling_power, self.seed, s.n_active
        )


class SessionBatches:
    """Batches with windows of every session, as tuples of tensors (batch, time, features).

    Parameters
    ----------
    sessions : sequence of WindowBatches
        With the same number of steps; either all hold out a part or none does.
    """

    def __init__(self, sessions: Sequence[WindowBatches]) -> None:
        self.sessions = tuple(sessions)
        self.steps_per_epoch = self.sessions[0].steps_per_epoch

    @property
    def held_out(self) -> HeldOut | None:
        """Held-out windows of every session; None if nothing is held out."""
        parts = [part.batches for one in self.sessions if (part := one.held_out) is not None]
        return HeldOut(list(zip(*parts, strict=True))) if parts else None

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Draw the batches of an epoch."""
        return zip(*(one.batches(epoch) for one in self.sessions), strict=True)

    def sample(self) -> tuple[Tensor, ...]:
        """Return one batch of the training part, always the same."""
        return tuple(one.sample() for one in self.sessions)


class PairBatches:
    """Batches of pairs (x, x'): two views of the same samples, or samples that belong together.

    Every epoch goes through all samples of the training part in a random order. An incomplete last batch is left out.

    Parameters
    ----------
    n_samples : int
    draw : callable
        Takes indices (batch,) and returns the pair (x, x') of tensors (batch, ...). Any randomness must come from the
        global generator of torch, which is seeded before each call.
    batch_size : int
        Pairs per step and process. The entropy is estimated on one batch of all processes that train together.
    seed : int
        Not negative.
    validation_fraction : float
        Fraction of the samples to hold out, chosen at random, 0 <= validation_fraction < 1.

    Raises
    ------
    InputError
        If a batch has fewer than two pairs, or more than the training part has samples, or the held-out part has fewer
        than two samples.
    """

    def __init__(
        self,
        n_samples: int,
        draw: Callable[[Tensor], tuple[Tensor, Tensor]],
        batch_size: int,
        seed: int,
        validation_fraction: float = 0.0,
    ) -> None:
        check_integer("batch_size", batch_size, 2)
        check_integer("seed", seed, 0)
        check_fraction("validation_fraction", validation_fraction)
        self.n_samples, self.draw, self.batch_size, self.seed = n_samples, draw, int(batch_size), int(seed)
        self._training, self._held_out = torch.arange(n_samples), torch.arange(0)
        if validation_fraction:
            shuffled = torch.randperm(n_samples, generator=torch.Generator().manual_seed(self.seed))
            count = round(validation_fraction * n_samples)
            self._held_out, self._training = shuffled[:count], shuffled[count:]
            fine = count >= 2
            check_condition(
                "validation_fraction", validation_fraction, fine, f"at least {2 / n_samples:.2g} (two samples)"
            )
        if batch_size > len(self._training):
            raise InputError(
                f"batch_size must be at most the {len(self._training)} samples of the training part, got {batch_size}",
                parameter="batch_size",
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch in each of the processes that train together."""
        return max(1, len(self._training) // (self.batch_size * rank_and_size()[1]))

    @property
    def held_out(self) -> HeldOut | None:
        """The held-out samples, with the same views in every iteration; None if nothing is held out."""
        return HeldOut(_HeldOutPairs(self)) if len(self._held_out) else None

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw the batches of an epoch."""
        rank, size = rank_and_size()
        generator = torch.Generator().manual_seed(abs(self.seed + 1_000_003 * epoch))
        order = self._training[torch.randperm(len(self._training), generator=generator)]
        return self._views(order.split(self.batch_size)[rank : self.steps_per_epoch * size : size], generator)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return one batch of the training part, always the same."""
        return next(self.batches(-1))

    def held_out_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw the held-out batches, with as many pairs in each process."""
        rank, size = rank_and_size()
        batch_size = min(self.batch_size, len(self._held_out) // size)
        if batch_size < 2:
            raise InputError(f"the {len(self._held_out)} held-out samples are too few for {size} processes")
        chunks = self._held_out.split(batch_size)
        n_batches = len(self._held_out) // (batch_size * size)
        return self._views(chunks[rank : n_batches * size : size], torch.Generator().manual_seed(self.seed + 1))

    def _views(self, chunks: Sequence[Tensor], generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        generator.manual_seed(int(torch.randint(2**62, (), generator=generator)) + rank_and_size()[0])
        for chosen in chunks:
            with torch.random.fork_rng(devices=[]):  # the random numbers of dropout must not depend on `draw`
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
                pair = self.draw(chosen)
            yield pair


class _HeldOutPairs:
    """Held-out pairs, drawn again in every iteration instead of kept in memory."""

    def __init__(self, source: PairBatches) -> None:
        self.source = source

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.source.held_out_batches()
