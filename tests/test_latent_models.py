"""Conditional distributions of latents."""

import pytest
import torch

from kalmanssl.latent_models import GaussianConditional


@pytest.mark.parametrize("shape", [(), (5,), (2, 5)])
def test_gaussian_log_prob_equals_torch(shape):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(*shape, 3, 3, generator=generator, dtype=torch.float64)
    cov = root @ root.mT + 0.1 * torch.eye(3, dtype=torch.float64)
    mean, latent = torch.randn(2, *shape, 3, generator=generator, dtype=torch.float64)
    expected = torch.distributions.MultivariateNormal(mean, cov).log_prob(latent)
    torch.testing.assert_close(GaussianConditional(mean, cov).log_prob(latent), expected)


def test_one_covariance_serves_all_samples():
    latent = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    one = GaussianConditional(torch.zeros(2), torch.eye(2)).log_prob(latent)
    torch.testing.assert_close(one, torch.distributions.Normal(0, 1).log_prob(latent).sum(-1))


def test_detached_conditional_passes_no_gradient_to_its_moments():
    mean, latent = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    GaussianConditional(mean, torch.eye(2)).detach().log_prob(latent).backward()
    assert mean.grad is None
    torch.testing.assert_close(latent.grad, -torch.ones(2))
