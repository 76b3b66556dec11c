"""Choice of the implementation of the filter, by name or by problem and machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import NotPositiveDefiniteError
from kalmanssl.kalman._model import Model, Observations
from kalmanssl.kalman._moments import Moments
from kalmanssl.kalman.backends._adjoint import filter_adjoint
from kalmanssl.kalman.backends._reference import filter_reference
from kalmanssl.kalman.backends._scan import filter_scan
from kalmanssl.kalman.kernels import has_compiler

__all__ = ["BACKENDS", "MIN_STEPS_OF_SCAN", "MOST_NUMBERS_OF_SCAN", "filter_auto", "prefers_scan", "uses_scan"]

# Shortest sequence for which "auto" uses scans on a GPU, and largest number of covariance entries at one step, summed
# over sequences with different covariances. Counted on a CPU, loops start 25 operations per step (37 with gradients)
# and scans 130 (185) per doubling of the length: as many at 30 steps, half as many at 64. Scans have ten times the
# arithmetic, which matters once the matrices of one step occupy the GPU. The limits are estimates from these counts;
# `benchmarks/gpu_check.sh` measures loops and scans on both sides of them.
MIN_STEPS_OF_SCAN = 64
MOST_NUMBERS_OF_SCAN = 2**15
# Largest filters with constant covariances that the kernels of the others compute faster, in steps, and in products
# of numbers over all sequences. Starting the operations of `_adjoint.py` takes longer than all steps in the kernels;
# in longer sequences covariances converge. Measured with one thread, filters up to these limits take 20 to 60 % of the
# time in the kernels, and two to three times as much with ten times the products. Smoothers, which save the most where
# covariances converge, take 50 to 130 %, and up to 350 % with 2048 steps.
_MOST_STEPS, _MOST_PRODUCTS = 256, 1.5e6


def filter_auto(model: Model, observations: Observations, precision: torch.dtype | None = None) -> Moments:
    """Run the filter with compiled kernels on a CPU with numba, with scans in time on a GPU, and in torch elsewhere.

    If the kernels meet a covariance that is not positive definite in float64, the torch implementation runs instead. It
    adds jitter where that helps, and warns.
    """
    if not observations.y.is_cpu or not has_compiler():
        run = filter_scan if uses_scan("auto", model, observations) else filter_adjoint
        return run(model, observations, precision)
    from kalmanssl.kalman.backends._fused import filter_fused, filter_shared

    if _shares_covariances(model, observations):
        if _is_small(model, observations):
            with suppress(NotPositiveDefiniteError):
                return filter_shared(model, observations, precision)
        return filter_adjoint(model, observations, precision)
    if precision == torch.float32:
        return filter_fused(model, observations, precision)
    with suppress(NotPositiveDefiniteError):
        return filter_fused(model, observations, precision)
    return filter_adjoint(model, observations, precision)


def _is_small(model: Model, observations: Observations) -> bool:
    """Whether a filter with constant covariances is faster with one recursion of them for each sequence."""
    batch, steps, obs = observations.y.shape
    state = model.arrays.A.shape[-1]
    return steps <= _MOST_STEPS and batch * steps * state**2 * (state + obs) <= _MOST_PRODUCTS


def uses_scan(implementation: str, model: Model, observations: Observations) -> bool:
    """Whether an implementation of the filter, and the recursions that follow it, are scans in time."""
    if implementation in ("adjoint", "reference") or (
        implementation == "auto" and observations.y.device.type != "cuda"
    ):
        return False
    parameters = [model.P0, model.A, model.Q, model.C, model.R]
    if observations.mask is not None:
        parameters.append(observations.mask)
    own = max(len(p) for p in parameters)
    return implementation == "scan" or (
        implementation == "auto" and prefers_scan(observations.y, observations.y.shape[1], own * model.A[0, 0].numel())
    )


def prefers_scan(like: Tensor, steps: int, numbers: int) -> bool:
    """Whether "auto" computes a recursion by a scan on the device of a tensor.

    `numbers` is the number of different entries in the matrices of one step of all sequences.
    """
    return like.device.type == "cuda" and steps >= MIN_STEPS_OF_SCAN and numbers <= MOST_NUMBERS_OF_SCAN


def _shares_covariances(model: Model, observations: Observations) -> bool:
    """Whether one recursion of the covariances serves several sequences, or can converge."""
    A, _, Q, C, R, _, P0 = model.arrays
    shapes = [A.shape, Q.shape, C.shape, R.shape]
    if observations.mask is not None:
        shapes.append(observations.mask.shape)
    if len(P0) > 1 or any(shape[0] > 1 for shape in shapes):
        return False
    return observations.y.shape[0] > 1 or all(shape[1] == 1 for shape in shapes)


BACKENDS: dict[str, Callable[[Model, Observations, torch.dtype | None], Moments]] = {
    "auto": filter_auto,
    "adjoint": filter_adjoint,
    "scan": filter_scan,
    "reference": filter_reference,
}
