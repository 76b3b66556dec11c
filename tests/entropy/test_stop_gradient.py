"""Conditional entropies: as a difference of entropies, and with the stop-gradient."""

import math

import pytest
import torch
from entropy_samples import normal

from kalmanssl.entropy import (
    GaussianKDEEntropy,
    KNNEntropy,
    LogDetEntropy,
    StopGradientEntropy,
    conditional_entropy,
)


@pytest.mark.parametrize(
    ("estimator", "tolerance"),
    [(KNNEntropy(3, clip_quantile=None), 0.1), (LogDetEntropy(), 0.05), (GaussianKDEEntropy(leave_one_out=True), 0.15)],
    ids=repr,
)
def test_conditional_entropy_of_a_gaussian_pair(estimator, tolerance):
    past = normal(4000, 1, seed=5)
    v = 0.8 * past + 0.6 * normal(4000, 1, seed=6)
    estimated = conditional_entropy(estimator, v, past)
    assert float(estimated) == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 0.36), abs=tolerance)


def test_conditional_entropy_uses_one_subset_for_both_terms():
    v, past = normal(2000, 1), normal(2000, 1, seed=1)
    small = LogDetEntropy(max_samples=300)
    joint = small.subset(torch.cat([v, past], 1), generator=torch.Generator().manual_seed(8))
    expected = LogDetEntropy()(joint) - LogDetEntropy()(joint[:, 1:])
    got = conditional_entropy(small, v, past, generator=torch.Generator().manual_seed(8))
    torch.testing.assert_close(got, expected)


class Predicted:
    """Predictive Gaussian, from torch.distributions."""

    def __init__(self, mean, cov):
        self.mean, self.cov = mean, cov

    def log_prob(self, z):
        return torch.distributions.MultivariateNormal(self.mean, self.cov).log_prob(z)

    def detach(self):
        return Predicted(self.mean.detach(), self.cov.detach())


def encode_and_predict(parameters, x):
    """Encode `x` linearly and predict the next latent, with a covariance that depends on the past."""
    encoder, transition, factor = parameters
    z = x @ encoder
    past = z[:, :-1]
    cov = factor @ factor.T + torch.diag_embed(1 + past.square() @ factor.abs())
    return z[:, 1:], Predicted(past @ transition, cov)


def test_alignment_plus_stop_gradient_entropy_has_the_gradient_of_the_stop_gradient_loss():
    generator = torch.Generator().manual_seed(0)
    parameters = [
        torch.randn(shape, generator=generator).double().requires_grad_() for shape in ((5, 2), (2, 2), (2, 2))
    ]
    z, predicted = encode_and_predict(parameters, torch.randn(4, 9, 5, generator=generator).double())
    alignment, entropy = predicted.log_prob(z).mean(), StopGradientEntropy()(z, predicted)
    torch.testing.assert_close(entropy, -alignment)
    stopped = predicted.log_prob(z.detach()).mean()
    both = torch.autograd.grad(alignment + entropy, parameters, retain_graph=True)
    expected = torch.autograd.grad(stopped, parameters, retain_graph=True)
    aligned = torch.autograd.grad(alignment, parameters, retain_graph=True)
    for ours, theirs in zip(both, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    assert not torch.allclose(aligned[0], expected[0])
    # The entropy has a gradient with respect to the encoder, but not to the predictor.
    reached = torch.autograd.grad(entropy, parameters, allow_unused=True)
    assert reached[0].abs().max() > 0
    assert reached[1] is None
    assert reached[2] is None


def test_stop_gradient_entropy_of_the_true_predictive_distribution_is_the_conditional_entropy():
    past = normal(4000, 1, seed=5)
    v = 0.8 * past + 0.6 * normal(4000, 1, seed=6)
    estimated = StopGradientEntropy()(v, Predicted(0.8 * past, torch.full((1, 1), 0.36)))
    assert float(estimated) == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 0.36), abs=0.04)
