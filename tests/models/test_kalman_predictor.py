"""The Kalman predictor: causality, likelihood, noise heads of any kind, posterior and spectral radius."""

import pytest
import torch

from kalmanssl.errors import InputError
from kalmanssl.kalman import FilterResult, kalman_filter, kalman_smoother
from kalmanssl.models import KalmanPredictor
from kalmanssl.networks import ConstantNoise, ErrorNoise, InputNoise, NoiseContext, NoiseHead, StateNoise

LATENT, STATE, FEATURES = 2, 3, 4


class AdaptiveNoise(NoiseHead):
    """A head that uses all fields of the context, without detaching them."""

    uses_state = True
    history = 2

    def __init__(self, dim: int) -> None:
        super().__init__(dim, floor=0.1)
        self.log_gain = torch.nn.Parameter(torch.zeros(dim, 3))

    def forward(self, context: NoiseContext) -> torch.Tensor:
        sizes = (context.innovations.square().mean((1, 2)), context.state.square().mean(1), context.features.mean(1))
        return self.floor + torch.stack(sizes, 1) @ self.log_gain.exp().T


OBSERVATION = {
    "constant": lambda: ConstantNoise(LATENT),
    "input": lambda: InputNoise(FEATURES, LATENT, 8),
    "state": lambda: StateNoise(STATE, LATENT, 8),
    "errors": lambda: ErrorNoise(LATENT, LATENT, window=3),
    "user-defined": lambda: AdaptiveNoise(LATENT),
}
PROCESS = {
    "constant": lambda: ConstantNoise(STATE),
    "errors": lambda: ErrorNoise(LATENT, STATE, window=3),
    "user-defined": lambda: AdaptiveNoise(STATE),
}


def make(observation: str = "constant", process: str = "constant") -> KalmanPredictor:
    torch.manual_seed(0)
    predictor = KalmanPredictor(LATENT, STATE, OBSERVATION[observation](), PROCESS[process]())
    with torch.no_grad():  # heads are constant at first; the tests need heads that depend on their inputs
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
    expected = torch.stack([predictor.observation_noise(NoiseContext(state=m)) for m in previous.unbind(1)], 1)
    torch.testing.assert_close(prediction.observation_noise, expected)


def test_noise_from_errors_is_computed_from_the_innovations_before():
    predictor, (latent, features) = make("constant", "errors"), data()
    prediction = predictor(latent, features)
    padded = torch.nn.functional.pad(prediction.filtered.innovation, (0, 0, 3, 0))
    for t in range(latent.shape[1]):
        expected = predictor.process_noise(NoiseContext(innovations=padded[:, t : t + 3]))
        torch.testing.assert_close(prediction.process_noise[:, t], expected)
    assert prediction.observation_noise.shape == latent.shape


@pytest.mark.parametrize("process", PROCESS)
@pytest.mark.parametrize("observation", OBSERVATION)
@pytest.mark.parametrize("masked", [False, True])
def test_result_is_that_of_the_filter_with_the_same_noise(observation, process, masked):
    predictor, (latent, features) = make(observation, process), data()
    mask = torch.rand(latent.shape, generator=torch.Generator().manual_seed(2)) < 0.7 if masked else None
    prediction = predictor(latent, features, mask)
    R, Q = prediction.observation_noise, prediction.process_noise
    expected = kalman_filter(latent, **predictor.dynamics(), Q=Q, R=R, mask=mask)
    for name, value in expected.tensors().items():
        torch.testing.assert_close(getattr(prediction.filtered, name), value, msg=lambda m, name=name: f"{name}: {m}")


def test_whole_sequences_are_filtered_at_once_unless_a_head_needs_the_filter():
    for name, head in OBSERVATION.items():
        prediction = make(name)(*data())
        assert isinstance(prediction.filtered, FilterResult) != head().is_sequential


def test_context_of_a_user_defined_head_ends_before_the_present_step():
    contexts = []

    class Recorder(AdaptiveNoise):
        def forward(self, context):
            contexts.append(context)
            return super().forward(context)

    predictor = KalmanPredictor(LATENT, STATE, ConstantNoise(LATENT), Recorder(STATE)).double()
    latent, features = data()
    filtered = predictor(latent, features).filtered
    assert len(contexts) == latent.shape[1]
    for t, context in enumerate(contexts):
        assert torch.equal(context.features, features[:, t])
        before = filtered.filtered_mean[:, t - 1] if t else predictor.initial_mean.expand(len(latent), -1)
        torch.testing.assert_close(context.state, before)
        past = torch.nn.functional.pad(filtered.innovation[:, :t], (0, 0, 2, 0))[:, -2:]
        torch.testing.assert_close(context.innovations, past)


@pytest.mark.parametrize(("observation", "process"), [("user-defined", "user-defined"), ("state", "user-defined")])
def test_gradients_through_adaptive_noise_are_those_of_finite_differences(observation, process):
    predictor, (latent, features) = make(observation, process), data(batch=2, steps=4)
    names, parameters = zip(*predictor.named_parameters(), strict=True)

    def log_prob(latent, features, *values):
        parts = dict(zip(names, values, strict=True))
        return torch.func.functional_call(predictor, parts, (latent, features)).filtered.log_likelihood

    inputs = (latent.requires_grad_(), features.requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(log_prob, inputs)


def test_a_head_that_returns_another_shape_is_rejected():
    class Wrong(AdaptiveNoise):
        def forward(self, context):
            return super().forward(context)[:, :1]

    predictor = KalmanPredictor(LATENT, STATE, Wrong(LATENT), ConstantNoise(STATE)).double()
    with pytest.raises(InputError, match=r"the noise head Wrong must return \(3, 2\) for one step, got \(3, 1\)"):
        predictor(*data())


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
    torch.testing.assert_close(filtered.noise, prediction.observation_noise.expand_as(latent))
    R, Q = prediction.observation_noise, prediction.process_noise
    expected = kalman_smoother(latent, **predictor.dynamics(), Q=Q, R=R)
    smoothed = predictor.posterior(latent, features, smooth=True)
    torch.testing.assert_close(smoothed.mean, expected.smoothed_mean)
    torch.testing.assert_close(smoothed.covs[smoothed.cov_index], expected.smoothed_cov)


def test_spectral_radius_is_bounded_only_by_cap_spectral_radius():
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


def test_result_is_that_of_a_filter_with_written_out_parameters():
    predictor, (latent, features) = make(), data()
    A, c = predictor.A, predictor.center
    expected = kalman_filter(
        latent,
        A=A,
        b=(torch.eye(STATE, dtype=A.dtype) - A) @ c,
        Q=predictor.process_noise(NoiseContext()),
        C=torch.eye(LATENT, STATE, dtype=A.dtype),
        R=predictor.observation_noise(NoiseContext()),
        m0=predictor.initial_mean,
        P0=torch.diag(predictor.log_initial_variance.exp()),
    )
    torch.testing.assert_close(predictor(latent, features).filtered.log_likelihood, expected.log_likelihood)


def test_dimensions_must_match():
    with pytest.raises(InputError, match="state_dim must be at least latent_dim = 2, got 1"):
        KalmanPredictor(2, 1, ConstantNoise(2), ConstantNoise(1))
    with pytest.raises(InputError, match="process noise head returns 2 variances, but 3 are needed"):
        KalmanPredictor(2, 3, ConstantNoise(2), ConstantNoise(2))
