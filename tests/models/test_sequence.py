"""The sequence model: groups of parameters, diagnostics, and the gain over a marginal."""

import math

import pytest
import torch
from torch import nn

from kalmanssl.distributions import OnSphere, VonMisesFisher
from kalmanssl.entropy import LogDetEntropy
from kalmanssl.models import LDM, KalmanPredictor, RecurrentPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, InputNoise, MLPEncoder


def make(encoder: nn.Module, latent: int = 2, state: int = 2, input_noise: bool = False) -> SequenceModel:
    torch.manual_seed(0)
    R = InputNoise(5, latent, 8) if input_noise else ConstantNoise(latent)
    return SequenceModel(encoder, KalmanPredictor(latent, state, R, ConstantNoise(state)), LDM(LogDetEntropy()))


@pytest.mark.parametrize("input_noise", [False, True])
def test_every_parameter_is_in_one_group(input_noise):
    model = make(MLPEncoder(5, 2), input_noise=input_noise)
    grouped = [id(p) for group in model.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert bool(model.parameter_groups()["noise"]) == input_noise


def test_latents_start_standardized():
    model = make(MLPEncoder(5, 2))
    features = 3 + torch.randn(4, 50, 5)
    model.standardize_latents(features)
    latent = model.encoder(features).flatten(0, 1)
    torch.testing.assert_close(latent.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(latent.std(0), torch.ones(2), atol=1e-5, rtol=0)


def test_diagnostics_tell_spread_and_copies():
    model = make(nn.Identity(), latent=3, state=3)
    independent = torch.randn(10, 500, 3, generator=torch.Generator().manual_seed(0))
    healthy = model.diagnostics(2 * independent)
    assert healthy["latent_scale"] == pytest.approx(2, rel=0.05)
    assert healthy["effective_dimension"] == pytest.approx(3, rel=0.01)
    copies = model.diagnostics(independent[..., :1].expand(-1, -1, 3))
    assert copies["effective_dimension"] == pytest.approx(1, rel=0.01)
    assert healthy["spectral_radius"] == pytest.approx(torch.linalg.eigvals(model.predictor.A).abs().max().item())
    assert model.training


def test_predictive_gain_is_the_information_of_a_matched_model():
    a = 0.9
    model = make(nn.Identity(), latent=1, state=1).double()
    with torch.no_grad():  # an AR(1) process seen almost without noise
        model.predictor.A.fill_(a)
        model.predictor.process_noise.log_variance.fill_(math.log(1 - a**2))
        model.predictor.observation_noise.log_variance.fill_(-20.0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1000, 20, 1, generator=generator, dtype=torch.float64)
    z = [noise[0]]
    for e in noise[1:]:
        z.append(a * z[-1] + math.sqrt(1 - a**2) * e)
    latent = torch.stack(z, 1)
    expected = 0.5 * math.log(latent.var().item() / (1 - a**2))
    assert expected == pytest.approx(-0.5 * math.log(1 - a**2), abs=0.05)
    assert model.predictive_gain(latent, latent).item() == pytest.approx(expected, abs=0.02)
    gains = model.held_out_scores(latent, latent)
    assert gains.shape == (20, 1000)
    assert gains.mean().item() == pytest.approx(model.predictive_gain(latent, latent).item(), rel=1e-6)
    assert gains[:3].mean().item() == pytest.approx(model.predictive_gain(latent[:3], latent).item(), rel=1e-6)
    assert model.predictive_gain(latent[:, torch.randperm(1000, generator=generator)], latent).item() < 0


def test_standardizing_leaves_alone_what_comes_after_the_last_layer_and_encoders_without_one():
    encoder = nn.Sequential(MLPEncoder(5, 3, random_state=0), OnSphere())
    model = make(encoder, latent=3, state=3)
    features = 3 + torch.randn(4, 50, 5, generator=torch.Generator().manual_seed(0))
    model.standardize_latents(features)
    before = encoder[0](features).flatten(0, 1)
    torch.testing.assert_close(before.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(before.std(0), torch.ones(3), atol=1e-5, rtol=0)
    make(nn.Identity(), latent=5, state=5).standardize_latents(features)


def test_predictive_gain_of_directions_compares_with_the_fitted_von_mises_fisher():
    generator = torch.Generator().manual_seed(0)
    predictor = RecurrentPredictor(3, distribution="von_mises_fisher", variance="constant", generator=generator)
    model = SequenceModel(nn.Identity(), predictor, LDM(LogDetEntropy()))
    z = OnSphere()(torch.tensor([2.0, 0.0, 0.0]) + torch.randn(50, 20, 3, generator=generator))
    with torch.no_grad():  # makes the predictor one that knows no past, with the mean and spread of the samples
        fitted = VonMisesFisher.fitted(z.flatten(0, 1))
        predictor.head[-1].weight.zero_()
        predictor.head[-1].bias.copy_(fitted.mean_direction)
        predictor.first_mean.copy_(fitted.mean_direction)
        predictor.first_log_concentration.copy_(fitted.concentration.log())
        predictor.variance.log_variance.fill_(-fitted.concentration.log())
    assert model.predictive_gain(z, z).item() == pytest.approx(0, abs=1e-4)
