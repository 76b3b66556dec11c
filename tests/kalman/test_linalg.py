from __future__ import annotations

import warnings

import pytest
import torch

from kalmanssl.kalman import JitterWarning, NotPositiveDefiniteError
from kalmanssl.kalman._linalg import inverse_transpose, safe_cholesky
from kalmanssl.kalman._results import round_covariance


def with_eigenvalues(values, dtype=torch.float64, seed=0):
    values = torch.as_tensor(values, dtype=torch.float64)
    size = len(values)
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis = torch.linalg.qr(noise)[0]
    return (basis @ torch.diag(values) @ basis.mT).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_positive_definite_matrix_gets_no_jitter(dtype):
    matrix = with_eigenvalues([1.0, 2.0, 3.0], dtype).expand(4, 3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        factor = safe_cholesky(matrix, "M")
    torch.testing.assert_close(factor @ factor.mT, matrix)


def test_only_matrices_that_failed_get_jitter():
    good, bad = with_eigenvalues([1.0, 2.0, 3.0]), with_eigenvalues([-1e-11, 2.0, 3.0])
    with pytest.warns(JitterWarning, match="M: 1 of 3 matrices were positive definite only after up to 1.7e-1[01]"):
        factor = safe_cholesky(torch.stack([good, bad, good]), "M")
    torch.testing.assert_close(factor[0], torch.linalg.cholesky(good), rtol=0, atol=1e-15)
    assert (factor[1] @ factor[1].mT - bad).abs().max() < 1e-9


def test_a_clearly_indefinite_matrix_raises():
    with pytest.raises(NotPositiveDefiniteError, match=r"M: 1 of 2 matrices .*smallest eigenvalue -0\.1\)"):
        safe_cholesky(torch.stack([with_eigenvalues([1.0, 2.0]), with_eigenvalues([-0.1, 2.0])]), "M")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_raise_with_their_number(value):
    matrix = torch.eye(2, dtype=torch.float64).repeat(3, 1, 1)
    matrix[1, 0, 0] = value
    with pytest.raises(NotPositiveDefiniteError, match="M: 1 of 3 matrices contain NaN or infinity"):
        safe_cholesky(matrix, "M")


def test_a_zero_matrix_gets_jitter():
    with pytest.warns(JitterWarning):
        factor = safe_cholesky(torch.zeros(2, 2, dtype=torch.float64), "M")
    assert torch.isfinite(factor).all()
    assert factor.abs().max() < 1e-100


def test_the_symmetric_part_is_factorized():
    matrix = with_eigenvalues([1.0, 2.0, 3.0])
    skewed = matrix.clone()
    skewed[0, 1] += 1e-6
    skewed[1, 0] -= 1e-6
    torch.testing.assert_close(safe_cholesky(skewed, "M"), torch.linalg.cholesky(matrix), rtol=0, atol=1e-12)


def test_inverse_transpose_is_a_triangular_factor_of_the_inverse():
    matrix = torch.stack([with_eigenvalues([0.5, 1.0, 4.0], seed=s) for s in range(3)])
    V = inverse_transpose(torch.linalg.cholesky(matrix), torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(V @ V.mT, torch.linalg.inv(matrix))
    torch.testing.assert_close(V, V.triu())


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_rounding_to_float32_keeps_covariances_positive_definite(scale):
    """The smallest eigenvalue is 1e-14 of the largest; plain rounding makes it negative in half of the cases."""
    stack = torch.stack([with_eigenvalues(torch.logspace(-14, 0, 16), seed=s) for s in range(50)]) * scale
    plain, kept = stack.float(), round_covariance(stack, torch.float32)
    assert torch.linalg.eigvalsh(plain.double()).min() < 0
    assert torch.linalg.eigvalsh(kept.double()).min() > 0
    torch.testing.assert_close(kept.double(), stack, rtol=2e-6, atol=1e-7 * scale)
    assert round_covariance(stack, torch.float64) is stack
