"""The recurrent predictor: causality, its densities, the first step, and training with every entropy."""

import math

import pytest
import torch
from torch import nn

from kalmanssl.datasets import PRESETS, dot_videos
from kalmanssl.distributions import GaussianConditional, OnSphere, VonMisesFisher
from kalmanssl.entropy import make_entropy
from kalmanssl.errors import InputError, NotFiniteError
from kalmanssl.models import LDM, KalmanPredictor, RecurrentPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, MLPEncoder
from kalmanssl.training import TrainingSettings, WindowBatches, WindowSettings, train

LATENT = 3
CELLS = ("lstm", "gru", "rnn")
KINDS = [(d, v) for d in ("gaussian", "von_mises_fisher") for v in ("fixed", "constant", "state")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(distribution: str = "gaussian", variance: str = "fixed", cell: str = "lstm") -> RecurrentPredictor:
    predictor = RecurrentPredictor(
        LATENT, cell=cell, distribution=distribution, variance=variance, generator=seeded()
    ).double()
    generator = seeded(1)
    with torch.no_grad():  # the network of variances starts constant; the tests want it to depend on what it sees
        for parameter in predictor.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return predictor


def data(distribution: str = "gaussian", batch: int = 3, steps: int = 7) -> torch.Tensor:
    latent = torch.randn(batch, steps, LATENT, generator=seeded(2), dtype=torch.float64)
    return OnSphere()(latent) if distribution == "von_mises_fisher" else latent


def spread(conditional: GaussianConditional | VonMisesFisher) -> torch.Tensor:
    """What a conditional says beside its mean, with the axis of time made out, (batch, time, …)."""
    if isinstance(conditional, VonMisesFisher):
        return conditional.concentration.expand(conditional.mean.shape[:-1])
    return conditional.cov.expand(*conditional.mean.shape, LATENT)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("distribution", "variance"), KINDS)
def test_predictions_depend_on_the_past_alone(distribution, variance, cell):
    predictor, latent = make(distribution, variance, cell), data(distribution)
    changed = latent.clone()
    changed[:, 4] = -changed[:, 4]
    before, after = (predictor(z, z).conditional for z in (latent, changed))
    assert before.mean.shape == latent.shape
    torch.testing.assert_close(before.mean[:, :5], after.mean[:, :5], rtol=0, atol=0)
    torch.testing.assert_close(spread(before)[:, :5], spread(after)[:, :5], rtol=0, atol=0)
    assert (before.mean[:, 5:] - after.mean[:, 5:]).abs().amax(-1).min() > 1e-6  # and on all of it
    if variance == "state":
        assert (spread(before)[:, 5:] - spread(after)[:, 5:]).abs().max() > 1e-6


@pytest.mark.parametrize(("distribution", "variance"), KINDS)
def test_log_prob_is_that_of_the_conditional_and_reaches_every_parameter(distribution, variance):
    predictor, latent = make(distribution, variance), data(distribution)
    prediction = predictor(latent, latent)
    value = prediction.log_prob(latent)
    assert value.shape == latent.shape[:2]
    if distribution == "gaussian":
        cov = spread(prediction.conditional)
        expected = torch.distributions.MultivariateNormal(prediction.conditional.mean, cov).log_prob(latent)
    else:
        mean, k = prediction.conditional.mean, spread(prediction.conditional)
        torch.testing.assert_close(mean.norm(dim=-1), 1 / k.tanh() - 1 / k)  # in three dimensions
        expected = (k / (4 * math.pi * k.sinh())).log() + k * (mean / mean.norm(dim=-1, keepdim=True) * latent).sum(-1)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    for name, parameter in predictor.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_the_mean_is_the_head_on_the_layer_run_by_hand():
    predictor, latent = make(cell="rnn"), data()
    layer, outputs, state = predictor.recurrent, [], torch.zeros(3, 10, dtype=torch.float64)
    for z in latent.unbind(1):
        state = (z @ layer.weight_ih_l0.T + layer.bias_ih_l0 + state @ layer.weight_hh_l0.T + layer.bias_hh_l0).tanh()
        outputs.append(predictor.head(state))
    mean = predictor(latent, latent).conditional.mean
    torch.testing.assert_close(mean[:, 1:], torch.stack(outputs[:-1], 1))
    torch.testing.assert_close(mean[:, 0], predictor.first_mean.expand(3, -1))


def test_variances():
    eye = torch.eye(LATENT, dtype=torch.float64)
    latent = data()
    fixed, constant, state = (make(variance=v) for v in ("fixed", "constant", "state"))
    torch.testing.assert_close(spread(fixed(latent, latent).conditional)[:, 1:], eye.expand(3, 6, -1, -1))
    with torch.no_grad():
        constant.variance.log_variance.copy_(torch.tensor([0.1, 4.0, 25.0]).log())
    expected = torch.diag(torch.tensor([0.1, 4.0, 25.0], dtype=torch.float64) + 1e-6)
    torch.testing.assert_close(spread(constant(latent, latent).conditional)[:, 1:], expected.expand(3, 6, -1, -1))
    for bias, ratio in ((-1e3, 0.01), (1e3, 100.0)):  # the variance stays within a factor of the constant part
        with torch.no_grad():
            state.variance.network[-1].bias.fill_(bias)
        limit = torch.diag(1e-6 + ratio * state.variance.log_variance.exp()).detach()
        found = spread(state(latent, latent).conditional)[:, 1:]
        torch.testing.assert_close(found, limit.expand(3, 6, -1, -1))
    start = RecurrentPredictor(2, distribution="von_mises_fisher", variance="state", generator=seeded())
    z = torch.zeros(1, 4, 2) + torch.tensor([1.0, 0.0])
    torch.testing.assert_close(start(z, z).conditional.concentration, torch.ones(1, 4))


def test_the_first_step_takes_any_mean_and_spread_and_so_leaves_the_scale_to_the_others():
    """At its best, the first step's density changes with the scale of the latents as an entropy does."""
    predictor, scale = make(), 7.0
    root = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [-3.0, 0.2, 4.0]], dtype=torch.float64)
    first = 5 + torch.randn(2000, 1, LATENT, generator=seeded(3), dtype=torch.float64) @ root.T

    def best(latent: torch.Tensor) -> float:
        with torch.no_grad():
            predictor.first_mean.copy_(latent.mean((0, 1)))
            predictor.first_root.copy_(torch.linalg.cholesky(torch.cov(latent[:, 0].T)))
        return predictor(latent, latent).log_prob(latent).mean().item()

    value = best(first)
    gaussian = torch.distributions.MultivariateNormal(first.mean((0, 1)), torch.cov(first[:, 0].T))
    assert value == pytest.approx(gaussian.log_prob(first).mean().item(), abs=1e-4)
    assert best(scale * first) == pytest.approx(value - LATENT * math.log(scale), abs=1e-4)


def test_the_first_step_learns_where_sequences_begin():
    predictor = RecurrentPredictor(2, generator=seeded())
    z = torch.tensor([3.0, -1.0]) + torch.randn(256, 2, 2, generator=seeded(4)) * torch.tensor([0.2, 2.0])
    optimizer = torch.optim.Adam(predictor.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (-predictor(z, z).log_prob(z)[:, 0].mean()).backward()
        optimizer.step()
    conditional = predictor(z, z).conditional
    torch.testing.assert_close(conditional.mean[0, 0], z[:, 0].mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(conditional.cov[0, 0], torch.cov(z[:, 0].T), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(("distribution", "variance"), KINDS)
def test_a_mask_of_all_is_no_mask_and_missing_steps_count_nothing(distribution, variance):
    predictor, latent = make(distribution, variance), data(distribution)
    plain = predictor(latent, latent)
    mask = torch.ones(latent.shape[:2], dtype=torch.bool)
    torch.testing.assert_close(predictor(latent, latent, mask).log_prob(latent), plain.log_prob(latent))
    mask[1, 3], mask[2, 0] = False, False
    missing = latent.masked_fill(~mask[..., None], math.nan).requires_grad_()
    prediction = predictor(missing, missing, mask)
    value = prediction.log_prob(missing)
    assert value[1, 3] == 0
    assert value[2, 0] == 0
    torch.testing.assert_close(value[0], plain.log_prob(latent)[0])
    torch.testing.assert_close(value[1, :3], plain.log_prob(latent)[1, :3])
    torch.testing.assert_close(prediction.detach().log_prob(missing), value)
    # The network goes on as if it had seen what it expected.
    filled = latent.clone()
    mean = prediction.conditional.mean.detach()
    mean = OnSphere()(mean) if distribution == "von_mises_fisher" else mean
    filled[1, 3], filled[2, 0] = mean[1, 3], mean[2, 0]
    torch.testing.assert_close(value[mask], predictor(filled, filled).log_prob(filled)[mask])
    value.sum().backward()
    assert torch.isfinite(missing.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in predictor.parameters())


def test_detached_prediction_passes_its_gradient_to_the_latent_alone():
    predictor, latent = make("gaussian", "state"), data().requires_grad_()
    predictor(latent, latent).detach().log_prob(latent).sum().backward()
    assert all(p.grad is None for p in predictor.parameters())
    conditional = predictor(latent, latent).conditional
    residual = (latent - conditional.mean).detach()[..., None]
    torch.testing.assert_close(latent.grad, -torch.linalg.solve(conditional.cov.detach(), residual)[..., 0])


def test_the_same_generator_gives_the_same_weights_and_leaves_that_of_torch_alone():
    state = torch.random.get_rng_state()
    one, same, other = (RecurrentPredictor(2, variance="state", generator=seeded(s)) for s in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.head[0].weight, other.head[0].weight)


def test_one_step_is_a_sequence():
    predictor, latent = make("gaussian", "state"), data(steps=1)
    assert predictor(latent, latent).log_prob(latent).shape == (3, 1)


# --- in the sequence model ---


def videos(preset: str, n: int = 24, frames: int = 30) -> torch.Tensor:
    made = dot_videos(**PRESETS[preset], n_videos=n, n_frames=frames, split="train", random_state=0)
    return torch.as_tensor(made.videos, dtype=torch.float32)


ENTROPIES = {
    "knn": lambda sphere: make_entropy("knn", max_samples=400, sphere_dim=LATENT if sphere else None),
    "logdet": lambda _: make_entropy("logdet"),
    "kde": lambda _: make_entropy("kde", bandwidth=0.5, max_samples=400),
    "stopgrad": lambda _: make_entropy("stopgrad"),
}


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("kind", ["kalman", "gaussian", "von_mises_fisher"])
def test_every_entropy_trains_with_every_predictor(kind, entropy):
    sphere = kind == "von_mises_fisher"
    size = LATENT if sphere else 2
    x = videos("sphere" if sphere else "wobbly")
    encoder: nn.Module = MLPEncoder(100, size, (50,), random_state=0)
    if kind == "kalman":
        predictor = KalmanPredictor(2, 2, ConstantNoise(2), ConstantNoise(2), generator=seeded())
    else:
        predictor = RecurrentPredictor(size, distribution=kind, variance="constant", generator=seeded())
    encoder = nn.Sequential(encoder, OnSphere()) if sphere else encoder
    model = SequenceModel(encoder, predictor, LDM(ENTROPIES[entropy](sphere), mutual_information=entropy != "stopgrad"))
    model.standardize_latents(x)
    groups = model.parameter_groups()
    # The stop-gradient is right for the best predictor only, so that one has to be much the faster.
    rates = {"encoder": 1e-4 if entropy == "stopgrad" else 1e-3, "dynamics": 3e-2}
    optimizer = torch.optim.Adam([{"params": p, "lr": rates[name]} for name, p in groups.items() if p])
    gain, losses = model.predictive_gain(x, x).item(), []
    for _ in range(60):
        terms = model.terms(x)
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
        model.after_step()
        losses.append(terms.loss.item())
    assert math.isfinite(losses[-1])
    if entropy == "stopgrad":  # whose loss is zero throughout
        assert losses[-1] == pytest.approx(0, abs=1e-4)
    else:
        assert losses[-1] < losses[0] - 0.1
    assert model.predictive_gain(x, x).item() > gain + 0.3
    assert model.diagnostics(x)["effective_dimension"] > 1.1


def test_training_runs_watches_and_resumes(tmp_path):
    def build() -> SequenceModel:
        predictor = RecurrentPredictor(2, variance="state", generator=seeded())
        return SequenceModel(MLPEncoder(100, 2, (20,), random_state=0), predictor, LDM(make_entropy("logdet")))

    def run(model: SequenceModel, epochs: int, **options: object) -> dict[str, list[float]]:
        history: dict[str, list[float]] = {}
        settings = TrainingSettings(epochs, 1e-3, 10.0, 10.0, 1e-6, 1.0, 10)
        data = WindowBatches(x[:12], x[12:], WindowSettings(20, 1, 8, 5, 0.0), seed=0)
        train(model, data, settings, history, seed=0, device="cpu", progress=False, **options)
        return history

    x = list(videos("wobbly", 16).numpy())
    model = build()
    history = run(model, 2, checkpoint_dir=tmp_path)
    assert len(history["held_out_score"]) == 2
    assert all(math.isfinite(v) for values in history.values() for v in values)
    assert "latent_scale" in history
    assert "spectral_radius" not in history
    resumed = run(build(), 3, checkpoint_dir=tmp_path, resume=True)
    assert resumed["loss"][:2] == history["loss"]
    assert len(resumed["loss"]) == 3


# --- bad input ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "LSTM"}, "cell must be one of lstm, gru, rnn; got 'LSTM'"),
        ({"distribution": "normal"}, "distribution must be one of gaussian, von_mises_fisher; got 'normal'"),
        ({"variance": "learned"}, "variance must be one of fixed, constant, state; got 'learned'"),
        ({"latent_dim": 0}, "latent_dim must be a whole number, at least 1; got 0"),
        ({"latent_dim": 2.0}, "latent_dim must be a whole number, at least 1; got 2.0"),
        ({"hidden": 0}, "hidden must be a whole number, at least 1; got 0"),
        ({"hidden": "10"}, "hidden must be a whole number, at least 1; got '10'"),
        ({"latent_dim": 1, "distribution": "von_mises_fisher"}, "latent_dim must be a whole number, at least 2"),
        ({"head": (0,)}, "head must be a whole number, at least 1; got 0"),
        ({"head": 20}, "head must be a sequence of whole numbers"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        RecurrentPredictor(**{"latent_dim": 2, **settings})


def test_bad_latents():
    predictor, latent = make(), data()
    with pytest.raises(InputError, match=r"latent must have shape \(batch, time, 3\), got \(3, 7, 2\)"):
        predictor(latent[..., :2], latent)
    with pytest.raises(InputError, match=r"mask must be bool with shape \(3, 7\), got torch.bool with \(3, 6\)"):
        predictor(latent, latent, torch.ones(3, 6, dtype=torch.bool))
    latent[0, 2] = math.inf
    with pytest.raises(NotFiniteError, match="latent has NaN or infinity at steps that are observed"):
        predictor(latent, latent)
