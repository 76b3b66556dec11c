"""Pair models: published losses as settings, both directions, moving averages, training."""

import dataclasses
import doctest
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

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
from kalmanssl.recipes import RECIPES, Recipe, make_recipe
from kalmanssl.training import PairBatches, TrainingSettings, train
from kalmanssl.utils.torch_ops import seeded

N, FEATURES, DIM = 40, 7, 5


def views(seed: int = 0, n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, FEATURES, generator=generator, dtype=torch.float64)
    return tuple(shared + 0.3 * torch.randn(n, FEATURES, generator=generator, dtype=torch.float64) for _ in range(2))


def build(recipe: Recipe) -> PairModel:
    with seeded(1):
        backbone = nn.Linear(FEATURES, 6)
    return recipe.build(backbone, 6, random_state=0).double()


def raw(model: PairModel, pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of the projector, both views in one batch as the model does it."""
    return model.projector(model.backbone(torch.cat(pair))).chunk(2)


def gradients(model: PairModel, loss: torch.Tensor) -> list[torch.Tensor]:
    learned = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(loss, learned, allow_unused=True, materialize_grads=True)


def same_loss(model: PairModel, textbook: torch.Tensor, constant: float | None, scale: float = 1.0) -> None:
    """The model's loss is scale * textbook + constant (None: any), with that gradient."""
    mine = model.terms(views()).loss
    if constant is not None:
        assert mine.item() == pytest.approx(scale * textbook.item() + constant, rel=1e-10)
    for a, b in zip(gradients(model, mine), gradients(model, scale * textbook), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


# --- textbook forms --------------------------------------------------------------------------------------------------


def test_simclr_is_nt_xent():
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


def test_the_example_of_the_recipes_is_true():
    assert doctest.testmod(recipes) == (0, 2)


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


# --- both directions, both views -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"categorical"}))
def test_swapping_the_views_changes_nothing(name):
    model = build(make_recipe(name, dim=DIM)).eval()
    one, other = model.terms(views()), model.terms(views()[::-1])
    torch.testing.assert_close(one.alignment, other.alignment)
    torch.testing.assert_close(one.entropy, other.entropy)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_prints_trains_a_step_and_repeats_itself(name):
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


def test_target_follows_by_the_momentum():
    model = build(recipes.byol(DIM, momentum=0.9))
    before = [p.clone() for p in model.target.parameters()]
    assert not any(p.requires_grad for p in model.target.parameters())
    with torch.no_grad():
        for p in (*model.backbone.parameters(), *model.projector.parameters()):
            p.add_(1.0)
    model.after_step()
    for old, new in zip(before, model.target.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_momentum_rises_to_one_along_a_cosine_and_begins_anew():
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


def test_training_pulls_pairs_together_and_keeps_them_spread():
    pair = tuple(v.float() for v in views(n=512))
    model = recipes.sphere_kde(DIM).build(nn.Linear(FEATURES, 16), 16, random_state=0)
    data = PairBatches(512, lambda chosen: tuple(v[chosen] for v in pair), 128, seed=0)
    before = model.terms(pair)
    train(model, data, TrainingSettings(30, 3e-3), {}, seed=0, device="cpu", progress=False)
    after = model.terms(pair)
    assert after.loss < before.loss - 0.05
    assert model.diagnostics(pair)["effective_dimension"] > 3


# --- what does not fit -----------------------------------------------------------------------------------------------


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
def test_parts_that_do_not_fit(latent_model, entropy, options, said):
    with pytest.raises(InputError, match=said):
        PairModel(
            nn.Identity(), nn.Identity(), latent_model, LDM(entropy, mutual_information=False), **options
        )  # fmt: skip


def test_the_published_logdet_has_no_entropy_given_the_other_view():
    model = build(dataclasses.replace(recipes.sphere_logdet(DIM, reference_bugs=True), prior="empirical"))
    with pytest.raises(InputError, match=r"PublishedLogDetEntropy ignores the dependence .* use prior='model'"):
        model.terms(views())


def test_bad_input():
    model = build(recipes.euclidean_knn(DIM))
    x, other = views()
    with pytest.raises(InputError, match="number of first and second views must be the same"):
        model.terms((x, other[:-1]))
    with pytest.raises(InputError, match="1 of 80 latents are NaN"):
        model.terms((x.clone().index_fill(0, torch.tensor([3]), math.nan), other))
    with pytest.raises(InputError, match="more than 3"):
        model.terms((x[:3], other[:3]))
    with pytest.raises(InputError, match="latents of all 18 are the same"):
        model.terms((x[:1].expand(9, -1), x[:1].expand(9, -1)))
    with pytest.raises(InputError, match="there is no recipe 'moco': use one of 'euclidean_kde'"):
        make_recipe("moco")
    with pytest.raises(InputError, match="unexpected keyword argument 'temperatur'"):
        make_recipe("simclr", temperatur=1.0)
    with pytest.raises(InputError, match="batch_size must be at most the 10 samples of the training part, got 11"):
        PairBatches(10, lambda chosen: (chosen, chosen), 11, seed=0)


def test_views_and_networks_that_do_not_fit():
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


def test_latents_off_their_space_or_of_another_width_are_found_in_the_first_batch():
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
def test_bad_settings_of_recipes(make, said):
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


# --- half precision --------------------------------------------------------------------------------------------------


def small(name: str, **settings) -> Recipe:
    width = None if make_recipe(name).predictor is None else 8
    return dataclasses.replace(make_recipe(name, dim=DIM, **settings), hidden=(8, 8), predictor=width)


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
    with pytest.raises(InputError, match="latents of all 80 are the same"):
        model.terms(tuple((1 + 1e-3 * v).bfloat16() for v in views()))


# --- saved -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["byol", "categorical", "simsiam"])
def test_a_loaded_model_has_the_same_latents_and_goes_on_alike(name, tmp_path):
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


def test_a_model_that_was_built_in_another_way_is_refused_and_stays_as_it_was(tmp_path):
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
    score = model.held_out_score(pair, pair)
    torch.testing.assert_close(score, torch.stack(gains).mean())
    assert score <= math.log(len(pair[0]))


def test_held_out_score_of_other_pair_models_is_the_negative_loss():
    model, pair = recipes.simclr(DIM).build(nn.Linear(FEATURES, 6), 6, random_state=0).double(), views()
    torch.testing.assert_close(model.held_out_score(pair, pair), -model.terms(pair).loss)


def test_predictive_gain_is_zero_for_equal_latents_and_positive_for_informative_ones():
    model, pair = recipes.simclr(DIM).build(nn.Linear(FEATURES, 6), 6, random_state=0).double(), views()
    assert float(model.predictive_gain((pair[0][:1].expand(8, -1),) * 2)) == pytest.approx(0.0, abs=1e-5)
    assert float(model.predictive_gain((pair[0], pair[0]))) > 0.1
