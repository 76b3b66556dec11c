"""Latents: the posterior over the latent state at every bin of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kalmanssl.data._bin_selection import row_index
from kalmanssl.data._latent_tables import LatentTables
from kalmanssl.utils.sparkline import sparkline
from kalmanssl.utils.summaries import Summary
from kalmanssl.utils.text import time_span

__all__ = ["Covariances", "Latents", "infer_latents", "no_observations", "split_trials"]


@dataclass(frozen=True)
class Covariances:
    """Covariance matrices of a series of bins, with each distinct matrix stored once.

    With constant noise the posterior covariance converges within seconds, and most bins share one matrix. Indexing
    with a slice, an index array or a boolean mask selects bins.

    Attributes
    ----------
    table : (distinct, state, state)
        The distinct covariance matrices.
    index : (time,) int
        Row of `table` that holds the covariance of each bin.
    """

    table: np.ndarray
    index: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence[Covariances]) -> Covariances:
        """Join the covariances of consecutive segments.

        Segments that were filtered with constant noise go through the same matrices; these are then stored once.
        """
        longest = max((part.table for part in parts), key=len)
        if all(np.array_equal(part.table, longest[: len(part.table)]) for part in parts):
            return cls(longest, np.concatenate([part.index for part in parts]))
        tables = list({id(part.table): part.table for part in parts}.values())  # some share theirs
        first = np.cumsum([0] + [len(table) for table in tables[:-1]])
        offsets = {id(table): offset for table, offset in zip(tables, first, strict=True)}
        index = [part.index + offsets[id(part.table)] for part in parts]
        return cls(np.concatenate(tables), np.concatenate(index))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, bins: slice | np.ndarray) -> Covariances:
        return Covariances(self.table, self.index[bins])

    def dense(self) -> np.ndarray:
        """Return the covariance of every bin, (time, state, state); a copy, large for long recordings."""
        return self.table[self.index]

    def used(self) -> Covariances:
        """Return the same covariances with a table of only those matrices that a bin has."""
        kept, index = np.unique(self.index, return_inverse=True)
        return Covariances(self.table[kept], index)

    def scaled(self, scale: np.ndarray) -> Covariances:
        """Return the covariances, in float64, of states that were divided by `scale` (state,)."""
        return Covariances(self.table.astype(float) / scale[:, None] / scale, self.index)

    def square_roots(self) -> np.ndarray:
        """Return a root `S` of every matrix in `table`, (distinct, state, state) float64, with `S S' = P`.

        It exists for singular covariances, too; negative eigenvalues from rounding are set to zero.
        """
        values, vectors = np.linalg.eigh(self.table.astype(float))
        return vectors * np.sqrt(np.maximum(values, 0))[:, None, :]


@dataclass(frozen=True, repr=False)
class Latents(Summary, LatentTables):
    """Posterior over the latent state at every bin of a recording.

    `numpy.asarray(latents)` is the posterior mean, so latents can be passed to any estimator of scikit-learn. Indexing
    with a slice, an index array or a boolean mask over time selects bins.

    Attributes
    ----------
    mean : (time, state)
        Posterior mean of the state: filtered (past and present data) or smoothed (all data).
    covariances : Covariances
        Posterior covariance of the state, with each distinct matrix stored once; `cov` has one per bin.
    time : (time,)
        Bin centers in the recording's clock, seconds.
    latent : (time, latent)
        Output of the encoder, which the filter takes as its observation.
    noise : (time, latent)
        Variance of the observation noise of each latent dimension.
    log_likelihood : (time,)
        Log-density of `latent` given the latents before it, nats per bin. With filter steps of `bins_per_step` bins
        it is the log-density of the step that ends at the bin, divided by `bins_per_step`.
    segment : (time,) int
        Number of the contiguous segment of each bin; the filter starts again in every segment.
    smoothed : bool
        True if the posterior is given the whole segment, False if it is given only the past and present.
    session : str
        Name of the session of the recording, whose clock the times are in; "" if it has none.
    """

    mean: np.ndarray
    covariances: Covariances
    time: np.ndarray
    latent: np.ndarray
    noise: np.ndarray
    log_likelihood: np.ndarray
    segment: np.ndarray
    smoothed: bool = False
    session: str = ""

    @classmethod
    def concatenate(cls, parts: Sequence[Latents]) -> Latents:
        """Join latents of consecutive segments or trials, in order of time; segments are numbered again from 0.

        The result has no session name if the parts have different ones.
        """
        shift = np.cumsum([0] + [part.segment.max(initial=-1) + 1 for part in parts[:-1]])
        arrays = ("mean", "time", "latent", "noise", "log_likelihood")
        names = {part.session for part in parts}
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays},
            covariances=Covariances.concatenate([part.covariances for part in parts]),
            segment=np.concatenate([part.segment + by for part, by in zip(parts, shift, strict=True)]),
            smoothed=all(part.smoothed for part in parts),
            session=names.pop() if len(names) == 1 else "",
        )

    @property
    def cov(self) -> np.ndarray:
        """Posterior covariance of every bin, (time, state, state); a copy, large for long recordings."""
        return self.covariances.dense()

    def _summary(self) -> list[tuple[str, str]]:
        time = time_span(self.time[0], self.time[-1]) if len(self.time) else "none"
        sd = np.sqrt(np.diagonal(self.covariances.table, axis1=1, axis2=2)).mean() if len(self.time) else np.nan
        likelihood = self.log_likelihood[np.isfinite(self.log_likelihood)]
        return [
            ("bins", str(len(self.time))),
            ("time", time),
            ("segments", str(len(np.unique(self.segment)))),
            ("posterior", "smoothed, given all data" if self.smoothed else "filtered, given past and present"),
            ("state dimensions", str(self.mean.shape[1])),
            ("latent dimensions", str(self.latent.shape[1])),
            ("mean posterior sd", f"{sd:.3g}"),
            ("mean log-likelihood", f"{likelihood.mean():.3g} nats per bin" if len(likelihood) else "unknown"),
            *([("session", self.session)] if self.session else []),
        ]

    def _picture(self) -> tuple[str, str, str] | None:
        picture = sparkline(self.log_likelihood)
        text = "of each bin given those before it; low where it was not predicted"
        return ("log-likelihood over time", picture, text) if picture else None

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the posterior mean, (time, state)."""
        return self.mean.shape

    @property
    def dtype(self) -> np.dtype:
        """Data type of the posterior mean."""
        return self.mean.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.mean if dtype is None else self.mean.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __getitem__(self, index: slice | np.ndarray) -> Latents:
        per_bin = ("mean", "covariances", "time", "latent", "noise", "log_likelihood", "segment")
        return replace(self, **{name: getattr(self, name)[row_index(index)] for name in per_bin})


def split_trials(latents: Latents, n_segments: Sequence[int]) -> list[Latents]:
    """Split latents of consecutive trials, each with a number of segments; segments are numbered from 0 in each."""
    trials, first = [], 0
    for count in n_segments:
        inside = (latents.segment >= first) & (latents.segment < first + count)
        trial = latents[inside]
        trials.append(replace(trial, segment=trial.segment - first))
        first += count
    return trials


def no_observations(n_bins: int) -> dict[str, Any]:
    """Return the arrays of `Latents` that are not of the state, without columns or NaN: they take no memory."""
    nothing = np.zeros((n_bins, 0), dtype=np.float32)
    log_likelihood = np.broadcast_to(np.float32(np.nan), n_bins)
    return {"latent": nothing, "noise": nothing, "log_likelihood": log_likelihood}


def infer_latents(model: Any, recording: Any, smooth: bool = False, means_only: bool = False) -> Any:
    """Return the latents of a recording or of trials from a fitted model, also if `set_output` asks for tables.

    With `means_only`, models that have the method `posterior` of `KalmanSSL` return what a decoder needs, with means in
    single precision.
    """
    if not hasattr(model, "posterior"):
        return model.transform(recording, smooth=True) if smooth else model.transform(recording)
    return model.posterior(recording, smooth, means_only=means_only)
