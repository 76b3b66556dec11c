"""Saved pair models, and their held-out scores."""

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
from kalmanssl.training import PairBatches, TrainingSettings, train
from kalmanssl.utils.torch_ops import seeded


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["byol", "categorical", "simsiam"])
def test_loaded_model_has_the_same_latents_and_training(name, tmp_path):
    def more(model):
        data = PairBatches(N, lambda chosen: tuple(v[chosen] for v in views()), 20, seed=0)
        train(model, data, TrainingSettings(3, 1e-3), {}, seed=0, device="cpu", progress=False)

    recipe = small(name)
    model = build(recipe)
    more(model)
    model.after_epoch(3)  # in the midst of what changes over the epochs
    model.save(tmp_path / "folder")
    with seeded(5):
        fresh = recipe.build(nn.Linear(FEATURES, 6), 6).double()
    loaded = fresh.load(tmp_path / "folder")
    assert loaded is fresh
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["metadata.json", "weights.safetensors"]
    torch.testing.assert_close(loaded(views()[0]), model(views()[0]), rtol=0, atol=0)
    more(model)
    more(loaded)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)
    with pytest.raises(InputError, match="exists"):
        model.save(tmp_path / "folder")
    model.bfloat16().save(tmp_path / "folder", overwrite=True)
    again = build(recipe).bfloat16().load(tmp_path / "folder")
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)


def test_loading_into_a_different_model_is_rejected(tmp_path):
    build(small("sphere_kde")).save(tmp_path / "folder")
    wide, equal = (dataclasses.replace(small("sphere_kde"), hidden=hidden) for hidden in ((9, 9), (9, 7)))
    concentrations = r"has latent model Sphere\(concentration=5.0\), but this one has Sphere\(concentration=40.0\)"
    for other, said in (
        (small("sphere_knn"), concentrations),
        (small("simclr"), "has entropy VonMisesFisherKDEEntropy.* but this one has VonMisesFisherKDEEntropy"),
        (wide, "has projector Sequential, 173 parameters, but this one has Sequential, 203 parameters"),
        (equal, r"shape of projector.0.weight .* is \(8, 6\), but in this one \(9, 6\)"),  # as many in all
    ):
        model = build(other)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(InputError, match=said) as caught:
            model.load(tmp_path / "folder")
        assert "\n" not in str(caught.value)
        for key, value in before.items():
            torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=0)
    with pytest.raises(InputError, match="does not exist"):
        build(small("sphere_kde")).load(tmp_path / "nowhere")


def test_weights_of_another_shape_or_name_are_refused(tmp_path):
    def model(backbone):
        return PairModel(backbone, nn.Identity(), Euclidean(), LDM(KNNEntropy()))

    model(nn.Linear(2, 3)).save(tmp_path / "folder")  # nine numbers
    other = nn.Linear(8, 1)
    with pytest.raises(InputError, match=r"shape of backbone.weight .* is \(3, 2\), but in this one \(1, 8\)"):
        model(other).load(tmp_path / "folder")
    unbiased = nn.Linear(3, 3, bias=False)
    with pytest.raises(InputError, match=r"shape of backbone.weight .* is \(3, 2\), but in this one \(3, 3\)"):
        model(unbiased).load(tmp_path / "folder")


def test_on_epoch_end_is_called_after_each_epoch():
    model, seen = build(recipes.sphere_kde(DIM)), []
    data = PairBatches(N, lambda chosen: tuple(v[chosen] for v in views()), 20, seed=0)
    train(model, data, TrainingSettings(3, 1e-3), {}, seed=0, device="cpu", progress=False, on_epoch_end=seen.append)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_held_out_score_of_stop_gradient_models_is_the_infonce_bound(name):
    model, pair = recipes.make_recipe(name, dim=DIM).build(nn.Linear(FEATURES, 6), 6, random_state=0).double(), views()
    with torch.no_grad():
        raws = model._encode(torch.cat(pair))
        centers = model.latent_model.project(model.predictor(raws)).chunk(2)
        target = (
            model(torch.cat(pair))
            if model.target is None
            else model.latent_model.project(model.target(torch.cat(pair)))
        )
        gains = []
        for center, other in zip(centers, reversed(target.chunk(2)), strict=True):
            matrix = model.latent_model.conditional(center[None]).log_prob(other[:, None])  # (latent, center)
            gains.append((matrix.diagonal() - matrix.logsumexp(1) + math.log(len(other))).mean())
    score = model.held_out_scores(pair, pair)
    torch.testing.assert_close(score, torch.stack(gains).mean())
    assert score <= math.log(len(pair[0]))


def test_held_out_score_of_other_pair_models_is_the_negative_loss():
    model, pair = recipes.simclr(DIM).build(nn.Linear(FEATURES, 6), 6, random_state=0).double(), views()
    torch.testing.assert_close(model.held_out_scores(pair, pair), -model.terms(pair).loss)


def test_predictive_gain_is_zero_for_equal_latents_and_positive_for_informative_ones():
    model, pair = recipes.simclr(DIM).build(nn.Linear(FEATURES, 6), 6, random_state=0).double(), views()
    assert float(model.predictive_gain((pair[0][:1].expand(8, -1),) * 2)) == pytest.approx(0.0, abs=1e-5)
    assert float(model.predictive_gain((pair[0], pair[0]))) > 0.1
