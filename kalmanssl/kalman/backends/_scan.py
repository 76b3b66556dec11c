"""The filter with scans in time: its recursions take about 2 log2(steps) operations on large stacks (for GPUs).

The algorithm and its derivatives are those of `_adjoint.py`. Three recursions are replaced: the covariances
(`_covariance_scan.py`), the means with given gains, and their derivatives (`_parallel_scan.py`).

Accuracy: in float64 the moments and log-likelihoods agree with those of `_reference.py` up to the rounding of the
latter, 1e-13 relative to a standard deviation for ordinary noise. Neither is exact for observation noise of 1e-6 of
the signal with almost no process noise, where two orders of the same operations differ by up to 2e-8. Covariances of
float32 data are computed in float64, because recursions in float32 lose positive definiteness at such noise. If a scan
is not accurate, or a covariance not positive definite, the loops of `_adjoint.py` run instead, with jitter where that
helps.
"""

from __future__ import annotations

import torch

from kalmanssl.kalman._model import Model, Observations
from kalmanssl.kalman._moments import Moments
from kalmanssl.kalman.backends._adjoint import filter_adjoint

__all__ = ["filter_scan"]


def filter_scan(model: Model, observations: Observations, precision: torch.dtype | None = None) -> Moments:
    """Run the filter; only first derivatives are available."""
    return filter_adjoint(model, observations, precision, parallel=True)
