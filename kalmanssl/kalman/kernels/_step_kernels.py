"""One step of the filter with all checks of its arguments, compiled; arrays as in `_matrix_kernels.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kalmanssl.kalman.kernels._check_kernels import all_finite, is_covariance
from kalmanssl.kalman.kernels._covariance_kernels import riccati
from kalmanssl.kalman.kernels._jit import cached_njit

__all__ = ["filter_step", "parameters_are_valid"]

_LOG_2PI = math.log(2 * math.pi)


@cached_njit
def _is_noise(noise: Any, dim: int, diagonal: bool, share: float) -> bool:
    """Whether variances (…, dim) are 0 or more, or covariances (…, dim, dim) are valid."""
    if diagonal:
        negative = np.int64(0)
        for i in range(len(noise)):
            negative |= np.int64(noise[i] < 0)
        return negative == 0
    valid = True
    scratch = np.empty(dim * dim, noise.dtype)
    for start in range(0, len(noise), dim * dim):
        valid = valid and is_covariance(noise, start, dim, share, scratch)
    return valid


@cached_njit
def parameters_are_valid(
    parameters: Any, n: int, m: int, diagonal: tuple[bool, bool, bool], shares: tuple[float, float]
) -> bool:
    """Whether the parameters of a model are finite, and its variances and covariances valid.

    parameters : A, b, Q, C, R, m0, P0; flat; zeros for those that are not given
    diagonal : whether Q, R and P0 are variances
    shares : deviation from a covariance that is accepted of P0, and of Q and R, as in `is_covariance`
    """
    A, b, Q, C, R, m0, P0 = parameters
    if not (all_finite(A) and all_finite(b) and all_finite(Q) and all_finite(C) and all_finite(R)):
        return False
    valid = (
        all_finite(m0)
        and all_finite(P0)
        and _is_noise(Q, n, diagonal[0], shares[1])
        and _is_noise(R, m, diagonal[1], shares[1])
    )
    return valid and _is_noise(P0, n, diagonal[2], shares[0])


@cached_njit
def _symmetric(out: Any, stride: int, matrix: Any, start: int, n: int) -> None:
    """Write the mean of a matrix (n, n) without padding and its transpose to `out`."""
    for i in range(n):
        for j in range(n):
            out[i * stride + j] = (matrix[start + i * n + j] + matrix[start + j * n + i]) * 0.5


@cached_njit
def _transition(padded: Any, transposed: Any, A: Any, a: int, n: int, stride: int) -> None:
    """Copy A and its transpose into padded rows."""
    for i in range(n):
        for j in range(n):
            padded[i * stride + j] = A[a + i * n + j]
            transposed[j * stride + i] = A[a + i * n + j]


@cached_njit
def _see(visible: Any, minus_C: Any, C_transposed: Any, R: Any, C: Any, noise: Any, places: Any, size: Any) -> None:
    """C and R of the observed channels: a missing channel has zeros in C and an independent unit variance."""
    n, m, ns, ms, diagonal = size
    c, r = places
    for k in range(m):
        for j in range(n):
            value = C[c + k * n + j] if visible[k] else C[c] - C[c]
            minus_C[k * ns + j] = -value
            C_transposed[j * ms + k] = value
        if diagonal:
            R[k] = noise[r + k] if visible[k] else 1.0
        else:
            for j in range(m):
                if visible[k] and visible[j]:
                    R[k * m + j] = noise[r + k * m + j]
                else:
                    R[k * m + j] = 1.0 if k == j else 0.0


@cached_njit
def _update_mean(s: Any, y: Any, visible: Any, C: Any, c: int, K: Any, V: Any, out: Any, size: Any) -> None:
    """Innovation, filtered mean and log-likelihood of sequence `s`, given its predicted mean in `out`."""
    n, m, ms = size
    mean, filtered, log_likelihood, innovation = out
    total, observed = 0.0, 0
    for k in range(m):
        innovation[s, k] = 0.0
        if visible[k]:
            value = y[s * m + k]
            for j in range(n):
                value -= C[c + k * n + j] * mean[s, j]
            innovation[s, k] = value
            observed += 1
    for i in range(n):
        value = mean[s, i]
        for k in range(m):
            value += K[i * ms + k] * innovation[s, k]
        filtered[s, i] = value
    for k in range(m):
        white = 0.0
        for j in range(k + 1):
            white += V[j * ms + k] * innovation[s, j]
        total += math.log(V[k * ms + k]) - 0.5 * white * white
    log_likelihood[s] = total - 0.5 * _LOG_2PI * observed


@cached_njit
def _innovation_cov(out: Any, s: int, Pp: Any, C: Any, c: int, noise: Any, r: int, size: Any) -> bool:
    """Covariance C Pp C' + R of the prediction of all channels, missing ones too; returns whether it is finite."""
    n, m, ns, diagonal = size
    row = np.empty(n, Pp.dtype)
    finite = True
    for k in range(m):
        for j in range(n):
            row[j] = 0.0
            for i in range(n):
                row[j] += C[c + k * n + i] * Pp[i * ns + j]
        for other in range(k + 1):
            value = row[0] - row[0]
            for j in range(n):
                value += row[j] * C[c + other * n + j]
            out[s, k, other] = value
            out[s, other, k] = value
    for k in range(m):
        if diagonal:
            out[s, k, k] += noise[r + k]
        else:
            for j in range(m):
                out[s, k, j] += noise[r + k * m + j]
        finite = finite and math.isfinite(out[s, k, k])
    return finite


@cached_njit
def _copy(out: Any, s: int, matrix: Any, columns: int, stride: int) -> bool:
    """Copy a padded matrix to `out[s]`; returns whether the entries on its diagonal are finite."""
    finite = True
    for i in range(out.shape[1]):
        for j in range(columns):
            out[s, i, j] = matrix[i * stride + j]
        if i < columns:
            finite = finite and math.isfinite(out[s, i, i])
    return finite


@cached_njit
def _is_visible(out: Any, y: Any, mask: Any, s: int, m: int) -> bool:
    """Write which channels of sequence `s` are observed to `out`; returns whether their values are finite."""
    finite = True
    for k in range(m):
        out[k] = len(mask) == 0 or mask[s * m + k]
        finite = finite and (not out[k] or math.isfinite(y[s * m + k]))
    return finite


@cached_njit
def _predict_mean(out: Any, s: int, mean: Any, A: Any, a: int, b: Any, at_b: int, first: bool) -> None:
    """The predicted mean A m + b of sequence `s`; m itself before the first observation."""
    n = out.shape[1]
    for i in range(n):
        value = mean[s * n + i]
        if not first:
            value = b[at_b + i]
            for j in range(n):
                value += A[a + i * n + j] * mean[s * n + j]
        out[s, i] = value


@cached_njit
def filter_step(
    inputs: Any,
    mask: Any,
    strides: tuple[int, int, int, int, int],
    size: tuple[int, int, int, int, int],
    diagonal: tuple[bool, bool],
    first: bool,
    shares: tuple[float, float],
    out: Any,
) -> bool:
    """Check the arguments of one step, and filter it.

    inputs : y (batch, m), mean (batch, n), cov (batch, n, n), A, b, Q, C, R; all flat, without padding
    mask : (batch, m), flat; empty if all channels are observed
    strides : distance from one sequence to the next in A, b, Q, C, R; 0 if all share one
    size : batch, n, m, and the strides of padded rows with one entry per state, and per channel
    diagonal : whether Q and R are variances
    shares : deviation from a covariance that is accepted of the state, and of Q and R, as in `is_covariance`
    out : the fields of `StepResult`, in their order

    Returns False if an argument is wrong or a result is not finite; the results are then incomplete.
    """
    y, mean, cov, A, b, Q, C, R = inputs
    batch, n, m, ns, ms = size
    valid = _is_noise(Q, n, diagonal[0], shares[1]) and _is_noise(R, m, diagonal[1], shares[1])
    valid = valid and all_finite(mean) and all_finite(cov) and all_finite(A) and all_finite(b) and all_finite(Q)
    valid = valid and all_finite(C) and all_finite(R)
    kind, zero, one = y.dtype, np.int64(0), np.int64(1)  # literals have other types, for which `riccati` has no code
    valid = valid and _is_noise(cov, n, zero == one, shares[0])
    start, A_padded, A_transposed = np.zeros(n * ns, kind), np.zeros(n * ns, kind), np.zeros(n * ns, kind)
    minus_C, C_transposed = np.zeros(m * ns, kind), np.zeros(n * ms, kind)
    visible, noise = np.empty(m, np.bool_), np.empty(m if diagonal[1] else m * m, kind)
    Pp, Pf = np.empty(n * ns, kind), np.empty(n * ns, kind)
    K, F, V = np.empty(n * ms, kind), np.empty(m * ms, kind), np.empty(m * ms, kind)
    noise_size = n if diagonal[0] else n * n
    for s in range(batch):
        a, q, c, r = s * strides[0], s * strides[2], s * strides[3], s * strides[4]
        if not valid or not _is_visible(visible, y, mask, s, m):
            return False
        _symmetric(start, ns, cov, s * n * n, n)
        _predict_mean(out[0], s, mean, A, a, b, s * strides[1], first)
        _transition(A_padded, A_transposed, A, a, n, ns)
        _see(visible, minus_C, C_transposed, noise, C, R, (c, r), (n, m, ns, ms, diagonal[1]))
        model = (A_padded, A_transposed, minus_C, C_transposed, Q[q : q + noise_size], noise)
        step = zero if first else one
        arrays = (Pp, Pf, K, F, V)
        if riccati(step, one, start, model, (one, one, one, one), (n, m, ns, ms), diagonal, 0.0, arrays) < 0:
            return False
        _update_mean(s, y, visible, C, c, K, V, (out[0], out[2], out[4], out[6]), (n, m, ms))
        _copy(out[5], s, K, m, ms)
        if visible.all():
            valid = _copy(out[7], s, F, m, ms)
        else:
            valid = _innovation_cov(out[7], s, Pp, C, c, R, r, (n, m, ns, diagonal[1]))
        valid = valid and _copy(out[1], s, Pp, n, ns) and _copy(out[3], s, Pf, n, ns)
        valid = valid and math.isfinite(out[4][s]) and all_finite(out[2][s])
    return valid
