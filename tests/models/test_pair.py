"""Pair models: both directions, moving averages, annealing and training."""

import dataclasses
import math

import pytest
import torch
from pair_models import DIM, FEATURES, N, build, small, views
from torch import nn

from kalmanssl import recipes
from kalmanssl.entropy import (
    KNNEntropy,
)
from kalmanssl.errors import InputError
from kalmanssl.models import LDM, Euclidean, PairModel
from kalmanssl.recipes import RECIPES, make_recipe
from kalmanssl.training import PairBatches, TrainingSettings, train


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"categorical"}))
def test_loss_is_symmetric_in_the_views(name):
    model = build(make_recipe(name, dim=DIM)).eval()
    one, other = model.terms(views()), model.terms(views()[::-1])
    torch.testing.assert_close(one.alignment, other.alignment)
    torch.testing.assert_close(one.entropy, other.entropy)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_prints_and_trains_reproducibly(name):
    def run():
        recipe = make_recipe(name, dim=10 if name == "categorical" else DIM)
        model = build(recipe)
        data = PairBatches(N, lambda chosen: tuple(v[chosen] for v in views()), 20, seed=0)
        history: dict[str, list[float]] = {}
        train(model, data, TrainingSettings(2, 1e-3), history, seed=0, device="cpu", progress=False)
        assert len(history["loss"]) == len(history["effective_dimension"]) == 2
        return recipe, model

    recipe, model = run()
    assert recipe.name in str(recipe)
    assert "entropy" in repr(model)
    torch.testing.assert_close(list(run()[1].parameters()), list(model.parameters()), rtol=0, atol=0)


def test_target_is_a_moving_average_with_the_momentum():
    model = build(recipes.byol(DIM, momentum=0.9))
    before = [p.clone() for p in model.target.parameters()]
    assert not any(p.requires_grad for p in model.target.parameters())
    with torch.no_grad():
        for p in (*model.backbone.parameters(), *model.projector.parameters()):
            p.add_(1.0)
    model.after_step()
    for old, new in zip(before, model.target.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_momentum_increases_to_one_as_a_cosine_in_each_training():
    model, epochs = build(dataclasses.replace(recipes.byol(DIM, momentum=0.9), hidden=(8,), predictor=8)), 4
    for again in range(2):
        for epoch in range(epochs):
            expected = 1 - 0.1 * (math.cos(math.pi * epoch / epochs) + 1) / 2
            assert 1 - float(model.ema_rate) == pytest.approx(expected, rel=1e-6), (again, epoch)
            before, fast = next(model.target.parameters()).clone(), next(model.backbone.parameters())
            with torch.no_grad():
                fast.add_(1.0)
            model.after_step()
            kept = expected * before + (1 - expected) * fast
            torch.testing.assert_close(next(model.target.parameters()), kept, rtol=1e-6, atol=1e-7)
            model.after_epoch(epochs)


def test_a_resumed_target_moves_as_that_of_an_uninterrupted_run(tmp_path):
    def run(**options):
        model = build(dataclasses.replace(recipes.byol(DIM, momentum=0.9), hidden=(8,), predictor=8))
        data = PairBatches(N, lambda chosen: tuple(v[chosen] for v in views()), 20, seed=0)
        train(model, data, TrainingSettings(4, 1e-3), {}, seed=0, device="cpu", progress=False, **options)
        return model.state_dict()

    def interrupt(epoch):
        if epoch == 3:
            raise KeyboardInterrupt

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint_dir=tmp_path, on_epoch_end=interrupt)
    for name, value in run(checkpoint_dir=tmp_path, resume=True).items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_the_predictor_of_simsiam_alone_keeps_its_rate(name, monkeypatch):
    small = dataclasses.replace(make_recipe(name, dim=DIM), hidden=(8, 8), predictor=8)
    model, rates, real = build(small), [], torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        rates.append([group["lr"] for group in self.param_groups])
        assert {id(p) for p in self.param_groups[1]["params"]} == {id(p) for p in model.predictor.parameters()}
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    data = PairBatches(N, lambda chosen: tuple(v[chosen] for v in views()), 20, seed=0)
    settings = TrainingSettings(3, 1e-3, dynamics_lr_factor=2.0)
    train(model, data, settings, {}, seed=0, device="cpu", progress=False)
    encoder, predictor = zip(*rates, strict=True)
    assert len(encoder) == 6
    assert encoder[-1] < 0.1 * encoder[0]
    expected = [2e-3] * 6 if name == "simsiam" else [2 * rate for rate in encoder]
    assert predictor == pytest.approx(expected)


def test_categories_are_annealed_over_the_epochs_and_resume(tmp_path):
    def run(epochs, **options):
        model = build(recipes.categorical(4, match_probability=0.6, final=0.9))
        data = PairBatches(N, lambda chosen: tuple(v[chosen] for v in views()), 20, seed=0)
        train(model, data, TrainingSettings(epochs, 1e-3), {}, seed=0, device="cpu", progress=False, **options)
        return float(model.latent_model.temperature)

    start, end = (1 / math.log(3 * p / (1 - p)) for p in (0.6, 0.9))
    assert run(8) == pytest.approx(end + (start - end) * 0.5**8, rel=1e-5)


def test_training_makes_pairs_similar_without_collapse():
    pair = tuple(v.float() for v in views(n=512))
    model = recipes.sphere_kde(DIM).build(nn.Linear(FEATURES, 16), 16, random_state=0)
    data = PairBatches(512, lambda chosen: tuple(v[chosen] for v in pair), 128, seed=0)
    before = model.terms(pair)
    train(model, data, TrainingSettings(30, 3e-3), {}, seed=0, device="cpu", progress=False)
    after = model.terms(pair)
    assert after.loss < before.loss - 0.05
    assert model.diagnostics(pair)["effective_dimension"] > 3


@pytest.mark.parametrize("weights", [False, True], ids=["autocast", "weights"])
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_networks_may_compute_in_half_precision(name, weights):
    model, pair = build(small(name)).float(), tuple(v.float() for v in views())
    expected = model.terms(pair)
    if weights:
        terms = model.bfloat16().terms(tuple(v.bfloat16() for v in pair))
        latent = model(pair[0].bfloat16())
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms, latent = model.terms(pair), model(pair[0])
    assert terms.alignment.dtype == terms.entropy.dtype == latent.dtype == torch.float32
    assert terms.loss.isfinite()
    model.latent_model.check(latent)  # to single precision
    if name in ("sphere_kde", "simclr", "categorical"):  # whose values do not follow the scale of what was rounded
        assert terms.loss.item() == pytest.approx(expected.loss.item(), abs=0.1)
    terms.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_half_precision_tells_collapsed_latents_from_similar_ones():
    model = PairModel(nn.Identity(), nn.Identity(), Euclidean(), LDM(KNNEntropy()))
    similar = tuple((1 + 0.1 * v).bfloat16() for v in views())
    assert model.terms(similar).loss.isfinite()
    with pytest.raises(InputError, match="latents of all 80 views are the same"):
        model.terms(tuple((1 + 1e-3 * v).bfloat16() for v in views()))
