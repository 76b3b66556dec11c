"""The start of the training: predictable linear components and the dynamics that match them."""

import numpy as np
import pytest
import torch

from kalmanssl import KalmanSSL
from kalmanssl.estimator._initialization import initialize, predictable_components
from kalmanssl.models import KalmanPredictor
from kalmanssl.networks import ConstantNoise, InputNoise, make_noise


def autoregressions(coefficients, n, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros((n, len(coefficients)))
    for t in range(1, n):
        x[t] = coefficients * x[t - 1] + np.sqrt(1 - np.square(coefficients)) * rng.standard_normal(len(coefficients))
    return x


@pytest.fixture(scope="module")
def features():
    """Ten features: two slow signals of strength 3 and 2 in orthogonal directions, and white noise."""
    rng = np.random.default_rng(1)
    directions = np.linalg.qr(rng.standard_normal((10, 2)))[0].T
    signals = autoregressions(np.array([0.9, 0.8]), 20_000) * np.array([3.0, 2.0])
    return signals @ directions + rng.standard_normal((20_000, 10)), directions


def test_the_components_are_the_directions_of_the_predictable_signals(features):
    x, directions = features
    present, past = torch.from_numpy(x[1:]), torch.from_numpy(x[:-1])
    found = predictable_components(present, past, 2).numpy()
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert np.abs(np.sum(unit * directions, axis=1)).min() > 0.98


def test_white_noise_has_the_same_variance_in_every_component(features):
    x, _ = features
    found = predictable_components(torch.from_numpy(x[1:]), torch.from_numpy(x[:-1]), 5)
    norms = torch.linalg.vector_norm(found, dim=1)
    torch.testing.assert_close(norms, norms[:1].expand(5))
    variances = (torch.from_numpy(x) @ found.T).var(0)
    assert float(variances.mean()) == pytest.approx(1.0, rel=0.01)


def test_constant_features_have_no_components():
    present = torch.cat([torch.randn(100, 2, generator=torch.Generator().manual_seed(0)), torch.ones(100, 3)], dim=1)
    assert predictable_components(present[1:], present[:-1], 5).shape == (2, 5)
    assert predictable_components(torch.ones(50, 3), torch.ones(50, 3), 2).shape == (0, 3)


def test_many_features_are_reduced_before_the_components_are_found():
    rng = np.random.default_rng(2)
    direction = rng.standard_normal(1100)
    x = autoregressions(np.array([0.95]), 3000) * direction + 0.1 * rng.standard_normal((3000, 1100))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = predictable_components(torch.from_numpy(x[1:]), torch.from_numpy(x[:-1]), 1)[0].numpy()
    assert abs(found @ direction) / np.linalg.norm(found) / np.linalg.norm(direction) > 0.99


def test_the_dynamics_of_a_noisy_autoregression_are_found_from_its_autocovariance():
    coefficients, noise = np.array([0.9, 0.6]), np.array([0.5, 1.5])
    predictor = KalmanPredictor(2, 3, ConstantNoise(2), ConstantNoise(3))
    lags = [torch.tensor(coefficients**k + (noise if k == 0 else 0), dtype=torch.float32) for k in range(3)]
    predictor.match_autocovariance(torch.tensor([1.0, -2.0]), *lags)
    np.testing.assert_allclose(torch.diagonal(predictor.A)[:2].detach(), coefficients, rtol=0.05)
    np.testing.assert_allclose(predictor.observation_noise().detach(), noise, rtol=1e-4)
    np.testing.assert_allclose(predictor.process_noise()[:2].detach(), 1 - coefficients**2, rtol=1e-4)
    np.testing.assert_allclose(predictor.center[:2].detach(), [1.0, -2.0])


def test_the_same_generator_gives_the_same_dynamics():
    lags = [torch.tensor([1.0, 1.0]) * c for c in (1.5, 0.9, 0.81)]
    found = []
    for seed in (0, 0, 1):
        predictor = KalmanPredictor(
            2, 3, ConstantNoise(2), ConstantNoise(3), generator=torch.Generator().manual_seed(5)
        )
        state = torch.get_rng_state()
        predictor.match_autocovariance(torch.zeros(2), *lags, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(state, torch.get_rng_state())
        found.append(predictor.A.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_white_latents_have_finite_dynamics_and_of_bounded_noise_only_the_constant_part_changes():
    head = InputNoise(4, 2, 8)
    before = [p.detach().clone() for p in head.network_parameters()]
    predictor = KalmanPredictor(2, 2, head, ConstantNoise(2))
    predictor.match_autocovariance(torch.zeros(2), torch.ones(2), torch.tensor([0.0, -0.3]), torch.zeros(2))
    assert all(torch.equal(a, b) for a, b in zip(before, head.network_parameters(), strict=True))
    assert bool(predictor.A.isfinite().all())
    assert float(predictor.process_noise().detach().min()) > 0


NOISE_SETTINGS = {
    "activity": {},
    "input": {"in_features": 4},
    "state": {"state_dim": 3},
    "errors": {"latent_dim": 2},
}


def test_all_noise_heads_start_at_the_variance_of_constant_noise():
    lags = [torch.tensor([5.0, 2.0]) * c for c in (1.5, 0.9, 0.81)]
    for name, settings in NOISE_SETTINGS.items():
        predictor = KalmanPredictor(2, 3, make_noise(name, dim=2, **settings), make_noise("constant", dim=3))
        predictor.match_autocovariance(torch.zeros(2), *lags)
        predictor.observation_noise.set_varying(False)
        constant = KalmanPredictor(2, 3, ConstantNoise(2), ConstantNoise(3))
        constant.match_autocovariance(torch.zeros(2), *lags)
        torch.testing.assert_close(predictor.observation_noise(), constant.observation_noise())


def test_a_model_predicts_better_than_chance_before_training():
    rng = np.random.default_rng(3)
    signal = autoregressions(np.array([0.95, 0.9]), 4000)
    counts = rng.poisson(np.exp(0.8 * signal @ rng.standard_normal((2, 12))))
    settings = {"latent_dim": 2, "state_dim": 2, "progress": False, "random_state": 0, "device": "cpu"}
    model = KalmanSSL(**settings, epochs=1, steps_per_epoch=1, learning_rate=1e-12).fit(counts[:3000])
    assert model.score(counts[3000:]) > 0.05


def test_the_start_does_not_depend_on_the_order_of_the_segments():
    rng = np.random.default_rng(4)
    parts = [rng.poisson(1.0, (n, 5)).astype(float) for n in (40, 61)]
    settings = {"latent_dim": 2, "state_dim": 3, "hidden": (4,), "window": 8, "bins_per_step": 2, "epochs": 1,
                "steps_per_epoch": 1, "validation_fraction": 0, "progress": False, "random_state": 0}  # fmt: skip
    model = KalmanSSL(**settings).fit(parts[0]).model_
    weights = []
    for order in (parts, parts[::-1]):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            initialize(model, order, 2)
        weights.append(model.encoder.linear.weight.detach().clone())
    torch.testing.assert_close(weights[0].abs(), weights[1].abs(), atol=1e-4, rtol=1e-3)
