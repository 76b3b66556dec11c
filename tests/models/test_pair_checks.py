"""Settings, views and latents that pair models reject."""

import dataclasses
import math

import pytest
import torch
from pair_models import DIM, build, views
from torch import nn

from kalmanssl import recipes
from kalmanssl.entropy import (
    CategoricalEntropy,
    DirichletKDEEntropy,
    KNNEntropy,
    PublishedLogDetEntropy,
    StopGradientEntropy,
    make_entropy,
)
from kalmanssl.errors import InputError
from kalmanssl.models import LDM, Categories, Euclidean, PairModel, Simplex, Sphere
from kalmanssl.recipes import make_recipe
from kalmanssl.training import PairBatches


@pytest.mark.parametrize(
    ("latent_model", "entropy", "options", "said"),
    [
        (Sphere(), make_entropy("kde"), {}, "latent model has the space 'sphere'"),
        (Simplex(), KNNEntropy(), {}, "latent model has the space 'simplex'"),
        (
            Sphere(),
            KNNEntropy(),
            {},
            r"KNNEntropy\(.* for the space 'sphere' needs sphere_dim, the number of coordinates of a latent",
        ),
        (Simplex(), DirichletKDEEntropy(), {}, "for the space 'simplex' needs simplex_dim"),
        (Categories(3), CategoricalEntropy(), {}, "for the space 'categories' needs categories"),
        (Sphere(), StopGradientEntropy(), {}, "needs a predictor"),
        (Sphere(), StopGradientEntropy(), {"predictor": nn.Linear(DIM, DIM)}, "use prior='empirical' with it"),
        (Euclidean(), KNNEntropy(), {"momentum": 0.9}, "moving-average target has no gradient"),
        (Euclidean(), KNNEntropy(), {"prior": "flat"}, "prior must be one of model, empirical"),
        (Euclidean(), KNNEntropy(), {"constant_predictor_lr": True}, "constant_predictor_lr needs a predictor"),
        (
            Euclidean(),
            PublishedLogDetEntropy(DIM),
            {},
            "supports the space 'sphere', but the latent model has the space 'euclidean'",
        ),
    ],
)
def test_invalid_combinations_are_rejected(latent_model, entropy, options, said):
    with pytest.raises(InputError, match=said):
        PairModel(
            nn.Identity(), nn.Identity(), latent_model, LDM(entropy, mutual_information=False), **options
        )  # fmt: skip


def test_the_published_logdet_has_no_entropy_given_the_other_view():
    model = build(dataclasses.replace(recipes.sphere_logdet(DIM, reference_bugs=True), prior="empirical"))
    with pytest.raises(InputError, match=r"PublishedLogDetEntropy ignores the dependence .* use prior='model'"):
        model.terms(views())


def test_bad_arguments_are_rejected():
    model = build(recipes.euclidean_knn(DIM))
    x, other = views()
    with pytest.raises(InputError, match="number of first and second views must be the same"):
        model.terms((x, other[:-1]))
    with pytest.raises(InputError, match="1 of 80 latents are NaN"):
        model.terms((x.clone().index_fill(0, torch.tensor([3]), math.nan), other))
    with pytest.raises(InputError, match="more than 3"):
        model.terms((x[:3], other[:3]))
    with pytest.raises(InputError, match="latents of all 18 views are the same"):
        model.terms((x[:1].expand(9, -1), x[:1].expand(9, -1)))
    with pytest.raises(InputError, match="there is no recipe 'moco': use one of 'euclidean_kde'"):
        make_recipe("moco")
    with pytest.raises(InputError, match="unexpected keyword argument 'temperatur'"):
        make_recipe("simclr", temperatur=1.0)
    with pytest.raises(InputError, match="batch_size must be at most the 10 samples of the training part, got 11"):
        PairBatches(10, lambda chosen: (chosen, chosen), 11, seed=0)


def test_bad_views_and_networks_are_rejected():
    model = build(recipes.euclidean_knn(DIM))
    x, other = views()
    with pytest.raises(InputError, match=r"both views must have the same shape, got \(40, 7\) and \(40, 6\)"):
        model.terms((x, other[:, :-1]))
    with pytest.raises(InputError, match=r"the batch has no pairs: its views have shape \(0, 7\)"):
        model.terms((x[:0], other[:0]))
    wrong = recipes.euclidean_knn(DIM).build(nn.Flatten(), 9)
    for use in (lambda: wrong.terms((x.float(), other.float())), lambda: wrong(x.float())):
        with pytest.raises(InputError, match=r"backbone returned \(\d0, 7\), but the projector needs \(pairs, 9\)"):
            use()
    bare = PairModel(nn.Identity(), nn.Identity(), Euclidean(), LDM(KNNEntropy()))
    with pytest.raises(InputError, match=r"networks must return \(80, dim\) for 80 views, got \(80, 7, 1\)"):
        bare.terms((x[..., None], other[..., None]))
    with pytest.raises(RuntimeError, match="dtype"):  # an error of another kind is not taken for one of the width
        model.terms((x.float(), other.float()))


def test_latents_outside_their_space_are_detected_in_the_first_batch():
    class Unprojected(Sphere):
        def project(self, u):
            return u

    entropy = make_entropy("logdet", "sphere")
    model = PairModel(nn.Identity(), nn.Identity(), Unprojected(), LDM(entropy, mutual_information=False))
    with pytest.raises(InputError, match="80 of 80 vectors off the unit sphere"):
        model.terms(views())
    few = PairModel(nn.Identity(), nn.Identity(), Categories(10), LDM(CategoricalEntropy(7)))
    with pytest.raises(InputError, match="z has 7 columns, but there are n=10 categories"):
        few.terms(views())
    few = PairModel(nn.Identity(), nn.Identity(), Sphere(), LDM(KNNEntropy(sphere_dim=8)))
    with pytest.raises(InputError, match=r"the latents have 7 coordinates, but the entropy is .*: set sphere_dim to"):
        few.terms(views())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: recipes.simclr(temperature=0), "temperature must be positive and finite; got 0"),
        (lambda: recipes.cpc(temperature=-1), "temperature must be positive and finite; got -1"),
        (lambda: recipes.sphere_knn(dim=1), "dim must be a whole number, at least 2; got 1"),
        (lambda: recipes.euclidean_kde(precision=0), "precision must be positive and finite; got 0"),
        (lambda: recipes.euclidean_knn(dim=2.5), "dim must be a whole number, at least 1; got 2.5"),
        (lambda: recipes.categorical(dim=1), "dim must be a whole number, at least 2; got 1"),
        (lambda: dataclasses.replace(recipes.simclr(), hidden=(0,)), "hidden must be a whole number, at least 1"),
        (lambda: recipes.simclr().build(nn.Flatten(), 0), "n_features must be a whole number, at least 1; got 0"),
        (lambda: recipes.byol(momentum="a").build(nn.Flatten(), 4), "momentum must be a number; got 'a'"),
        (lambda: make_recipe("simcir"), "there is no recipe 'simcir': did you mean 'simclr'"),
    ],
)
def test_bad_settings_of_recipes_are_rejected(make, said):
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
