"""Folds: bins that a readout is fitted on, and held-out bins for choices and for the calibration."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from kalmanssl.data import Covariances, Latents, running_threshold, speed
from kalmanssl.decoding.grids import Periods
from kalmanssl.decoding.held_out._cross_fitting import HeldOutFit
from kalmanssl.decoding.held_out._drift import TrackedBins, TrainTestBlock
from kalmanssl.decoding.held_out._thinning import thin_blocks
from kalmanssl.decoding.inputs import MIN_BINS, DecoderInput, check_latents
from kalmanssl.errors import CalibrationWarning, InputError
from kalmanssl.utils.blocks import blocks_of_time, rolling_origins
from kalmanssl.utils.segments import segment_index, segment_starts

__all__ = [
    "Fold",
    "Samples",
    "fold_weights",
    "held_out_folds",
    "rolling_folds",
    "scored_sessions",
    "warn_if_few_blocks",
]

_MAX_DECODED = 100_000  # bins of a fold; more change neither the choices nor the calibration, but take time and memory


@dataclass(frozen=True)
class Samples:
    """Bins with latents and behavior, in order of time.

    Attributes
    ----------
    mean : (time, features), cov : Covariances or None
        Latents.
    behavior : (time, dims)
        NaN where it is unknown; circular columns are in [0, period).
    time : (time,)
        Seconds, or the number of the bin if times are not known.
    segment : (time,) int
        Contiguous segment of each bin.
    usable : (time,) bool
        Bins to fit and to score on.
    block : (time,) int
        Block of time of each usable bin, the unit of cross-validation.
    weight : (time,)
        Weight of each usable bin: bins at rest and in movement count equally in total. Their mean is one.
    moving : (time,) bool
        Whether the behavior moves; False for labels.
    session : (time,) int
        Number of the session of each bin. Times are compared within a session only.
    """

    mean: np.ndarray
    cov: Covariances | None
    behavior: np.ndarray
    time: np.ndarray
    segment: np.ndarray
    usable: np.ndarray
    block: np.ndarray
    weight: np.ndarray
    moving: np.ndarray
    session: np.ndarray

    def follows(self, picked: np.ndarray) -> np.ndarray:
        """Return which bins follow another bin of `picked` without a gap and are picked themselves, (time,) bool."""
        return picked & np.append(False, picked[:-1]) & ~segment_starts(self.segment)

    def sessions(self) -> list[slice]:
        """Return the bins of each session, which follow one another."""
        borders = np.searchsorted(self.session, np.arange(int(self.session[-1]) + 2))
        return [slice(start, stop) for start, stop in pairwise(borders.tolist())]

    def age(self, fitted: np.ndarray) -> np.ndarray:
        """Return the time since the last fitted bin of the same session, seconds, (time,); negative before it.

        It is zero in sessions without a fitted bin (time,) bool.
        """
        age = np.zeros(len(self.time))
        for own, times in self._fitted_times(fitted):
            age[own] = self.time[own] - times[-1]
        return age

    def lag(self, fitted: np.ndarray) -> np.ndarray:
        """Return the distance in time from the fitted bins of the same session, seconds, (time,).

        It is negative between the first and the last fitted bin, and zero in sessions without a fitted bin.
        """
        lag = np.zeros(len(self.time))
        for own, times in self._fitted_times(fitted):
            lag[own] = np.maximum(self.time[own] - times[-1], times[0] - self.time[own])
        return lag

    def _fitted_times(self, fitted: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the bins of each session that has fitted bins, and the times of the fitted ones."""
        for own in self.sessions():
            times = self.time[own][fitted[own]]
            if len(times):
                yield own, times

    @classmethod
    def from_latents(
        cls,
        latents: Latents | np.ndarray,
        behavior: np.ndarray,
        time: np.ndarray,
        usable: np.ndarray,
        periods: Periods,
        min_blocks: int,
        discrete: bool = False,
        session: np.ndarray | None = None,
    ) -> Samples:
        """Make samples of latents with behavior.

        Parameters
        ----------
        latents : Latents or (time, features)
        behavior : (time, dims)
            As in `Samples`; the number of a label if `discrete`.
        time : (time,)
            Increasing, over all sessions: seconds, or the number of the bin if times are not known.
        usable : (time,) bool
            Bins to fit and to score on.
        periods : tuple of float or None
            One per dimension.
        min_blocks : int
            Blocks that the time is cut into at least.
        discrete : bool
            Whether the behavior consists of labels; all bins then have the same weight.
        session : (time,) int, optional
            Number of the session of each bin; by default there is one.
        """
        mean, cov, _ = check_latents(latents)
        block = np.zeros(len(mean), dtype=int)
        block[usable] = blocks_of_time(time[usable], min_blocks)
        moving = np.zeros(len(mean), dtype=bool)
        if not discrete:
            moving[usable] = moving_bins(behavior[usable], time[usable], periods)
        weight = np.zeros(len(mean))
        share = moving[usable].mean()
        if 0 < share < 1:
            weight[usable] = np.where(moving[usable], 0.5 / share, 0.5 / (1 - share))
        else:
            weight[usable] = 1.0
        segment = latents.segment if isinstance(latents, Latents) else segment_index(time)
        session = np.zeros(len(mean), dtype=int) if session is None else session
        return cls(
            mean=mean,
            cov=cov,
            behavior=behavior,
            time=time,
            segment=np.asarray(segment),
            usable=usable,
            block=block,
            weight=weight,
            moving=moving,
            session=session,
        )


def moving_bins(behavior: np.ndarray, time: np.ndarray, periods: Periods) -> np.ndarray:
    """Return in which bins a known behavior (time, dims) moves, (time,) bool.

    Speed is the root mean square over the dimensions, each in units of its standard deviation. The threshold is that of
    `kalmanssl.data.running_threshold`.
    """
    columns = []
    for column, period in zip(behavior.T, periods, strict=True):
        values = column if period is None else np.unwrap(column, period=period)
        scale = float(np.std(values)) if period is None else period
        columns.append(values / scale if scale > 0 else values)
    scaled = np.stack(columns, axis=1)
    return np.nan_to_num(speed(scaled, time)) > running_threshold(scaled, time)


@dataclass(frozen=True)
class Fold:
    """Bins of `samples` to fit on, and later or earlier bins to score on.

    Attributes
    ----------
    samples : Samples
    train, test : (time,) bool
        Usable bins that are fitted, and all bins that are decoded; the usable ones of these are scored.
    """

    samples: Samples
    train: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, samples: Samples, train: np.ndarray, rest: np.ndarray) -> Fold:
        """Make a fold that is scored on the bins `rest` (time,) bool, or on a part of each block if they are many."""
        return cls(samples, train, thin_blocks(rest, samples.usable, samples.block, _MAX_DECODED))

    @property
    def scored(self) -> np.ndarray:
        """Which of the decoded bins are scored, (decoded bins,) bool."""
        return self.samples.usable[self.test]

    @property
    def scored_bins(self) -> np.ndarray:
        """Indices of the scored bins in `samples`."""
        return np.flatnonzero(self.test & self.samples.usable)

    @property
    def scored_sessions(self) -> np.ndarray | None:
        """Number of the session of each scored bin; None if some bins of these sessions are fitted."""
        session = self.samples.session
        scored = session[self.scored_bins]
        return None if np.isin(scored, session[self.train]).any() else scored

    @property
    def start(self) -> np.ndarray:
        """Which of the decoded bins do not follow the one before without a gap, (decoded bins,) bool."""
        jumps = np.diff(np.flatnonzero(self.test)) > 1
        return segment_starts(self.samples.segment[self.test]) | np.append(True, jumps)

    @property
    def lag(self) -> np.ndarray:
        """Distance in time of each decoded bin from the fitted part of its session, seconds; 0 if there is none."""
        return self.samples.lag(self.train)[self.test]

    @property
    def age(self) -> np.ndarray:
        """Time of each decoded bin since the last fitted bin of its session, seconds; 0 if there is none."""
        return self.samples.age(self.train)[self.test]

    @property
    def test_input(self) -> DecoderInput:
        """The latents of the decoded bins; their time since the fit is `age`."""
        s = self.samples
        cov = None if s.cov is None else s.cov[self.test]
        return DecoderInput(s.mean[self.test], cov, np.cumsum(self.start), s.time[self.test], self.age)

    def moving_blocks(self) -> list[TrainTestBlock]:
        """Return the usable bins in movement of both parts, in each session that has some in both."""
        s, blocks = self.samples, []
        used = s.usable & s.moving
        for own in s.sessions():
            parts = [own.start + np.flatnonzero((mask & used)[own]) for mask in (self.train, self.test)]
            if all(len(part) for part in parts):
                train, test = (TrackedBins(s.mean[part], s.behavior[part], s.time[part]) for part in parts)
                blocks.append(TrainTestBlock(train, test))
        return blocks


def scored_sessions(folds: Sequence[Fold]) -> np.ndarray | None:
    """Return `Fold.scored_sessions` of all folds together; None unless all score sessions that are left out."""
    sessions = [fold.scored_sessions for fold in folds]
    left_out = [one for one in sessions if one is not None]
    return np.concatenate(left_out) if len(left_out) == len(folds) else None


def fold_weights(folds: Sequence[Fold]) -> list[float]:
    """Return the weight of the errors of each fold in the calibration: half for each fold that is fitted on more bins.

    The final fit is most similar to the last fold. Folds that leave out sessions have equal weights.
    """
    if scored_sessions(folds) is not None:
        return [1.0] * len(folds)
    size = [int(fold.train.sum()) for fold in folds]
    return [0.5 ** sum(other > own for other in size) for own in size]


def rolling_folds(samples: Samples, n_folds: int, first_fold_fraction: float) -> list[Fold]:
    """Return folds that are fitted on the bins before a border of blocks and scored on all bins after it.

    Each session has a border of its own, and one that is too short for a border is fitted in all folds.

    Parameters
    ----------
    samples : Samples
    n_folds : int
        There are fewer if the blocks are few, and none if no session has a border.
    first_fold_fraction : float
        Fraction of the bins of a session that the first fold is fitted on, inside (0, 1).
    """
    borders = []
    for own in samples.sessions():
        index = own.start + np.flatnonzero(samples.usable[own])
        origins = rolling_origins(samples.block[index], n_folds, first_fold_fraction)
        borders.append(([int(index[origin]) for origin in origins], own.stop))
    folds = []
    for number in range(max(len(starts) for starts, _ in borders)):
        later = np.zeros(len(samples.time), dtype=bool)
        for starts, stop in borders:
            if starts:
                later[starts[min(number, len(starts) - 1)] : stop] = True
        folds.append(Fold.of(samples, samples.usable & ~later, later))
    return folds


def held_out_folds(
    held_out_fits: Sequence[HeldOutFit], latents: Latents, samples: Samples, sessions: Sequence[str] = ("",)
) -> list[Fold]:
    """Return one fold for each held-out fit, fitted on the bins of its model's fit and scored on the others.

    Parameters
    ----------
    held_out_fits : sequence of HeldOutFit
    latents : Latents
        Those of the whole model, over the bins of the samples.
    samples : Samples
    sessions : sequence of str
        Names of the sessions in the samples.

    Raises
    ------
    InputError
        If a held-out fit has other features, bins or sessions than the latents, or leaves too few bins on either side.
    """
    folds = []
    for fit in held_out_fits:
        if fit.latents.mean.shape[1] != latents.mean.shape[1]:
            raise InputError(
                f"held_out_fits have {fit.latents.mean.shape[1]} features, and latents {latents.mean.shape[1]}: fit "
                "copies of the same model",
                parameter="held_out_fits",
            )
        if len(fit.latents) != len(latents) or not np.allclose(fit.latents.time, latents.time):
            raise InputError(
                "held_out_fits have other bins than latents: transform the same recording",
                parameter="held_out_fits",
            )
        matching = fit.smoothed if latents.smoothed else fit.latents
        part = replace(samples, mean=matching.mean, cov=matching.covariances)
        inside, what = _fitted_part(fit, part, sessions)
        train, n_scored = part.usable & inside, int((part.usable & ~inside).sum())
        if train.sum() < MIN_BINS or n_scored == 0:
            raise InputError(
                f"a held-out fit {what} leaves {train.sum()} bins to fit on and {n_scored} to score: choose a part of "
                "the training time",
                parameter="held_out_fits",
            )
        folds.append(Fold.of(part, train, ~inside))
    return folds


def _fitted_part(fit: HeldOutFit, samples: Samples, sessions: Sequence[str]) -> tuple[np.ndarray, str]:
    """Return the bins (time,) bool of samples that the model of a held-out fit was fitted on, and a description."""
    if fit.fit_interval is not None:
        start, stop = fit.fit_interval
        return (samples.time >= start) & (samples.time <= stop), f"on {start:g} to {stop:g} s"
    if fit.left_out not in sessions:
        raise InputError(
            f"held_out_fits leave out session {fit.left_out!r}, and latents are of {', '.join(map(repr, sessions))}",
            parameter="held_out_fits",
        )
    return samples.session != sessions.index(fit.left_out), f"without session {fit.left_out!r}"


def warn_if_few_blocks(folds: list[Fold], level: float) -> None:
    """Warn if the calibration has too few blocks of time for the level, or none."""
    if not folds:
        message = "too few bins to hold out later blocks: intervals are not calibrated"
        warnings.warn(message, CalibrationWarning, stacklevel=4)
        return
    blocks = [fold.samples.block[fold.test & fold.samples.usable] for fold in folds]
    n_blocks = len(np.unique(np.concatenate(blocks)))
    if n_blocks + 1 < 1 / (1 - level):
        message = f"calibrated on {n_blocks} blocks of time: too few to guarantee a level of {level:g}"
        warnings.warn(message, CalibrationWarning, stacklevel=4)
