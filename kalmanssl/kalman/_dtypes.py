"""The precision of covariances: float32 where it is accurate enough, float64 elsewhere."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.kalman._model import Model
from kalmanssl.utils.precision import has_float64

__all__ = [
    "MIN_NOISE_RATIO",
    "MIN_VARIANCE_RATIO",
    "PrecisionWarning",
    "check_precision",
    "float32_is_enough",
    "warn_if_imprecise",
]

# Smallest ratio of noise variance to innovation variance at which covariances in float32 stay safely positive definite.
MIN_NOISE_RATIO = 1e-4
# Smallest ratio of two variances of the state at which the rounding of the larger one does not spoil the smaller one.
MIN_VARIANCE_RATIO = 1e-4
# Smallest ratio of noise variance to signal variance at which no warning is given if float32 was requested. In 400
# random models the log-likelihood in float32 was off by at most 1e-3 nats per observed number above it, and by up to
# 1.3 nats below 1e-7.
_ACCEPTED_NOISE_RATIO = 1e-6


class PrecisionWarning(RuntimeWarning):
    """A filter computes in float32, and the observation noise is too small for it."""


def check_precision(precision: torch.dtype | None, y: Tensor) -> None:
    """Check that `precision` is a supported data type and that the device of y has it."""
    if not (precision is None or precision is torch.float32 or precision is torch.float64):
        raise InputError(
            f"precision: expected torch.float32, torch.float64 or None, got {precision!r}", parameter="precision"
        )
    if precision == torch.float64 and not has_float64(y.device):
        raise InputError(
            f"precision: {y.device} has no float64; move y and the parameters to the cpu with .cpu()",
            parameter="precision",
        )


def float32_is_enough(model: Model) -> bool:
    """Whether the observation noise is large enough, relative to the signal, for covariances in float32.

    It is judged from R, Q and P0. An observation with little noise reduces a variance of C P C' to about R. Float32
    resolves both only if R / C P C' is well above its rounding error of 6e-8, with a margin for the error that
    accumulates over many steps.
    """
    return _noise_ratio_is_at_least(MIN_NOISE_RATIO, model)


def warn_if_imprecise(model: Model, y: Tensor, precision: torch.dtype | None, implementation: str) -> None:
    """Warn if covariances have to be computed in float32, and the observation noise is too small for it.

    They have to if `precision` says so, if the device has nothing better, and in the reference implementation, which
    has the precision of its arguments.
    """
    has_better = y.is_cpu or has_float64(y.device)
    in_float32 = precision is torch.float32 or (
        precision is None and y.dtype is torch.float32 and (implementation == "reference" or not has_better)
    )
    if in_float32 and not _noise_ratio_is_at_least(_ACCEPTED_NOISE_RATIO, model):
        remedy = "leave out precision or pass torch.float64" if has_better else "compute on the cpu"
        warnings.warn(
            f"R is smaller than {_ACCEPTED_NOISE_RATIO:g} times the variance of C x: in float32 the log-likelihood can "
            f"be wrong; {remedy}",
            PrecisionWarning,
            stacklevel=3,
        )


@torch.no_grad()
def _noise_ratio_is_at_least(ratio: float, model: Model) -> bool:
    """Whether the smallest variance of R is at least `ratio` times the largest variance of C x, by P0 and Q."""
    P0, Q, R = (_variances(p, full) for p, full in ((model.P0, 3), (model.Q, 4), (model.R, 4)))
    state = torch.maximum(P0.amax(), Q.amax())
    signal = model.C.square().sum(-1).amax() * state
    return bool(torch.where(R < 0, torch.inf, R).amin() >= ratio * signal)


def _variances(noise: Tensor, ndim_if_full: int) -> Tensor:
    return noise.diagonal(dim1=-2, dim2=-1) if noise.ndim == ndim_if_full else noise
