"""The precision of covariances: float32 where it is accurate enough, float64 elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.kalman._model import Model

__all__ = ["MIN_NOISE_RATIO", "MIN_VARIANCE_RATIO", "check_precision", "float32_is_enough", "has_float64"]

# Smallest ratio of noise variance to innovation variance at which covariances in float32 stay safely positive definite.
MIN_NOISE_RATIO = 1e-4
# Smallest ratio of two variances of the state at which the rounding of the larger one does not spoil the smaller one.
MIN_VARIANCE_RATIO = 1e-4


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


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64."""
    return device.type != "mps"


@torch.no_grad()
def float32_is_enough(model: Model) -> bool:
    """Whether the observation noise is large enough, relative to the signal, for covariances in float32.

    It is judged from R, Q and P0. An observation with little noise reduces a variance of C P C' to about R. Float32
    resolves both only if R / C P C' is well above its rounding error of 6e-8, with a margin for the error that
    accumulates over many steps.
    """
    P0, Q, R = (_variances(p, full) for p, full in ((model.P0, 3), (model.Q, 4), (model.R, 4)))
    state = torch.maximum(P0.amax(), Q.amax())
    signal = model.C.square().sum(-1).amax() * state
    return bool(torch.where(R < 0, torch.inf, R).amin() >= MIN_NOISE_RATIO * signal)


def _variances(noise: Tensor, ndim_if_full: int) -> Tensor:
    return noise.diagonal(dim1=-2, dim2=-1) if noise.ndim == ndim_if_full else noise
