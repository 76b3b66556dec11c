"""Whitening of features: covariance of the components, ridge, and training of an encoder on weak directions."""

import pytest
import torch

from kalmanssl.errors import InputError
from kalmanssl.networks import Whitening, mlp


@pytest.fixture
def features():
    """Five correlated features in four directions of standard deviation 1, 0.3, 0.1 and 0.01; (20, 100, 5)."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0][:4]
    samples = torch.randn(20, 100, 4, generator=generator) * torch.tensor([1.0, 0.3, 0.1, 0.01])
    return samples @ basis + 5.0


def moments(x):
    x = x.flatten(0, -2).double()
    return x.mean(0), torch.cov(x.T)


def test_components_have_mean_zero_and_are_white_without_a_ridge(features):
    whitening = Whitening.fit(features, ridge=0.0)
    mean, cov = moments(whitening(features))
    assert whitening.n_components == 4  # the fifth direction is constant
    torch.testing.assert_close(mean, torch.zeros(4, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(cov, torch.eye(4, dtype=torch.float64), atol=2e-3, rtol=0)


def test_the_ridge_limits_the_gain_of_weak_components(features):
    variance = torch.linalg.eigvalsh(moments(features)[1]).flip(0)[:4]
    _, cov = moments(Whitening.fit(features, ridge=0.01)(features))
    torch.testing.assert_close(cov.diagonal(), variance / (variance + 0.01 * variance[0]), atol=1e-4, rtol=1e-3)


def test_it_does_not_depend_on_the_scale_and_keeps_the_type(features):
    scaled = Whitening.fit(1e3 * features.double())(1e3 * features.double())
    assert scaled.dtype == torch.float64
    torch.testing.assert_close(
        scaled.square().mean((0, 1)),
        Whitening.fit(features)(features).double().square().mean((0, 1)),
        atol=1e-4,
        rtol=1e-3,
    )
    assert not list(Whitening.fit(features).parameters())
    assert set(Whitening.fit(features).state_dict()) == {"mean", "weight"}


def test_a_network_learns_a_weak_direction_faster(features):
    """The target is the square of the third direction; the first has a hundred times its variance."""
    white = Whitening.fit(features, ridge=0.0)
    target = white(features)[..., 2:3].square()

    def loss(x):
        network = mlp((x.shape[-1], 30, 1), random_state=0)
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            error = (network(x) - target).square().mean()
            error.backward()
            optimizer.step()
        return float(error.detach())

    assert loss(white(features)) < 0.2 * loss(features - features.mean((0, 1)))


@pytest.mark.parametrize(
    ("features", "ridge", "message"),
    [
        (torch.ones(1, 3), 0.0, "two samples"),
        (torch.tensor([[0.0, 1.0], [float("nan"), 2.0]]), 0.0, "finite"),
        (torch.ones(9, 3), 0.0, "constant"),
        (torch.eye(3), -1.0, "ridge"),
    ],
)
def test_bad_input_is_named(features, ridge, message):
    with pytest.raises(InputError, match=message):
        Whitening.fit(features, ridge)


def test_weights_of_other_sizes_are_refused():
    with pytest.raises(InputError, match="shapes"):
        Whitening(torch.zeros(3), torch.zeros(2, 4))
