"""The mixture density network, and the stop-gradient entropy that has a density of its own."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from kalmanssl.distributions import Mixture, OnSphere, PrecisionGaussian, VonMisesFisher
from kalmanssl.entropy import KNNEntropy, StopGradientEntropy
from kalmanssl.errors import InputError
from kalmanssl.models import LDM, MixtureDensity, RecurrentPredictor, SequenceModel
from kalmanssl.networks import MLPEncoder


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stop_gradient_model(density: bool) -> SequenceModel:
    predictor = RecurrentPredictor(2, variance="constant", generator=generator())
    own = MixtureDensity(2, components=3, generator=generator(1)) if density else None
    objective = LDM(StopGradientEntropy(), mutual_information=False)
    return SequenceModel(MLPEncoder(5, 2, random_state=0), predictor, objective, own)


def test_mixture_of_gaussians_is_that_of_torch():
    log_weights = torch.randn(4, 3, generator=generator()).log_softmax(-1)
    mean = torch.randn(4, 3, 2, generator=generator(1))
    root = torch.tensor([[1.5, 0.0], [-0.7, 0.4]]).expand(4, 3, 2, 2)
    latent = torch.randn(4, 2, generator=generator(2))
    gaussians = MultivariateNormal(mean, precision_matrix=root.mT @ root)
    expected = MixtureSameFamily(Categorical(logits=log_weights), gaussians).log_prob(latent)
    torch.testing.assert_close(Mixture(log_weights, PrecisionGaussian(mean, root)).log_prob(latent), expected)


@pytest.mark.parametrize("distribution", ["gaussian", "von_mises_fisher"])
def test_density_integrates_to_one_and_depends_on_the_past_alone(distribution):
    density = MixtureDensity(2, components=3, distribution=distribution, generator=generator())
    past = OnSphere()(torch.randn(1, 6, 2, generator=generator(1)))
    if distribution == "gaussian":
        axis = torch.linspace(-12, 12, 241)
        points, cell = torch.cartesian_prod(axis, axis), (axis[1] - axis[0]).item() ** 2
    else:
        angles = torch.arange(360) * (2 * math.pi / 360)
        points, cell = torch.stack([angles.cos(), angles.sin()], -1), 2 * math.pi / 360
    found = density(past)
    at_3 = Mixture(found.log_weights[:, 3], type(found.components)(*(v[:, 3] for v in vars(found.components).values())))
    assert (at_3.log_prob(points).exp().sum() * cell).item() == pytest.approx(1, abs=0.01)
    changed = past.clone()
    changed[:, 3:] = -changed[:, 3:]
    torch.testing.assert_close(density(changed).log_prob(past)[:, :4], found.log_prob(past)[:, :4])
    assert not torch.allclose(density(changed).log_prob(past)[:, 4:], found.log_prob(past)[:, 4:])


def test_one_component_on_the_sphere_is_the_von_mises_fisher_distribution():
    density = MixtureDensity(3, components=1, distribution="von_mises_fisher", generator=generator())
    latent = OnSphere()(torch.randn(2, 5, 3, generator=generator(1)))
    found = density(latent)
    assert isinstance(found.components, VonMisesFisher)
    one = VonMisesFisher(found.components.mean_direction[..., 0, :], found.components.concentration[..., 0])
    torch.testing.assert_close(found.log_prob(latent), one.log_prob(latent))


def test_gradients_of_encoder_predictor_and_density():
    model = stop_gradient_model(density=True)
    features = torch.randn(3, 8, 5, generator=generator(2))
    model.terms(features).loss.backward()
    output = model(features)
    density = model.density(output.latent.detach())
    for parameters, value in (
        (model.predictor.parameters(), output.prediction.log_prob(output.latent).mean()),
        (model.density.parameters(), density.log_prob(output.latent.detach()).mean()),
        (
            model.encoder.parameters(),
            (output.prediction.log_prob(output.latent) - density.detach().log_prob(output.latent)).mean(),
        ),
    ):
        parameters = list(parameters)
        for p, expected in zip(parameters, torch.autograd.grad(-value, parameters, retain_graph=True), strict=True):
            torch.testing.assert_close(p.grad, expected)
    terms = model.terms(features)
    assert terms.entropy.item() == pytest.approx(-density.log_prob(output.latent).mean().item(), rel=1e-5)


def test_only_a_density_of_its_own_sees_residuals_of_another_shape():
    """A fixed bijection of noise: the best prediction is a constant, so that the loss of the prediction is flat."""
    model = stop_gradient_model(density=True)
    with torch.no_grad():
        for head in (model.predictor.head, model.predictor.recurrent):
            for p in head.parameters():
                p.zero_()  # predicts zero, whatever came before
    plain = stop_gradient_model(density=False)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("density")})
    features = torch.randn(16, 20, 5, generator=generator(3))
    sizes = []
    for one in (plain, model):
        one.terms(features).loss.backward()
        sizes.append(float(torch.cat([p.grad.flatten() for p in one.encoder.parameters()]).norm()))
    assert sizes[0] < 1e-7
    assert sizes[1] > 1e-3


def test_groups_and_errors():
    model = stop_gradient_model(density=True)
    fast = [*model.predictor.parameter_groups()["dynamics"], *model.density.parameters()]
    assert model.parameter_groups()["constant_lr"] == fast
    assert "dynamics" not in model.parameter_groups()
    with pytest.raises(InputError, match="belongs to the stop-gradient entropy"):
        SequenceModel(model.encoder, model.predictor, LDM(KNNEntropy()), model.density)
    with pytest.raises(InputError, match="components must be a whole number, at least 1; got 0"):
        MixtureDensity(2, components=0)
    with pytest.raises(InputError, match="latent_dim must be a whole number, at least 2; got 1"):
        MixtureDensity(1, distribution="von_mises_fisher")
    with pytest.raises(InputError, match="one of gaussian, von_mises_fisher; got 'laplace'"):
        MixtureDensity(2, distribution="laplace")
    with pytest.raises(InputError, match="hidden must be a whole number, at least 1; got 0"):
        MixtureDensity(2, hidden=0)
    with pytest.raises(InputError, match="head must be a sequence of whole numbers"):
        MixtureDensity(2, head=64)
    state = torch.get_rng_state()
    MixtureDensity(2)
    np.testing.assert_array_equal(state, torch.get_rng_state())
