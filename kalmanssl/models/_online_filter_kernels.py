"""Kernel of the steady Kalman filter for one step, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed.
"""

from __future__ import annotations

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["steady_kernel"]


def _steady(mean, latent, transition, offset, gain, result, innovation):  # type: ignore[no-untyped-def]
    """Write the mean after a step to `result`, and its innovation to `innovation`; all float64.

    Parameters
    ----------
    mean, latent : (state,), (latent,)
        Filtered mean of the step before, and the observation of the first states.
    transition, offset, gain : (state, state), (state,), (latent, state)
        The matrices are transposed: the innermost loops run over their rows in memory.
    """
    for j in range(len(result)):  # an assignment of the whole array takes a second to compile
        result[j] = offset[j]
    for k in range(len(mean)):
        value, row = mean[k], transition[k]
        for j in range(len(result)):
            result[j] += value * row[j]
    for k in range(len(latent)):
        innovation[k] = latent[k] - result[k]
    for k in range(len(latent)):
        value, row = innovation[k], gain[k]
        for j in range(len(result)):
            result[j] += value * row[j]


steady_kernel = cached_njit(_steady)
