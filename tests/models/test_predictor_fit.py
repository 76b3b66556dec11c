"""The fit of a predictor with the encoder fixed: what changes, and the noise that it finds."""

import copy

import pytest
import torch
from torch import nn

from kalmanssl.entropy import LogDetEntropy
from kalmanssl.models import LDM, KalmanPredictor, PredictorFit, SequenceModel, start_varying_noise
from kalmanssl.networks import ActivityNoise, ConstantNoise, ErrorNoise, InputNoise, MLPEncoder, StateNoise
from kalmanssl.utils.torch_ops import evaluating

HEADS = {
    "activity": lambda: ActivityNoise(2),
    "input": lambda: InputNoise(5, 2, 8),
    "state": lambda: StateNoise(3, 2, 8),
    "errors": lambda: ErrorNoise(2, 2, window=3),
}


def counts(batch=6, steps=20):
    return torch.poisson(torch.ones(batch, steps, 5), generator=torch.Generator().manual_seed(0))


def make(head):
    torch.manual_seed(0)
    model = SequenceModel(
        MLPEncoder(5, 2, dropout=0.5), KalmanPredictor(2, 3, head, ConstantNoise(3)), LDM(LogDetEntropy())
    )
    model.standardize_latents(counts())
    return model


@pytest.mark.parametrize("name", HEADS)
def test_noise_starts_at_the_variances_of_constant_noise_with_standardized_inputs(name):
    head = HEADS[name]()
    model, x = make(head), counts()
    head.set_variance(torch.tensor([0.3, 0.7]))
    head.set_varying(False)
    model.eval()
    before = model(x).prediction.log_prob(model.encoder(x))
    start_varying_noise(model, x)
    assert head.varies
    torch.testing.assert_close(model(x).prediction.log_prob(model.encoder(x)), before)
    assert head.input_scale.min() > 0
    assert (head.input_scale != 1).any()


def test_the_fit_changes_the_predictor_and_not_the_encoder():
    model, x = make(ActivityNoise(2)), counts()
    before = copy.deepcopy(model.state_dict())
    fit = PredictorFit(model).train()
    optimizer = torch.optim.Adam([p for group in fit.parameter_groups().values() for p in group], 0.01)
    first = fit.terms(x)
    with evaluating(fit):
        gain = fit.held_out_scores(x, x).mean()
    assert first.entropy == 0
    assert fit.terms(x).loss == first.loss  # no dropout
    assert model.encoder.training
    for _ in range(5):
        optimizer.zero_grad()
        fit.terms(x).loss.backward()
        optimizer.step()
        fit.after_step()
    with evaluating(fit):  # the gain differs from the likelihood by a constant
        torch.testing.assert_close(
            fit.held_out_scores(x, x).mean() - gain, first.loss - fit.terms(x).loss, atol=1e-4, rtol=1e-4
        )
    assert fit.terms(x).loss < first.loss
    assert all(p.grad is None for p in model.encoder.parameters())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert "predictor.A" in changed
    assert "predictor.observation_noise.network.1.weight" in changed
    assert not any(name.startswith("encoder") for name in changed)


class Columns(nn.Module):
    """Return the last two features; the first is a spike count."""

    def forward(self, x):
        return x[..., 1:]


class CountNoise(ActivityNoise):
    """Activity noise of the first feature alone."""

    def _total(self, context):
        return context.features[..., :1]


def test_steps_without_activity_do_not_change_the_result():
    model, x = make(ActivityNoise(2)), counts()
    model.eval()
    x[:, 7] = 0
    features = x.clone()
    features[:, 7] = 0
    latent = model.encoder(x)
    other = latent.clone()
    other[:, 7] += 5.0
    one, two = (model.predictor(z, features) for z in (latent, other))
    torch.testing.assert_close(one.filtered.filtered_mean, two.filtered.filtered_mean)
    torch.testing.assert_close(one.log_prob(latent)[:, 7], torch.zeros(len(x)))
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    mask[:, 3] = False
    for given in (mask, mask[..., None].expand(latent.shape)):
        log_prob = model.predictor(latent, features, given).log_prob(latent)
        assert ((log_prob == 0).any(0).nonzero().flatten() == torch.tensor([3, 7])).all()
    for smooth in (False, True):
        one, two = (model.predictor.posterior(z, features, smooth) for z in (latent, other))
        torch.testing.assert_close(one.mean, two.mean)
        assert one.covs.isfinite().all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_true_dependence_of_the_noise_on_the_count_is_found(seed):
    generator = torch.Generator().manual_seed(seed)
    batch, steps = 40, 50
    count = torch.poisson(torch.exp(1.5 + 0.6 * torch.randn(batch, steps, 1, generator=generator)), generator=generator)
    variance = torch.tensor([3.0, 1.0]) / (1 + count) ** torch.tensor([1.0, 0.5])
    variance[(count == 0).squeeze(-1)] = 10.0
    state = torch.randn(batch, 2, generator=generator)
    latents = []
    for t in range(steps):
        if t:
            state = 0.9 * state + (1 - 0.9**2) ** 0.5 * torch.randn(batch, 2, generator=generator)
        latents.append(state + variance[:, t].sqrt() * torch.randn(batch, 2, generator=generator))
    x = torch.cat([count, torch.stack(latents, 1)], -1)
    predictor = KalmanPredictor(2, 2, CountNoise(2), ConstantNoise(2))
    with torch.no_grad():
        predictor.A.copy_(0.9 * torch.eye(2))
        predictor.process_noise.set_variance(torch.full((2,), 1 - 0.9**2))
    model = SequenceModel(Columns(), predictor, LDM(LogDetEntropy()))
    head = predictor.observation_noise
    head.set_varying(False)
    start_varying_noise(model, x)
    fit = PredictorFit(model)
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(80):
        optimizer.zero_grad()
        fit.terms(x).loss.backward()
        optimizer.step()
    observed = (count > 0).squeeze(-1)
    with torch.no_grad():
        found = predictor(x[..., 1:], x).observation_noise[observed].log()
    true = variance[observed].log()
    for i in range(2):
        assert torch.corrcoef(torch.stack([found[:, i], true[:, i]]))[0, 1] > 0.97
    assert (found - true).mean(0).abs().max() < 0.25  # about three standard errors
