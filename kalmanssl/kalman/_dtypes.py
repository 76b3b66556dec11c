"""In what precision covariances are computed: float32 where it is enough, float64 elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from kalmanssl.kalman._validation import Model

__all__ = ["NOISE_SHARE", "VARIANCE_SHARE", "check_precision", "float32_is_enough", "has_float64"]

# The least ratio of noise to signal variance for which covariances in float32 stay positive definite with a margin.
NOISE_SHARE = 1e-4
# The least ratio of two variances of the state: rounding of the larger one is an error of the smaller one.
VARIANCE_SHARE = 1e-4


def check_precision(precision: torch.dtype | None, y: Tensor) -> None:
    """Check that a precision is one and that the device of y has it."""
    if precision not in (None, torch.float32, torch.float64):
        raise ValueError(f"precision: expected torch.float32, torch.float64 or None, got {precision!r}")
    if precision == torch.float64 and not has_float64(y.device):
        raise ValueError(f"precision: {y.device} has no float64; move y and the parameters to the cpu with .cpu()")


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64."""
    return device.type != "mps"


@torch.no_grad()
def float32_is_enough(model: Model) -> bool:
    """Whether the observation noise is large enough beside the signal, judged by the noises and the first state.

    An observation with little noise leaves a variance of about R where C P C' was before; float32 tells the two apart
    only while their ratio is well above its rounding, 6e-8, with a margin for what many steps add up.
    """
    P0, Q, R = (_variances(p, full) for p, full in ((model.P0, 3), (model.Q, 4), (model.R, 4)))
    state = torch.maximum(P0.amax(), Q.amax())
    signal = model.C.square().sum(-1).amax() * state
    return bool(torch.where(R < 0, torch.inf, R).amin() >= NOISE_SHARE * signal)


def _variances(noise: Tensor, axes_if_full: int) -> Tensor:
    return noise.diagonal(dim1=-2, dim2=-1) if noise.ndim == axes_if_full else noise
