"""The residual encoder: a linear path that can be set, and a perceptron that corrects it."""

import pytest
import torch

from kalmanssl.networks import ResidualEncoder, WindowEncoder


@pytest.fixture
def counts():
    return torch.randint(0, 4, (3, 50, 7), generator=torch.Generator().manual_seed(0)).float()


def make(latent_dim=4, **settings):
    return ResidualEncoder(7, latent_dim, random_state=0, **settings)


def started(counts, n_components, latent_dim=4, **settings):
    encoder = make(latent_dim, **settings).eval()
    features = encoder.features(counts).flatten(0, 1)
    components = torch.randn(n_components, features.shape[1], generator=torch.Generator().manual_seed(1))
    encoder.start_from(features, components)
    return encoder, features, components


@pytest.mark.parametrize("window", [1, 3])
def test_the_latents_start_as_the_given_components_of_the_centered_features(counts, window):
    encoder, features, components = started(counts, 4, window=window, transform="sqrt", unit_norm=True)
    expected = (features - features.mean(0)) @ components.T
    torch.testing.assert_close(encoder(counts).flatten(0, 1), expected)


def test_latents_without_a_component_start_with_mean_zero_and_the_variance_of_the_weakest_component(counts):
    encoder, _, _ = started(counts, 2)
    latent = encoder(counts).flatten(0, 1)
    torch.testing.assert_close(latent[:, 2:].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(latent[:, 2:].std(0), latent[:, :2].std(0).min().expand(2))
    assert torch.linalg.matrix_rank(latent - latent.mean(0)) == 4


def test_no_components_are_possible(counts):
    encoder, _, _ = started(counts, 0)
    torch.testing.assert_close(encoder(counts).flatten(0, 1).std(0), torch.ones(4))


def test_both_paths_receive_gradients_and_the_gain_slows_down_the_perceptron(counts):
    encoder, _, _ = started(counts, 2)
    encoder(counts).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in encoder.parameters())
    torch.testing.assert_close(encoder.gain, torch.tensor([0.1, 0.1, 1.0, 1.0]))


def test_the_start_is_part_of_the_weights(counts):
    encoder, _, _ = started(counts, 3)
    other = make()
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(other(counts), encoder(counts))


def test_before_the_start_it_is_the_perceptron_plus_a_linear_map(counts):
    encoder = make()
    perceptron = WindowEncoder(7, 4, 1, random_state=0)
    torch.testing.assert_close(encoder(counts), perceptron(counts) + counts @ encoder.linear.weight.T)
