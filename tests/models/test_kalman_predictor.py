"""The Kalman predictor: its filter, its noise heads, its cap."""

import pytest
import torch

from kalmanssl.errors import InputError
from kalmanssl.kalman import kalman_filter, kalman_smoother
from kalmanssl.models import KalmanPredictor
from kalmanssl.networks import ConstantNoise, ErrorNoise, InputNoise, StateNoise

LATENT, STATE, FEATURES = 2, 3, 4
OBSERVATION = {
    "constant": lambda: ConstantNoise(LATENT),
    "input": lambda: InputNoise(FEATURES, LATENT, 8),
    "state": lambda: StateNoise(STATE, LATENT, 8),
    "errors": lambda: ErrorNoise(LATENT, LATENT, window=3),
}
PROCESS = {
    "constant": lambda: ConstantNoise(STATE),
    "errors": lambda: ErrorNoise(LATENT, STATE, window=3),
}


def make(observation: str = "constant", process: str = "constant") -> KalmanPredictor:
    torch.manual_seed(0)
    predictor = KalmanPredictor(LATENT, STATE, OBSERVATION[observation](), PROCESS[process]())
    with torch.no_grad():  # heads start constant; the tests want them to depend on what they see
        for parameter in predictor.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return predictor.double()


def data(batch: int = 3, steps: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(batch, steps, LATENT, generator=generator, dtype=torch.float64)
    return latent, torch.rand(batch, steps, FEATURES, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("process", PROCESS)
@pytest.mark.parametrize("observation", OBSERVATION)
def test_predictions_depend_on_the_past_alone(observation, process):
    predictor, (latent, features) = make(observation, process), data()
    changed = latent.clone()
    changed[:, 4] += 1.0
    before, after = predictor(latent, features), predictor(changed, features)
    torch.testing.assert_close(before.conditional.mean[:, :5], after.conditional.mean[:, :5])
    torch.testing.assert_close(before.conditional.cov[:, :5], after.conditional.cov[:, :5])
    assert (before.conditional.mean[:, 5] - after.conditional.mean[:, 5]).abs().min() > 1e-6


@pytest.mark.parametrize("process", PROCESS)
@pytest.mark.parametrize("observation", OBSERVATION)
def test_log_prob_is_that_of_the_predictive_distribution_and_reaches_every_parameter(observation, process):
    predictor, (latent, features) = make(observation, process), data()
    prediction = predictor(latent, features)
    expected = prediction.conditional.log_prob(latent)
    torch.testing.assert_close(prediction.log_prob(latent), expected)
    torch.testing.assert_close(prediction.log_prob(latent.clone()), expected)
    prediction.log_prob(latent).sum().backward()
    for name, parameter in predictor.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_noise_from_the_state_is_computed_from_the_filtered_mean_one_step_before():
    predictor, (latent, features) = make("state"), data()
    prediction = predictor(latent, features)
    previous = torch.cat([predictor.initial_mean.expand(3, 1, -1), prediction.filtered.filtered_mean[:, :-1]], 1)
    expected = torch.stack([predictor.observation_noise(m) for m in previous.unbind(1)], 1)
    torch.testing.assert_close(prediction.noise, expected)


def test_noise_from_errors_is_computed_from_the_innovations_before():
    predictor, (latent, features) = make("constant", "errors"), data()
    R, Q = predictor.noises(latent, features)
    prediction = predictor(latent, features)
    head = predictor.process_noise
    for t in range(latent.shape[1]):
        torch.testing.assert_close(Q[:, t], head(head.before(prediction.filtered.innovation, t)))
    assert R.shape == latent.shape


def test_the_state_returns_to_the_center():
    predictor = make()
    with torch.no_grad():
        predictor.A.mul_(0.5)
        predictor.center.fill_(3.0)
    latent, features = data(steps=200)
    mask = torch.zeros(latent.shape[:2], dtype=torch.bool)
    mean = predictor(latent, features, mask).filtered.predicted_mean[:, -1]
    torch.testing.assert_close(mean, torch.full_like(mean, 3.0))


@pytest.mark.parametrize("observation", OBSERVATION)
def test_posterior_is_that_of_the_filter_and_of_the_smoother(observation):
    predictor, (latent, features) = make(observation), data()
    prediction = predictor(latent, features)
    filtered = predictor.posterior(latent, features)
    torch.testing.assert_close(filtered.mean, prediction.filtered.filtered_mean)
    torch.testing.assert_close(filtered.covs[filtered.cov_index], prediction.filtered.filtered_cov)
    torch.testing.assert_close(filtered.log_likelihood, prediction.log_prob(latent))
    torch.testing.assert_close(filtered.noise, prediction.noise.expand_as(latent))
    R, Q = predictor.noises(latent, features)
    expected = kalman_smoother(latent, **predictor.dynamics(), Q=Q, R=R)
    smoothed = predictor.posterior(latent, features, smooth=True)
    torch.testing.assert_close(smoothed.mean, expected.smoothed_mean)
    torch.testing.assert_close(smoothed.covs[smoothed.cov_index], expected.smoothed_cov)


def test_spectral_radius_is_capped_only_when_asked():
    predictor = make()
    with torch.no_grad():
        predictor.A.mul_(3.0)
    before = predictor.A.detach().clone()
    predictor(*data())
    torch.testing.assert_close(predictor.A.detach(), before, rtol=0, atol=0)
    predictor.cap_spectral_radius()
    assert torch.linalg.eigvals(predictor.A).abs().max().item() == pytest.approx(predictor.max_spectral_radius)
    direction = predictor.A.detach() / before
    torch.testing.assert_close(direction, direction[0, 0].expand_as(direction))


def test_filter_has_the_parameters_of_the_textbook():
    predictor, (latent, features) = make(), data()
    A, c = predictor.A, predictor.center
    expected = kalman_filter(
        latent,
        A=A,
        b=(torch.eye(STATE, dtype=A.dtype) - A) @ c,
        Q=predictor.process_noise(),
        C=torch.eye(LATENT, STATE, dtype=A.dtype),
        R=predictor.observation_noise(),
        m0=predictor.initial_mean,
        P0=torch.diag(predictor.log_initial_variance.exp()),
    )
    torch.testing.assert_close(predictor(latent, features).filtered.log_likelihood, expected.log_likelihood)


def test_sizes_must_fit():
    with pytest.raises(InputError, match="state_dim must be at least latent_dim = 2, got 1"):
        KalmanPredictor(2, 1, ConstantNoise(2), ConstantNoise(1))
    with pytest.raises(InputError, match="process noise head gives 2 variances where 3 are needed"):
        KalmanPredictor(2, 3, ConstantNoise(2), ConstantNoise(2))
