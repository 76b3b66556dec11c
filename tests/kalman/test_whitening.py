from __future__ import annotations

import numpy as np
import pytest
import torch

from kalmanssl.errors import InputError
from kalmanssl.kalman import JitterWarning, NotPositiveDefiniteError, whiten


def draw(*shape, seed=0):
    """Residuals (*shape, 3) and their covariances, which all differ."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(*shape, 3, 3, generator=generator, dtype=torch.float64) + 2 * torch.eye(3)
    noise = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    return (factor @ noise[..., None])[..., 0], factor @ factor.mT


def expected(residual, cov):
    return np.linalg.solve(np.linalg.cholesky(cov), residual[..., None])[..., 0]


@pytest.mark.parametrize("shape", [(), (5,), (2, 5)])
def test_numpy_and_torch_agree_with_the_definition(shape):
    residual, cov = draw(*shape)
    found = whiten(residual, cov)
    np.testing.assert_allclose(found, expected(residual.numpy(), cov.numpy()), rtol=1e-9)
    from_numpy = whiten(residual.numpy(), cov.numpy())
    assert isinstance(from_numpy, np.ndarray)
    np.testing.assert_allclose(from_numpy, found, rtol=1e-12)
    distance = np.einsum("...i,...ij,...j->...", residual, np.linalg.inv(cov), residual)
    np.testing.assert_allclose((found**2).sum(-1), distance, rtol=1e-9)


def test_covariances_are_broadcast():
    residual, cov = draw(4, 5)
    for given in (cov[0, 0], cov[:1], cov[:, :1]):
        full = given.expand_as(cov)
        np.testing.assert_allclose(whiten(residual, given), expected(residual.numpy(), full.numpy()), rtol=1e-9)


@pytest.mark.parametrize("distinct", [1, 4])
def test_each_distinct_covariance_can_be_given_once(distinct, monkeypatch):
    monkeypatch.setattr("kalmanssl.kalman._whitening._CHUNK", 7)
    residual, cov = draw(30)[0], draw(distinct, seed=1)[1]
    index = torch.arange(30) % distinct
    torch.testing.assert_close(whiten(residual, cov, index=index), whiten(residual, cov[index]))
    np.testing.assert_allclose(
        whiten(residual.numpy(), cov.numpy(), index=index.numpy()), whiten(residual, cov[index]), rtol=1e-9
    )


def test_missing_channels_are_left_out():
    residual, cov = draw(6)
    mask = torch.tensor([True, False, True]).expand(6, 3)
    reference = whiten(residual[:, ::2], cov[:, ::2, ::2])
    residual[:, 1], cov[:, 1] = float("nan"), -7.0
    found = whiten(residual, cov, mask=mask)
    torch.testing.assert_close(found[:, ::2], reference)
    assert not found[:, 1].any()
    index = torch.arange(6)
    torch.testing.assert_close(whiten(residual, cov, index=index, mask=mask), found)


def test_gradients():
    residual, cov = draw(4)
    factor = torch.linalg.cholesky(cov)
    inputs = residual.requires_grad_(), factor.requires_grad_()
    assert torch.autograd.gradcheck(lambda r, f: whiten(r, f @ f.mT), inputs)


def test_covariances_that_are_not_positive_definite():
    residual, cov = draw(4)
    with pytest.raises(NotPositiveDefiniteError, match="predicted_cov: 4 of 4 matrices are not positive definite"):
        whiten(residual.numpy(), -cov.numpy(), name="predicted_cov")
    with pytest.warns(JitterWarning, match="cov: 1 of 1"):
        found = whiten(np.ones((1, 2)), np.ones((2, 2)))
    assert np.isfinite(found).all()


def test_shapes_that_do_not_fit_are_named():
    residual, cov = draw(4)
    for arguments, message in (
        ({"cov": cov[..., :2, :2]}, r"cov: expected \(..., 3, 3\) for residuals \(4, 3\), got \(4, 2, 2\)"),
        ({"cov": cov[0], "index": torch.zeros(4).long()}, r"cov: expected \(distinct, 3, 3\) .* got \(3, 3\)"),
        ({"cov": cov, "index": torch.zeros(3).long()}, r"cov: expected \(distinct, 3, 3\)"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            whiten(residual, **arguments)
        assert raised.value.parameter == "cov"
