"""Latents of a session, cut into sequences of filter steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Sequences", "SessionLatents"]


@dataclass(frozen=True)
class SessionLatents:
    """Latents of one session.

    Attributes
    ----------
    smoothed : (time, latent)
        Smoothed mean of the latents.
    observed : (time, latent)
        Output of the encoder, which is the observation of the filter.
    segment : (time,) int
        Number of the contiguous segment of each bin.
    bins_per_step : int
        Bins by which the filter advances. The observations of bins that are closer to each other overlap.
    """

    smoothed: np.ndarray
    observed: np.ndarray
    segment: np.ndarray
    bins_per_step: int


@dataclass(frozen=True)
class Sequences:
    """Sequences of every `bins_per_step`-th bin of a segment.

    Attributes
    ----------
    index : (sequences, steps) int
        Bin of every step; -1 after the end of a sequence.
    is_start : (sequences,) bool
        Whether the sequence begins at the start of a segment; long ones are cut.
    """

    index: np.ndarray
    is_start: np.ndarray

    @classmethod
    def of(cls, latents: SessionLatents, n_offsets: int, longest: int) -> Sequences:
        """Cut a session into sequences of at most `longest` steps, at `n_offsets` of the offsets of a step."""
        step = latents.bins_per_step
        offsets = np.unique(np.linspace(0, step, min(n_offsets, step), endpoint=False).astype(int))
        pieces, starts = [], []
        for segment in np.split(np.arange(len(latents.segment)), np.flatnonzero(np.diff(latents.segment)) + 1):
            for offset in offsets:
                bins = segment[offset::step]
                for first in range(0, len(bins), longest):
                    pieces.append(bins[first : first + longest])
                    starts.append(first == 0)
        index = np.full((len(pieces), max(len(piece) for piece in pieces)), -1)
        for row, piece in zip(index, pieces, strict=True):
            row[: len(piece)] = piece
        return cls(index, np.array(starts))

    @property
    def bins(self) -> np.ndarray:
        """The bins of all sequences, one after another, without the ends that are filled."""
        return self.index[self.index >= 0]

    def transitions(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the labels (time,) at the two steps of every transition inside a sequence."""
        known = self.index[:, 1:] >= 0
        return labels[self.index[:, :-1][known]], labels[self.index[:, 1:][known]]
