"""Gaussian and von Mises-Fisher distributions, and unit vectors."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ive
from scipy.stats import vonmises_fisher

from kalmanssl.distributions import GaussianConditional, OnSphere, VonMisesFisher
from kalmanssl.errors import InputError


@pytest.mark.parametrize("shape", [(), (5,), (2, 5)])
def test_gaussian_log_density_equals_that_of_torch(shape):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(*shape, 3, 3, generator=generator, dtype=torch.float64)
    cov = root @ root.mT + 0.1 * torch.eye(3, dtype=torch.float64)
    mean, latent = torch.randn(2, *shape, 3, generator=generator, dtype=torch.float64)
    expected = torch.distributions.MultivariateNormal(mean, cov).log_prob(latent)
    torch.testing.assert_close(GaussianConditional(mean, cov).log_prob(latent), expected)


def test_gaussian_mean_and_covariance_are_broadcast_over_samples():
    latent = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    one = GaussianConditional(torch.zeros(2), torch.eye(2)).log_prob(latent)
    torch.testing.assert_close(one, torch.distributions.Normal(0, 1).log_prob(latent).sum(-1))


def test_detached_gaussian_gives_gradients_to_the_latent_only():
    mean, latent = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    GaussianConditional(mean, torch.eye(2)).detach().log_prob(latent).backward()
    assert mean.grad is None
    torch.testing.assert_close(latent.grad, -torch.ones(2))


def test_fitted_gaussian_has_the_mean_and_covariance_of_the_samples():
    latent = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fitted = GaussianConditional.fitted(latent)
    torch.testing.assert_close(fitted.mean, latent.mean(0))
    torch.testing.assert_close(fitted.cov, torch.from_numpy(np.cov(latent.numpy().T)))
    assert GaussianConditional.fitted(latent[:, :1]).log_prob(latent[:, :1]).isfinite().all()


# --- von Mises-Fisher ---

CONCENTRATIONS = np.array([1e-3, 0.1, 1.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1e3, 1e4, 1e6])


def directions(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    z = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(z, dim=-1)


def test_von_mises_fisher_log_density_equals_a_reference_value():
    z = directions(2, 3)
    at_right_angle = torch.linalg.cross(z[0], z[1])
    at_right_angle = at_right_angle / at_right_angle.norm()
    value = VonMisesFisher(z[0], torch.tensor(5.0, dtype=torch.float64)).log_prob(at_right_angle)
    assert value.item() == pytest.approx(-5.228394, abs=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 10, 41, 42, 43, 64])
def test_von_mises_fisher_normalizer_and_mean_equal_those_from_bessel_functions_of_scipy(dim):
    k, order = CONCENTRATIONS, dim / 2 - 1
    with np.errstate(all="ignore"):
        normalizer = order * np.log(k) - dim / 2 * math.log(2 * math.pi) - np.log(ive(order, k)) - k
        length = ive(order + 1, k) / ive(order, k)
    known = np.isfinite(normalizer) & np.isfinite(length)  # scipy underflows for high orders and small k
    assert known.sum() >= 6
    direction = directions(1, dim).expand(len(k), -1)
    distribution = VonMisesFisher(direction, torch.from_numpy(k))
    ours = (distribution.log_prob(direction) - torch.from_numpy(k)).numpy()
    np.testing.assert_allclose(ours[known], normalizer[known], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(distribution.mean.norm(dim=-1).numpy()[known], length[known], rtol=1e-9)


@pytest.mark.parametrize("dim", [2, 3, 8, 1000])
def test_von_mises_fisher_of_concentration_zero_is_uniform(dim):
    z = directions(2, dim)
    k = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = VonMisesFisher(z[0], k).log_prob(z[1])
    log_area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
    assert value.item() == pytest.approx(-log_area, rel=1e-11)
    (slope,) = torch.autograd.grad(value, k)
    torch.testing.assert_close(slope, z[0] @ z[1])


@pytest.mark.parametrize("dim", [2, 3, 9, 60])
def test_von_mises_fisher_gradients_equal_finite_differences(dim):
    k = torch.tensor([0.3, 2.0, 40.0, 900.0], dtype=torch.float64, requires_grad=True)
    mean, z = directions(4, dim).requires_grad_(), directions(4, dim, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, k, z: VonMisesFisher(m, k).log_prob(z), (mean, k, z))
    assert torch.autograd.gradcheck(lambda m, k: VonMisesFisher(m, k).mean, (mean, k))


def test_von_mises_fisher_density_integrates_to_one():
    angle = torch.arange(4000, dtype=torch.float64) * (2 * math.pi / 4000)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    for k in (0.5, 20.0, 300.0):
        density = VonMisesFisher(circle[700], torch.tensor(k, dtype=torch.float64)).log_prob(circle).exp()
        assert density.sum().item() * 2 * math.pi / 4000 == pytest.approx(1, abs=1e-9)


def test_detached_von_mises_fisher_in_single_precision_gives_gradients_to_the_latent_only():
    mean, z = directions(5, 3).float().requires_grad_(), directions(5, 3, 1).float().requires_grad_()
    k = torch.full((5,), 7.0, requires_grad=True)
    value = VonMisesFisher(mean, k).detach().log_prob(z)
    assert value.dtype == torch.float32
    value.sum().backward()
    assert mean.grad is None
    assert k.grad is None
    torch.testing.assert_close(z.grad, 7 * mean.detach())


@pytest.mark.parametrize(("dim", "concentration"), [(3, 4.0), (2, 0.5), (6, 50.0)])
def test_fitted_von_mises_fisher_has_the_mean_of_the_samples(dim, concentration):
    samples = vonmises_fisher(np.eye(dim)[0], concentration, seed=0).rvs(20000, random_state=0)
    z = torch.from_numpy(samples)
    fitted = VonMisesFisher.fitted(z)
    torch.testing.assert_close(fitted.mean, z.mean(0), rtol=1e-6, atol=1e-8)
    assert fitted.concentration.item() == pytest.approx(concentration, rel=0.07)


def test_fitted_von_mises_fisher_of_samples_with_mean_zero_or_very_small_variance():
    z = directions(3, 4)
    uniform = VonMisesFisher.fitted(torch.cat([z, -z]))
    assert uniform.mean_direction.norm().item() == pytest.approx(1)
    assert uniform.concentration.item() == pytest.approx(0, abs=1e-6)
    log_area = math.log(2 * math.pi**2)
    torch.testing.assert_close(uniform.log_prob(z), torch.full((3,), -log_area, dtype=torch.float64))
    upper_limit = 5e5 * 3
    tight = torch.nn.functional.normalize(torch.eye(4)[0] + 1e-5 * directions(100, 4, 1), dim=1)
    assert VonMisesFisher.fitted(tight).concentration.item() == pytest.approx(upper_limit, rel=0.01)
    half = VonMisesFisher.fitted(directions(100, 4).bfloat16())
    assert half.concentration.dtype == torch.float32


def test_gaussian_in_half_precision_is_computed_in_single_precision():
    mean, latent = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    value = GaussianConditional(mean, torch.eye(3).bfloat16()).log_prob(latent)
    expected = torch.distributions.Normal(mean.float(), 1).log_prob(latent.float()).sum(-1)
    torch.testing.assert_close(value, expected)


def test_von_mises_fisher_in_one_dimension_raises():
    with pytest.raises(InputError, match="at least 2 dimensions, got 1"):
        VonMisesFisher(torch.ones(1), torch.ones(())).log_prob(torch.ones(1))


def test_on_sphere_normalizes_the_length_and_keeps_the_direction():
    u = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    z = OnSphere()(u)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(4, 5))
    torch.testing.assert_close(z * u.norm(dim=-1, keepdim=True), u)
