"""Latents as labeled arrays: tables of pandas, time series of pynapple and data sets of xarray."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data._alignment import AlignMixin
from kalmanssl.data._pynapple import to_tsdframe
from kalmanssl.utils.segments import segment_starts

if TYPE_CHECKING:
    import pandas
    import xarray

    from kalmanssl.data._latents import Covariances

__all__ = ["LatentTables", "bin_width", "state_names"]


def state_names(count: int) -> list[str]:
    """Return the names of the dimensions of the state, "state_0", "state_1", ..."""
    return [f"state_{number}" for number in range(count)]


def bin_width(time: np.ndarray, segment: np.ndarray) -> float:
    """Return the median step between the bins of a segment, seconds; zero if every segment has one bin."""
    steps = np.diff(time)[np.diff(segment) == 0]
    return float(np.median(steps)) if len(steps) else 0.0


class LatentTables(AlignMixin):
    """The methods of `Latents` that return labeled arrays."""

    mean: np.ndarray
    covariances: Covariances
    time: np.ndarray
    latent: np.ndarray
    noise: np.ndarray
    log_likelihood: np.ndarray
    segment: np.ndarray
    smoothed: bool

    def segments(self) -> list[slice]:
        """Return the contiguous segments, in order, as slices into the time axis."""
        borders = [*np.flatnonzero(segment_starts(self.segment)).tolist(), len(self.segment)]
        return [slice(start, stop) for start, stop in pairwise(borders)]

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the posterior mean as a table: columns "state_0", "state_1", ..., index "time" in seconds."""
        import pandas

        index = pandas.Index(self.time, name="time")
        return pandas.DataFrame(self.mean, index=index, columns=state_names(self.mean.shape[1]))

    def to_pynapple(self) -> Any:
        """Return the posterior mean as a `TsdFrame` with the columns of `to_dataframe`, and segments as time support.

        Raises
        ------
        InputError
            If pynapple is not installed.
        """
        columns = dict(zip(state_names(self.mean.shape[1]), self.mean.T, strict=True))
        width = bin_width(self.time, self.segment)
        return to_tsdframe(self.time, columns, self.segments(), width, "Latents.to_pynapple")

    def to_xarray(self, cov: bool = False) -> xarray.Dataset:
        """Return all latents as a labeled data set.

        Parameters
        ----------
        cov : bool
            Include the posterior covariance of every bin, which is large for long recordings.

        Returns
        -------
        xarray.Dataset
            `mean` and `sd` (time, state), the mean and the standard deviation of the posterior; `latent` and `noise`
            (time, latent); `log_likelihood` and `segment` (time), and `cov` (time, state, state_2) if it is wanted.
            The attribute `units` has the unit of measurement where there is one.
        """
        import xarray

        states = state_names(self.mean.shape[1])
        variance = np.diagonal(self.covariances.table, axis1=1, axis2=2)[self.covariances.index]
        variables: dict[str, Any] = {
            "mean": (("time", "state"), self.mean),
            "sd": (("time", "state"), np.sqrt(variance)),
            "latent": (("time", "latent"), self.latent),
            "noise": (("time", "latent"), self.noise, {"long_name": "variance of the observation noise"}),
            "log_likelihood": ("time", self.log_likelihood, {"units": "nats per bin"}),
            "segment": ("time", self.segment),
        }
        coordinates: dict[str, Any] = {
            "time": ("time", self.time, {"units": "s"}),
            "state": states,
            "latent_dim": ("latent", np.arange(self.latent.shape[1])),
        }
        if cov:
            variables["cov"] = (("time", "state", "state_2"), self.covariances.dense())
            coordinates["state_2"] = states
        return xarray.Dataset(variables, coordinates, {"posterior": "smoothed" if self.smoothed else "filtered"})

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        return {"mean": (("state",), self.mean)}

    def _coordinates(self) -> dict[str, Any]:
        return {"state": state_names(self.mean.shape[1])}
