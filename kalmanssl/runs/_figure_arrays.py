"""Arrays for the figures of a report: an excerpt in detail, and the whole part thinned out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.plotting import explained_variance, order_by_peak, principal_axes
from kalmanssl.runs._evaluated_bins import EvaluatedBins
from kalmanssl.runs._excerpt import excerpt_bins
from kalmanssl.runs._labels import label_arrays
from kalmanssl.runs.report import error_profile, map_arrays

if TYPE_CHECKING:
    from kalmanssl.data import Latents
    from kalmanssl.decoding import DecodedCategory, DecodedPosition

__all__ = ["TIMES", "figure_arrays"]

# Arrays of times, and of colors, which can be times. Single precision has steps of 128 s in the clock of Unix.
TIMES = ("time", "block_time", "worst_time", "color")

_MAX_EXCERPT_UNITS = 200
_MAX_LATENT_POINTS = 6_000
_MAX_DECODED_POINTS = 30_000


def figure_arrays(
    recording: Recording,
    latents: Latents,
    decoded: DecodedPosition | DecodedCategory | None,
    bins: EvaluatedBins,
) -> dict[str, np.ndarray]:
    """Return the arrays of `kalmanssl.runs.Evaluation`.

    The excerpt is one of much running or of changes between labels, or else of much activity.
    """
    interest = recording.activity.sum(axis=1) if bins.runs is None else bins.runs
    shown = excerpt_bins(recording, interest, None if bins.labels is None else bins.numbers)
    arrays = _excerpt(recording, latents, bins, shown) | _overview(latents, bins)
    if decoded is not None:
        arrays |= _decoded_arrays(decoded, recording, bins, shown)
    return arrays


def _excerpt(recording: Recording, latents: Latents, bins: EvaluatedBins, shown: np.ndarray) -> dict[str, np.ndarray]:
    """Return the data and latents of an excerpt.

    If the behavior is a number, the units are in the order of its values where they fire most.
    """
    truth, runs = bins.numbers, bins.runs
    busiest = np.argsort(-recording.activity.sum(axis=0), kind="stable")[:_MAX_EXCERPT_UNITS]
    chosen = np.sort(busiest)
    if bins.labels is None and truth is not None and truth.reshape(len(truth), -1).shape[1] == 1:
        where = slice(None) if runs is None or not runs.any() else runs
        chosen = chosen[order_by_peak(recording.activity[where][:, chosen], truth.reshape(-1)[where])]
    arrays = {
        "time": latents.time[shown],
        "counts": recording.activity[shown][:, chosen],
        "units": chosen,
        "noise": latents.noise[shown],
        "log_likelihood": latents.log_likelihood[shown],
    }
    if runs is not None:
        arrays["runs"] = runs[shown]
    if truth is not None:
        arrays["truth"] = truth[shown].reshape(len(truth[shown]), -1)
    return {name: np.asarray(array) for name, array in arrays.items()}


def _overview(latents: Latents, bins: EvaluatedBins) -> dict[str, np.ndarray]:
    """Return the latents along their principal axes, with the behavior, or else the time, as color."""
    truth = bins.numbers
    where = bins.main if bins.main.any() else np.ones(len(latents), dtype=bool)
    some = _thin(np.flatnonzero(where), _MAX_LATENT_POINTS)
    axes = principal_axes(latents.mean, where)
    color = latents.time if truth is None else truth.reshape(len(truth), -1)[:, 0]
    return {
        "latents": (latents.mean[some] - latents.mean[where].mean(axis=0)) @ axes,
        "variance_explained": explained_variance(latents.mean[where], axes),
        "color": color[some],
    }


def _decoded_arrays(
    decoded: DecodedPosition | DecodedCategory, recording: Recording, bins: EvaluatedBins, excerpt: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the decoded behavior in the bins of the excerpt, and decoded and true behavior in the scored bins."""
    from kalmanssl.decoding import DecodedCategory

    if isinstance(decoded, DecodedCategory):
        return label_arrays(decoded, excerpt)
    lower, upper = decoded.interval(decoded.level)
    arrays = {
        name: values[excerpt].reshape(len(excerpt), -1)
        for name, values in (("mean", decoded.mean), ("lower", lower), ("upper", upper))
    }
    if bins.truth is None or not bins.known.any():
        return arrays
    some = _thin(np.flatnonzero(bins.main), _MAX_DECODED_POINTS)
    arrays["decoded"] = decoded.mean[some].reshape(len(some), -1)
    arrays["tracked"] = bins.truth[some].reshape(len(some), -1)
    runs = bins.runs if bins.main_part == "running" else None
    profile = error_profile(decoded, bins.truth, runs, recording.bin_size)
    return arrays | profile | map_arrays(decoded, excerpt)


def _thin(index: np.ndarray, most: int) -> np.ndarray:
    """Keep every n-th index so that at most `most` remain."""
    return index[:: max(1, -(-len(index) // most))]
