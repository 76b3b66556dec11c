"""Sets of videos with their labels, the true mixing function and step map, and a stream of new batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from kalmanssl.datasets._motions import Motion
from kalmanssl.datasets._rendering import Mixing
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_choice, check_integer

__all__ = ["POISSON", "SPLITS", "DotVideos", "VideoSource", "network_seed"]

SPLITS = ("train", "test", "validation")
POISSON = "poisson"  # noise of counts, around the output of the mixing function

_QUIET = 0.3  # part of the mean that "random_gaussian" takes off an exponential noise level
# Independent streams of random numbers: what is drawn (the first entry of a spawn key), then from which split.
_FIXED, _STREAM, _SHUFFLE, _NETWORK = range(4)


@dataclass(frozen=True)
class VideoSource:
    """Settings from which videos are drawn; the fields are arguments of `dot_videos`, which validates them."""

    motion: Motion
    mixing: Mixing
    n_frames: int
    pixels: int
    noise: str
    noise_variance: float
    split: str
    repeated: bool
    random_state: int

    def seeds(self, kind: int, number: int = 0) -> list[np.random.SeedSequence]:
        """Streams for the trajectories, the noise levels and the pixels of the videos of a kind and number."""
        own = [kind, SPLITS.index(self.split), number]
        shared = [kind, 0, number] if self.repeated else own
        return [
            np.random.SeedSequence(self.random_state, spawn_key=(*key, i))
            for i, key in enumerate((shared, shared, own))
        ]

    def draw(self, n_videos: int, kind: int = _FIXED, number: int = 0) -> DotVideos:
        """Draw so many videos: the fixed set, or the batch of a number from a stream."""
        paths, levels, pixels = self.seeds(kind, number)
        trajectories = self.motion.draw(paths, n_videos, self.n_frames, published=self.repeated)
        level = self._noise_level(np.random.default_rng(levels), trajectories.position)
        return DotVideos(
            position=trajectories.position,
            predicted=trajectories.predicted,
            noise_variance=level,
            visible=self.mixing.visible(trajectories.position),
            phase=trajectories.phase,
            jumps=trajectories.jumps,
            motion=self.motion,
            _source=self,
            _pixel_seed=pixels,
        )

    def _noise_level(self, rng: np.random.Generator, position: np.ndarray) -> np.ndarray:
        mean = self.noise_variance
        if self.noise == POISSON:
            return np.full(position.shape[:2], np.nan)
        if self.noise == "random_gaussian":
            level = np.maximum(0.0, mean * (rng.standard_exponential(position.shape[:2]) - _QUIET))
        elif self.noise == "state_dependent":
            level = mean * np.abs(0.5 * (position[..., 0] + 1.0))
        else:
            level = np.full(position.shape[:2], mean)
        if self.repeated and self.motion.starts_at_full_noise:
            level[:, 0] = mean
        return level


@dataclass(frozen=True, eq=False)
class DotVideos:
    """Videos of a moving dot, with their true latents.

    The pixels are drawn when `videos` is first read, so that trajectories alone need little time and memory.

    Attributes
    ----------
    position : ndarray
        True latents, without noise, (n_videos, n_frames, dims).
    predicted : ndarray
        Conditional mean of each position given the earlier ones, the same shape; NaN in frame 0.
    noise_variance : ndarray
        Variance of the pixel noise, (n_videos, n_frames); NaN for spike counts, whose variance is their expectation.
    visible : ndarray
        True where the position is in the field of view, (n_videos, n_frames); always
        True for a network.
    phase : ndarray or None
        Angle along the motion, radians, (n_videos, n_frames); None for motions without one.
    jumps : ndarray or None
        True where the dot has just jumped, (n_videos, n_frames); None for motions without jumps.
    motion : Motion
        The motion with its settings.
    """

    position: np.ndarray = field(repr=False)
    predicted: np.ndarray = field(repr=False)
    noise_variance: np.ndarray = field(repr=False)
    visible: np.ndarray = field(repr=False)
    phase: np.ndarray | None = field(repr=False)
    jumps: np.ndarray | None = field(repr=False)
    motion: Motion
    _source: VideoSource = field(repr=False)
    _pixel_seed: np.random.SeedSequence = field(repr=False)

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.position)

    @cached_property
    def videos(self) -> np.ndarray:
        """Pixels with noise, or spike counts, (n_videos, n_frames, pixels), float32."""
        videos = self.render(self.position)
        if self._source.noise == POISSON:
            counts = np.random.Generator(np.random.SFC64(self._pixel_seed))
            for video in videos:
                video[:] = counts.poisson(video)
        elif self.noise_variance.any():
            noise = np.random.Generator(np.random.SFC64(self._pixel_seed))
            for video, variance in zip(videos, self.noise_variance, strict=True):
                drawn = noise.standard_normal(video.shape, dtype=np.float32)
                drawn *= np.sqrt(variance, dtype=np.float32)[:, None]
                video += drawn
        return videos

    @property
    def sin_pos(self) -> np.ndarray | None:
        """Cosine and sine of `phase`, (n_videos, n_frames, 2); None for motions without a phase."""
        return None if self.phase is None else np.stack([np.cos(self.phase), np.sin(self.phase)], axis=-1)

    def render(self, position: Any) -> np.ndarray:
        """Map positions to pixels without noise, or to expected counts: the true mixing function g.

        Parameters
        ----------
        position : array-like
            (..., dims).

        Returns
        -------
        ndarray
            (..., pixels), float32.

        Raises
        ------
        InputError
            If positions have another number of dimensions or are not finite.
        """
        points = self._points(position)
        out = np.empty((*points.shape[:-1], self._source.pixels), dtype=np.float32)
        self._source.mixing.render(points.reshape(-1, self.motion.dims), out.reshape(-1, self._source.pixels))
        return out

    def step(self, position: Any) -> np.ndarray:
        """Mean of the next position given this one: the true step map m.

        Parameters
        ----------
        position : array-like
            (..., dims).

        Returns
        -------
        ndarray
            (..., dims).

        Raises
        ------
        InputError
            If positions have another number of dimensions or are not finite, or if the motion is "square" or
            "figure8", whose next position follows from the phase; `predicted` has the means of these.
        """
        return self.motion.step(self._points(position))

    def _points(self, position: Any) -> np.ndarray:
        points = np.asarray(position, dtype=float)
        if points.ndim == 0 or points.shape[-1] != self.motion.dims:
            raise InputError(
                f"position must have shape (..., {self.motion.dims}), got {points.shape}", parameter="position"
            )
        if not np.isfinite(points).all():
            bad = int((~np.isfinite(points)).sum())
            raise InputError(f"position has {bad} NaN or infinite values; leave them out", parameter="position")
        return points

    def stream(self, batch_size: int, fresh: str = "trajectories", start: int = 0) -> Iterator[DotVideos]:
        """Return an endless iterator over new batches; each call yields the same batches.

        Parameters
        ----------
        batch_size : int
            Videos in a batch.
        fresh : {"trajectories", "noise"}
            What is new in a batch: everything, or only the pixel noise, on the videos of this set in an order that
            is shuffled again in each round (as published, all but the wobbly motion).
        start : int
            Number of the first batch, to continue a stopped run.

        Yields
        ------
        DotVideos
            The next batch, of the same split and system.

        Raises
        ------
        InputError
            If the batch size or the start is no whole number, or `fresh` is unknown.
        """
        check_integer("batch_size", batch_size, 1)
        check_integer("start", start, 0)
        check_choice("fresh", fresh, ("trajectories", "noise"))
        return self._batches(int(batch_size), fresh == "noise", int(start))

    def _batches(self, batch_size: int, noise_only: bool, number: int) -> Iterator[DotVideos]:
        while True:
            if noise_only:
                pixels = self._source.seeds(_STREAM, number)[-1]
                yield self._subset(self._shuffled(number * batch_size, batch_size), pixels)
            else:
                yield self._source.draw(batch_size, _STREAM, number)
            number += 1

    def _shuffled(self, first: int, n: int) -> np.ndarray:
        """Return entries first to first + n - 1 of an endless sequence of shuffled passes through the set."""
        rounds = range(first // len(self), (first + n - 1) // len(self) + 1)
        orders = [np.random.default_rng(self._source.seeds(_SHUFFLE, i)[-1]).permutation(len(self)) for i in rounds]
        return np.concatenate(orders)[first - rounds.start * len(self) :][:n]

    def _subset(self, rows: np.ndarray, pixel_seed: np.random.SeedSequence) -> DotVideos:
        labels = ("position", "predicted", "noise_variance", "visible", "phase", "jumps")
        chosen = {name: getattr(self, name) for name in labels}
        chosen = {name: None if label is None else label[rows] for name, label in chosen.items()}
        return replace(self, **chosen, _pixel_seed=pixel_seed)


def network_seed(random_state: int) -> np.random.SeedSequence:
    """Return the seed sequence of the random network: the same in all splits."""
    return np.random.SeedSequence(random_state, spawn_key=(_NETWORK,))
