"""Entropy from the covariance: exact, expanded to second order, VICReg's penalties, and the published formula."""

import math
from functools import partial

import entropy_samples
import numpy as np
import pytest
import torch
from entropy_samples import directions

from kalmanssl.entropy import (
    LogDetEntropy,
    PublishedLogDetEntropy,
    VarianceCovarianceEntropy,
)
from kalmanssl.errors import InputError

normal = partial(entropy_samples.normal, dtype=torch.float64)


def test_logdet_equals_the_entropy_of_a_gaussian_with_the_sample_covariance():
    v = normal(300, 4) @ normal(4, 4, seed=1)
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(4).double(), torch.cov(v.T))
    torch.testing.assert_close(LogDetEntropy(ridge=0.0)(v), gaussian.entropy())


def test_logdet_has_the_bias_of_the_formula_in_its_docstring():
    dim, n = 6, 20
    estimates = torch.stack([LogDetEntropy(ridge=0.0)(normal(n, dim, seed)) for seed in range(3000)])
    i = torch.arange(1, dim + 1)
    expected = 0.5 * (torch.digamma((n - i) / 2).sum() + dim * math.log(2 / (n - 1)))
    bias = estimates.mean() - 0.5 * dim * math.log(2 * math.pi * math.e)
    assert float(bias) == pytest.approx(float(expected), abs=0.05)


def test_logdet_without_ridge_raises_for_a_constant_dimension():
    v = torch.cat([normal(50, 2), torch.ones(50, 1)], 1)
    with pytest.raises(InputError, match=r"singular with ridge=0.0: .* larger ridge"):
        LogDetEntropy(ridge=0.0)(v)
    assert math.isfinite(float(LogDetEntropy()(v)))


# --- second-order expansion, and VICReg's penalties ---


def correlated(strength):
    """Return samples with a given sample covariance, and that covariance; `strength` scales the correlations."""
    white = torch.linalg.qr(normal(50, 6) - normal(50, 6).mean(0))[0] * 7  # 7² = 49 = N − 1
    rho = strength * torch.corrcoef(normal(12, 6, 3).T)
    cov = rho - rho.diagonal().diag() + torch.eye(6)
    scale = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    cov = scale[:, None] * cov * scale
    return white @ torch.linalg.cholesky(cov).T, cov


def test_error_of_the_expansion_is_of_third_order_in_the_correlations():
    errors = []
    for strength in (0.08, 0.04, 0.02):
        v, cov = correlated(strength)
        torch.testing.assert_close(torch.cov(v.T), cov)
        exact = LogDetEntropy(ridge=0.0)(v)
        torch.testing.assert_close(
            exact, torch.distributions.MultivariateNormal(torch.zeros(6).double(), cov).entropy()
        )
        errors.append(abs(float(LogDetEntropy(ridge=0.0, expansion=True)(v) - exact)))
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.2)
    # The entropy of the diagonal alone has an error of second order, which is much larger.
    assert errors[2] < 0.02 * abs(float(exact - 0.5 * (2 * math.pi * math.e * cov.diagonal()).log().sum()))


def test_expansion_equals_its_formula():
    v = normal(30, 4) @ normal(4, 4, 1)
    rho = torch.corrcoef(v.T)
    expected = (v.var(0).log().sum() - 0.5 * (rho.square().sum() - 4)) / 2 + 2 * math.log(2 * math.pi * math.e)
    torch.testing.assert_close(LogDetEntropy(ridge=0.0, expansion=True)(v), expected)


@pytest.mark.parametrize("n", [300, 5])  # more samples than dimensions, and fewer
def test_expansion_follows_the_scaling_law(n):
    estimator = LogDetEntropy(expansion=True)
    v = normal(n, 8).requires_grad_()
    torch.testing.assert_close(estimator(1e3 * v), estimator(v) + 8 * math.log(1e3))
    (gradient,) = torch.autograd.grad(estimator(v), v)
    assert float((v.detach() * gradient).sum()) == pytest.approx(8, abs=1e-9)


@pytest.mark.parametrize(("n", "dim"), [(40, 6), (6, 40)])
def test_vicreg_equals_the_formula_of_its_penalties(n, dim):
    v = normal(n, dim) * torch.linspace(0.1, 2, dim)
    cov = np.cov(v.numpy().T)
    hinge = np.maximum(0, 1 - np.sqrt(np.diag(cov) + 1e-4)).mean()
    squares = (cov**2).sum() - (np.diag(cov) ** 2).sum()
    expected = -25 * hinge - 1 * squares / dim
    assert float(VarianceCovarianceEntropy()(v)) == pytest.approx(expected, rel=1e-9)
    other = -3 * np.maximum(0, 0.5 - np.sqrt(np.diag(cov) + 1e-4)).mean() - 0.5 * squares / dim
    assert float(VarianceCovarianceEntropy(3.0, 0.5, target=0.5)(v)) == pytest.approx(other, rel=1e-9)


def test_vicreg_has_no_penalty_for_uncorrelated_dimensions_above_the_target():
    white = torch.linalg.qr(normal(50, 6) - normal(50, 6).mean(0))[0] * 14
    assert float(VarianceCovarianceEntropy()(white)) == pytest.approx(0, abs=1e-9)


# --- the log-determinant of the published code ---


def published_in_loops(views):
    """Compute the published formula entry by entry, with its five differences from the expansion."""
    dim = views[0].shape[1]
    rows = [row - view.mean(0) for view in views for row in view]  # pooled, each view centered by its own mean
    total = 0.0
    cov = np.zeros((dim, dim))
    for i in range(dim):
        for j in range(dim):
            cov[i, j] = sum(row[i] * row[j] for row in rows) / (len(rows) - 1) + 1e-6  # added to every entry
    variance = [cov[i, i] + 1e-9 for i in range(dim)]
    for i in range(dim):
        total += math.log(variance[i])
        for j in range(dim):
            if i != j:
                total -= 0.5 * (cov[i, j] ** 2 / (variance[i] * variance[j] + 1e-9)) ** 2  # the fourth power
    return total / dim  # not divided by 2


@pytest.mark.parametrize("std", [1.0, 1e-3])  # the constants of the formula have an effect only if it is small
def test_published_logdet_equals_its_formula(std):
    u = std * normal(9, 4) + (std < 1)
    u_other = u + 0.5 * std * normal(9, 4, 1) + std
    z, other = (torch.nn.functional.normalize(one, dim=1) for one in (u, u_other))
    estimator = PublishedLogDetEntropy(4)
    single = [estimator(one) for one in (z, other)]
    assert [float(one) for one in single] == pytest.approx([published_in_loops([v.numpy()]) for v in (z, other)])
    pair = float(estimator(torch.cat([z, other], 1)))
    assert pair == pytest.approx(published_in_loops([z.numpy(), other.numpy()]), rel=1e-10)
    # Apart from the factor, it differs from the equation in the paper.
    paper = 0.5 * LogDetEntropy(expansion=True)(torch.cat([z, other], 1)) / 2 - 0.5 * math.log(2 * math.pi * math.e)
    assert abs(pair - float(paper)) > 0.05


def test_published_logdet_does_not_depend_on_which_views_are_paired():
    z, other = directions(30, 4), directions(30, 4, 1)
    estimator = PublishedLogDetEntropy(4)
    torch.testing.assert_close(estimator(torch.cat([z, other], 1)), estimator(torch.cat([z, other.roll(7, 0)], 1)))
