"""The objective against processes whose entropies are known."""

import math

import pytest
import torch

from kalmanssl.distributions import GaussianConditional
from kalmanssl.entropy import KNNEntropy, LogDetEntropy, StopGradientEntropy
from kalmanssl.errors import InputError
from kalmanssl.models import LDM

A = 0.8
SCALE = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64).sqrt()
INFORMATION = -1.5 * math.log(1 - A**2)  # of neighboring steps, three independent channels


def autoregressive(batch: int = 40, steps: int = 500, seed: int = 0) -> tuple[torch.Tensor, GaussianConditional]:
    """A stationary AR(1) process and its own predictive distribution."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(steps, batch, 3, generator=generator, dtype=torch.float64)
    z = [noise[0]]
    for e in noise[1:]:
        z.append(A * z[-1] + math.sqrt(1 - A**2) * e)
    latent = torch.stack(z, 1) * SCALE
    past = torch.cat([torch.zeros(batch, 1, 3, dtype=torch.float64), latent[:, :-1]], 1)
    cov = ((1 - A**2) * torch.diag(SCALE**2)).expand(batch, steps, 3, 3).clone()
    cov[:, 0] = torch.diag(SCALE**2)
    return latent, GaussianConditional(A * past, cov)


@pytest.mark.parametrize("entropy", [LogDetEntropy(), KNNEntropy(clip_quantile=None, max_samples=4000)])
def test_with_mutual_information_a_matched_model_scores_the_information(entropy):
    terms = LDM(entropy, mutual_information=True)(*autoregressive())
    assert -terms.loss.item() == pytest.approx(INFORMATION, abs=0.1)
    assert terms.loss == -(terms.alignment + terms.entropy)


def test_without_mutual_information_a_matched_model_scores_zero():
    terms = LDM(LogDetEntropy(), mutual_information=False)(*autoregressive())
    assert terms.loss.item() == pytest.approx(0.0, abs=0.02)


def test_a_mismatched_model_scores_less_by_its_divergence():
    latent, conditional = autoregressive()
    wrong = GaussianConditional(conditional.mean, 2 * conditional.cov)
    terms = LDM(LogDetEntropy(), mutual_information=False)(latent, wrong)
    divergence = 1.5 * (math.log(2) - 0.5)  # KL of N(0, s) from N(0, 2 s) in three dimensions
    assert terms.loss.item() == pytest.approx(divergence, abs=0.02)


def test_stop_gradient_objective_has_the_gradient_of_predicting_fixed_targets():
    latent, _ = autoregressive(batch=3, steps=6)
    w = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    weight = torch.eye(3, dtype=torch.float64, requires_grad=True)
    cov = torch.eye(3, dtype=torch.float64)

    def predict(z):
        return GaussianConditional(w * torch.cat([0 * z[:, :1], z[:, :-1]], 1), cov)

    z = latent @ weight
    mine = torch.autograd.grad(LDM(StopGradientEntropy(), mutual_information=False)(z, predict(z)).loss, (w, weight))
    z = latent @ weight
    expected = torch.autograd.grad(-predict(z).log_prob(z.detach()).mean(), (w, weight))
    for a, b in zip(mine, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_an_entropy_is_no_name():
    with pytest.raises(InputError, match=r"entropy must be an estimator, got 'knn'; .*make_entropy makes one by name"):
        LDM("knn")


def test_stop_gradient_cannot_maximize_information():
    with pytest.raises(InputError, match=r"mutual_information=False"):
        LDM(StopGradientEntropy(), mutual_information=True)
