"""Published losses as settings of one pair model: value and gradient equal the published formulas."""

import doctest
import math
import sys

import pytest
import torch
from pair_models import DIM, N, build, raw, same_loss, views
from torch import nn
from torch.nn import functional

from kalmanssl import recipes
from kalmanssl.entropy import (
    make_entropy,
)
from kalmanssl.models import LDM, Euclidean, PairModel
from kalmanssl.recipes import make_recipe


def test_simclr_equals_nt_xent():
    model = build(recipes.simclr(DIM, temperature=0.2))
    z = functional.normalize(torch.cat(raw(model, views())), dim=1)
    similarity = (z @ z.T / 0.2).masked_fill(torch.eye(2 * N, dtype=torch.bool), -torch.inf)
    partner = torch.arange(2 * N).roll(N)
    # The normalizers of density and kernel cancel; what is left is that a mean stands where the softmax has a sum.
    same_loss(model, functional.cross_entropy(similarity, partner), constant=-math.log(2 * N - 1))


def test_vicreg():
    model = build(recipes.vicreg(DIM))
    z = raw(model, views())
    invariance = (z[0] - z[1]).square().mean()
    spread = sum(functional.relu(1 - (one.var(0) + 1e-4).sqrt()).mean() for one in z)
    cov = [torch.cov(one.T) for one in z]
    off = sum((c - torch.diag(c.diagonal())).square().sum() / DIM for c in cov)
    constant = 0.5 * DIM * math.log(2 * math.pi * DIM / 50)
    same_loss(model, 25 * invariance + 25 * spread + off, constant)


def test_vicreg_without_mutual_information_has_the_covariance_of_both_views():
    model = build(recipes.vicreg_ldm(DIM))
    z = raw(model, views())
    spread = sum(functional.relu(1 - (one.var(0) + 1e-4).sqrt()).mean() for one in z)
    cov = torch.cov(torch.cat([one - one.mean(0) for one in z]).T)
    off = (cov - torch.diag(cov.diagonal())).square().sum() / DIM
    constant = 0.5 * DIM * math.log(2 * math.pi * DIM / 50)
    same_loss(model, 25 * (z[0] - z[1]).square().mean() + 17.5 * spread + 0.75 * off, constant)


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_byol_and_simsiam_are_stop_gradients_of_directions(name):
    model = build(make_recipe(name, dim=DIM))
    pair = views()
    if name == "byol":
        with torch.no_grad():  # a target that has fallen behind
            for p in model.projector.parameters():
                p.mul_(1.5)
        target = model.target(torch.cat(pair))
    else:
        target = torch.cat(raw(model, pair))
    q = functional.normalize(model.predictor(torch.cat(raw(model, pair))), dim=1)
    z = functional.normalize(target, dim=1).detach()
    cosine = (q * z.roll(N, 0)).sum(1)
    textbook = (2 - 2 * cosine).mean() if name == "byol" else -cosine.mean()
    # The plug-in entropy makes the value zero at all times; the gradient is that of the textbook's loss.
    same_loss(model, textbook, constant=None)
    # The batch normalization of the predictor sees one view at a time in the model, hence the test above in one batch:
    assert model.terms(pair).loss.item() == pytest.approx(0, abs=1e-9)


def test_doctest_of_the_recipes():
    found = [doctest.testmod(module) for module in (recipes, sys.modules[recipes.hippocampus.__module__])]
    assert tuple(map(sum, zip(*found, strict=True))) == (0, 4)


def test_byol_and_simsiam_have_the_published_sizes():
    byol, simsiam = recipes.byol(), recipes.simsiam()
    assert (byol.hidden, byol.dim, byol.predictor, byol.momentum) == ((4096,), 256, 4096, 0.99)
    assert (simsiam.hidden, simsiam.dim, simsiam.predictor) == ((2048, 2048), 2048, 512)
    assert (byol.augmentation, simsiam.augmentation) == ("asymmetric", "weak")
    assert byol.weight_decay == simsiam.weight_decay == 1e-5
    assert "0.99, rising to 1" in str(byol)
    assert "512, 2048, constant learning rate" in str(simsiam)
    assert "2048, 2048, 2048, batch norm of the output too" in str(simsiam)
    out = torch.cat(raw(build(recipes.simsiam(DIM)), views()))
    torch.testing.assert_close(out.mean(0), torch.zeros(DIM).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(out.var(0, unbiased=False), torch.ones(DIM).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("information", [False, True])
def test_the_published_logdet_on_the_sphere(information):
    model = build(recipes.sphere_logdet(DIM, information, precision=2.5, reference_bugs=True))
    z = [functional.normalize(one, dim=1) for one in raw(model, views())]

    def spread(rows, count):
        cov = rows.T @ rows / (count - 1) + 1e-6
        variance = cov.diagonal() + 1e-9
        fourth = (cov**2 / (variance[:, None] * variance + 1e-9)) ** 2
        return (variance.log().sum() - 0.5 * fourth[~torch.eye(DIM, dtype=torch.bool)].sum()) / DIM

    centered = [one - one.mean(0) for one in z]
    entropy = sum(spread(one, N) for one in centered) if information else spread(torch.cat(centered), 2 * N)
    assert model.terms(views()).entropy.item() == pytest.approx(entropy.item(), rel=1e-10)
    same_loss(model, -2.5 * (z[0] * z[1]).sum(1).mean() - entropy, constant=None)
    assert "PublishedLogDetEntropy" in str(recipes.sphere_logdet(reference_bugs=True))
    assert "Published" not in str(recipes.sphere_logdet())


def test_infonce_with_a_predictor_counts_its_own_view_alone():
    model = build(recipes.cpc(DIM, temperature=0.5))
    z = [functional.normalize(one, dim=1) for one in raw(model, views())]
    q = functional.normalize(model.predictor(torch.cat(raw(model, views()))), dim=1).chunk(2)
    loss = 0.0
    for predicted, found in ((q[0], z[1]), (q[1], z[0])):
        loss = loss - (predicted * found).sum(1).mean() / 0.5 + (found @ found.T / 0.5).logsumexp(1).mean()
    same_loss(model, loss / 2, constant=-math.log(N))


def test_matched_gaussian_pairs_reach_what_theory_says():
    """z ~ N(0, S), z' | z ~ N(a z, (1 - a^2) S): with the true conditional F is I with, and 0 without information."""
    generator = torch.Generator().manual_seed(0)
    scale, a, n = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64).sqrt(), 0.8, 200_000
    z, noise = torch.randn(2, n, 3, generator=generator, dtype=torch.float64) * scale
    other = a * z + math.sqrt(1 - a**2) * noise

    class Model(Euclidean):
        def conditional(self, z):
            from kalmanssl.distributions import GaussianConditional

            return GaussianConditional(a * z, (1 - a**2) * torch.diag(scale**2))

    for information, expected in ((True, -1.5 * math.log(1 - a**2)), (False, 0.0)):
        objective = LDM(make_entropy("logdet"), mutual_information=information)
        model = PairModel(nn.Identity(), nn.Identity(), Model(), objective, prior="empirical")
        terms = model.terms((z, other))
        assert -terms.loss.item() == pytest.approx(expected, abs=0.01)
