"""The recording and its running bins, and the scores of a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hc11.peers.predictive import Prediction
from kalmanssl.data import Recording, running_bins
from kalmanssl.datasets import place_cells
from kalmanssl.errors import InputError

__all__ = ["LEVELS", "SIMULATED", "Data", "limit_threads", "load", "score"]

LEVELS = ("50", "80", "95")
CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SIMULATED = {"n_units": 30, "duration": 240.0, "n_interneurons": 0}


@dataclass(frozen=True)
class Data:
    """The two parts of a recording and their running bins; settings are chosen and models fitted on `train` alone."""

    train: Recording
    test: Recording
    running_train: np.ndarray
    running_test: np.ndarray

    @property
    def position(self) -> np.ndarray:
        """Position in the training part, (time,)."""
        return self.train.behavior["position"]

    @property
    def first_minute(self) -> Recording:
        """The first minute of the test part, or all of it if it is shorter."""
        start = self.test.time[0] - self.test.bin_size / 2
        return self.test.restrict(start, start + 60.0)


def load(
    path: Path | None,
    bin_size: float = 0.025,
    split_at: float | None = None,
    end_zones: tuple[float, float] | None = None,
) -> Data:
    """Read the recording, or simulate one, and split it.

    Parameters
    ----------
    path : Path or None
        NWB file; None simulates a recording.
    bin_size : float
        Width of a bin, s.
    split_at : float, optional
        Training is before, testing after this time, s; by default that of the hc-11 session.
    end_zones : (float, float), optional
        Ends of the track: position below the first and above the second; by default those of the hc-11 session.
    """
    if path is None:
        rec = place_cells(**SIMULATED, bin_size=bin_size, random_state=0)
        split_at = float(rec.time[int(0.6 * len(rec.time))]) if split_at is None else split_at
        end_zones = end_zones or (0.1, 1.5)
    else:
        rec = Recording.from_nwb(path, bin_size=bin_size)
        split_at = 18960.0 if split_at is None else split_at
        end_zones = end_zones or (-0.15, 1.10)
    train, test = rec.split(at=split_at)
    masks = [running_bins(part.behavior["position"], end_zones=end_zones) for part in (train, test)]
    for part, mask in zip(("training", "test"), masks, strict=True):
        if not mask.any():
            raise InputError(
                f"the {part} part has no traversal between position < {end_zones[0]} and > {end_zones[1]}: set "
                "--end-zones",
                parameter="end_zones",
            )
    return Data(train, test, *masks)


def score(prediction: Prediction, truth: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Return the scores on the bins in `mask`: errors of the median, widths and CRPS in cm, coverages as shares."""
    true = truth[mask]
    error = 100 * np.abs(prediction.median[mask] - true)
    coverage, width = {}, {}
    for level in CURVE:
        lower, upper = (bound[mask] for bound in prediction.interval(level))
        coverage[f"{100 * level:g}"] = float(np.mean((lower <= true) & (true <= upper)))
        width[f"{100 * level:g}"] = float(100 * np.mean(upper - lower))
    return {
        "median": float(np.median(error)),
        "mean": float(np.mean(error)),
        "r2": float(1 - np.mean(error**2) / np.var(100 * true)),
        "coverage": {level: coverage[level] for level in LEVELS},
        "width": {level: width[level] for level in LEVELS},
        "crps": float(100 * np.mean(prediction.crps(truth)[mask])),
        "calibration": coverage,
    }


def limit_threads(threads: int) -> None:
    """Give every method the same number of threads, in torch and in the linear algebra of numpy."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)
