"""The images suite: combinations and presets, one run, cosines, categories, stored results, tables, the command."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from images import baselines, categories, data, experiment
from images.__main__ import app
from images.combinations import COMBINATIONS
from images.cosines import EntropyCosines
from images.jobs import open_results, settings_of
from images.page import write_images_page
from images.presets import PRESETS
from images.tables import difference_lines, differences, table, verdict
from images.timing import plain_nt_xent, plain_vicreg
from suite import RESULTS
from torch import nn
from typer.testing import CliRunner

from kalmanssl.datasets import Images
from kalmanssl.entropy import VonMisesFisherKDEEntropy
from kalmanssl.recipes import make_recipe, sphere_kde

# --- combinations and presets ----------------------------------------------------------------------------------------


def test_thirteen_published_combinations_and_their_partners():
    published = {name: one.published for name, one in COMBINATIONS.items() if one.published}
    assert len(published) == 13
    assert published["VICReg-LDM"] == 0.9206
    assert published["sphere KDE + MI"] == 0.9138
    assert {"BYOL", "SimSiam", "SimCLR"} < COMBINATIONS.keys()
    for one in COMBINATIONS.values():
        if one.partner:
            other = COMBINATIONS[one.partner]
            assert other.partner == one.name
            mine, theirs = one.make(dim=8), other.make(dim=8)
            assert mine.mutual_information != theirs.mutual_information
            assert type(mine.entropy) is type(theirs.entropy)


def test_every_preset_builds_every_recipe():
    for preset in PRESETS.values():
        for one in COMBINATIONS.values():
            recipe = preset.recipe(one)
            assert recipe.dim == preset.adapted.get(one.name, {}).get("dim", preset.dims[one.space])
            assert preset.training(recipe).weight_decay == preset.weight_decay or preset.weight_decay is None
    simsiam = PRESETS["cifar"].recipe(COMBINATIONS["SimSiam"])
    assert (simsiam.dim, simsiam.hidden) == (2048, (2048, 2048))
    assert PRESETS["cifar"].training(simsiam).weight_decay == 1e-5
    assert PRESETS["digits"].recipe(COMBINATIONS["SimSiam"]).dim == 64
    assert PRESETS["cifar"].recipe(COMBINATIONS["VICReg"]).hidden == (2048, 2048)
    assert PRESETS["digits"].recipe(COMBINATIONS["VICReg"]).hidden == (256, 256)


# --- one run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_row(tmp_path_factory):
    out = tmp_path_factory.mktemp("images")
    return experiment.run(COMBINATIONS["sphere KDE"], PRESETS["tiny"], 0, out), out


def test_a_run_returns_all_measures(tiny_row):
    row, out = tiny_row
    assert 0.5 < row["linear_probe"] <= 1
    assert 0.3 < row["knn_probe"] <= 1
    assert row["validation"] != row["linear_probe"]
    assert len(row["loss"]) == 3
    assert row["loss"][-1] < row["loss"][0]
    epochs, cosines = np.transpose(row["gradient_cosine"])
    assert epochs.tolist() == [0, 1, 2, 3]
    assert 0 < cosines.max() <= 1
    assert np.ptp(cosines) > 1e-3  # a different value at every epoch
    numbers, values = np.transpose(row["spectrum"])
    assert numbers[[0, -1]].tolist() == [1, 16]
    assert (np.diff(values) <= 0).all()
    assert row["effective_dimension"] == (values > 1e-3).sum()
    assert min(row["fit_s"], row["encoder_step_s"], row["objective_step_s"]) > 0
    assert np.load(out / "features" / "sphere KDE.npz")["features"].shape == (100, 32)
    json.dumps(row)


def test_a_combination_without_a_partner_has_no_cosine(tmp_path):
    row = experiment.run(COMBINATIONS["BYOL"], replace(PRESETS["tiny"], epochs=1), 1, tmp_path)
    assert row["gradient_cosine"] is None
    assert not (tmp_path / "features").exists()


def test_scores_use_test_images_and_validation_uses_training_images_only():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    x = np.eye(4)[labels] + 0.3 * rng.normal(size=(200, 4))
    train, test = (
        Images(np.zeros((n, 1, 4, 4), np.uint8), y, tuple("abcd")) for n, y in ((150, labels[:150]), (50, labels[150:]))
    )
    wrong = replace(test, labels=(test.labels + 1) % 4)
    for name in ("linear_probe", "knn_probe"):
        assert experiment.probe_scores(x[:150], train, x[150:], test)[name] > 0.9
        assert experiment.probe_scores(x[:150], train, x[150:], wrong)[name] < 0.1
    assert experiment.validation_score(x[:150], train) > 0.9
    assert experiment.validation_score(x[:150], replace(train, labels=rng.permutation(train.labels))) < 0.6


def test_cosine_is_that_of_the_explicit_gradients():
    torch.manual_seed(0)
    backbone = nn.Linear(5, 6)
    model = sphere_kde(dim=4).build(backbone, 6, random_state=0)
    pair = torch.randn(30, 5), torch.randn(30, 5)
    cosines = EntropyCosines(model, sphere_kde(dim=4, mutual_information=True), pair, epochs=12)
    cosines.compare(0)
    z, other = (model(x) for x in pair)
    entropy = VonMisesFisherKDEEntropy(concentration=5.0, sphere_dim=4)
    weights = [*model.backbone.parameters(), *model.projector.parameters()]
    joint, single = (
        torch.cat([g.flatten() for g in torch.autograd.grad(h, weights, retain_graph=True)])
        for h in (entropy(torch.cat([z, other], 1)), entropy(z) + entropy(other))
    )
    expected = float(torch.cosine_similarity(joint, single, dim=0))
    assert cosines.found == [[0, pytest.approx(expected, abs=1e-3)]]
    for epoch in range(1, 13):
        cosines.compare(epoch)
    assert [epoch for epoch, _ in cosines.found] == [0, 2, 4, 6, 8, 10, 12]
    assert model.objective.mutual_information is False


def test_baselines_are_better_than_chance(tmp_path):
    rows = {name: baselines.run(name, PRESETS["tiny"], 0, tmp_path) for name in baselines.BASELINES}
    assert rows["pixels"]["linear_probe"] > 0.8
    assert rows["PCA of pixels"]["linear_probe"] > 0.7
    assert rows["random weights"]["linear_probe"] > 0.4


def test_plain_losses_equal_those_of_the_recipes_up_to_a_constant():
    generator = torch.Generator().manual_seed(0)
    pair = tuple(torch.randn(20, 6, generator=generator) for _ in range(2))
    for name, plain, constant in (
        ("simclr", plain_nt_xent, -math.log(39)),
        ("vicreg", plain_vicreg, 3 * math.log(2 * math.pi * 6 / 50)),
    ):
        recipe = replace(make_recipe(name, dim=6), hidden=(), batch_norm=False)
        model = recipe.build(nn.Identity(), 6)
        model.projector = nn.Identity()
        assert model.terms(pair).loss.item() == pytest.approx(plain(*pair).item() + constant, rel=1e-4), name


# --- categories ------------------------------------------------------------------------------------------------------


def test_pairs_are_of_one_class_and_never_the_same_image():
    images = Images.digits("train").subset(5)
    numbered = torch.arange(len(images), dtype=torch.float32)
    batches = categories.pair_batches(images, numbered, PRESETS["tiny"].categories, 0)
    seen = [pair for epoch in (0, 1) for pair in batches.batches(epoch)]
    one, two = (torch.cat(side).long().numpy() for side in zip(*seen, strict=True))
    assert (images.labels[one] == images.labels[two]).all()
    assert (one != two).all()
    assert not np.array_equal(seen[0][0], seen[4][0])
    assert np.bincount(images.labels[one]).min() > 20


def test_categories_are_learned_and_matched(tmp_path):
    row = categories.run(
        "categories", replace(PRESETS["tiny"].categories, train=60, test=20, pairs=640, epochs=6), 0, tmp_path
    )
    assert 0.5 < row["accuracy"] <= row["optimal_accuracy"] <= 1
    assert np.sum(row["confusion"]) == 200
    assert np.trace(row["confusion"]) == pytest.approx(200 * row["optimal_accuracy"])
    assert 0 <= row["entropy_bits"][0] <= row["entropy_bits"][-1] <= math.log2(10) + 1e-3
    bits = row["examples"]["bits"]
    assert bits[0] == min(bits)
    assert np.shape(row["examples"]["images"])[1:] == (8, 8)
    json.dumps(row)


# --- data ------------------------------------------------------------------------------------------------------------


def test_images_are_decoded_once(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image.fromarray(np.full((4, 4, 3), 10 * i, np.uint8)).save(folder / f"{i}.png")
    out = tmp_path / "out"
    out.mkdir()
    train, test = data.load("cifar10", 2, None, out, tmp_path / "set")
    assert (len(train), len(test), train.classes) == (4, 4, ("cat", "dog"))
    monkeypatch.setattr(data, "find_images", lambda *_: pytest.fail("read again"))
    again, _ = data.load("cifar10", 2, None, out, tmp_path / "set")
    assert np.array_equal(again.images, train.images)
    assert np.array_equal(again.labels, train.labels)
    assert [one.name for one in out.iterdir()] == ["cifar10-2-all.npz"]


def test_missing_images_are_an_error_before_any_run(tmp_path, monkeypatch):
    monkeypatch.setenv("KALMANSSL_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"cifar10_jpeg.zip does not exist: .* --data"):
        data.find_images("cifar10")


# --- results and tables ----------------------------------------------------------------------------------------------


def row_of(name, seed=0, probe=0.9, **more):
    return {
        "part": "combinations",
        "combination": name,
        "seed": seed,
        "linear_probe": probe,
        "knn_probe": 0.8,
        "validation": 0.9,
        "effective_dimension": 12,
        "above_share": 9,
        "participation_ratio": 3.5,
        "spectrum": [[1, 1.0], [2, 0.0]],
        "gradient_cosine": [[0, 1.0], [3, -0.2]],
        "fit_s": 3.0,
        "encoder_step_s": 0.02,
        "objective_step_s": 0.001,
    } | more


def filled(folder, probes):
    results = open_results(folder, {"preset": "tiny"}, {})
    for (name, seed), probe in probes.items():
        results.add(row_of(name, seed, probe))
    return results


def test_results_are_resumed_and_other_folders_are_refused(tmp_path):
    out = tmp_path / "out"
    (out / "features").mkdir(parents=True)
    (out / "mnist-all-all.npz").touch()
    first = filled(out, {("sphere KDE", 0): float("nan")})
    first.add(row_of("BYOL", failed="it collapsed"))
    again = open_results(out, {"preset": "tiny"}, {})
    assert not again.is_pending("combinations", "sphere KDE", 0)
    assert again.is_pending("combinations", "BYOL", 0)
    assert again.of("combinations")[0]["linear_probe"] is None
    with pytest.raises(ValueError, match="other settings"):
        open_results(out, {"preset": "digits"}, {})
    (out / "results.json").write_text("[]")
    with pytest.raises(ValueError, match="not a file of results"):
        open_results(out, {"preset": "tiny"}, {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(ValueError, match="other files"):
        open_results(tmp_path / "other", {"preset": "tiny"}, {})


def test_effect_of_mutual_information_is_compared_with_that_of_the_seed(tmp_path):
    pairs = [("sphere KDE", 0.90), ("Euclidean kNN", 0.92), ("sphere kNN", 0.88)]
    noise = {0: -0.004, 1: 0.0, 2: 0.004}
    probes = {}
    for (name, base), gain in zip(pairs, (0.002, -0.002, 0.001), strict=True):
        for seed, by in noise.items():
            probes[name, seed] = base + by
            probes[f"{name} + MI", seed] = base + gain - by
    same = filled(tmp_path / "same", probes)
    one = next(d for d in differences(same) if d.name == "sphere KDE")
    assert one.value == pytest.approx(0.002)
    assert one.deviation == pytest.approx(0.004)
    assert one.published == pytest.approx(0.0045)
    assert "no systematic difference" in verdict(same)
    assert "No single pair" in verdict(same)
    assert len(difference_lines(same)) == 4
    better = filled(tmp_path / "better", {k: v + 0.05 * ("MI" in k[0]) for k, v in probes.items()})
    assert ": a systematic difference" in verdict(better)
    assert "better in 3" in verdict(better)
    assert "Euclidean kNN, sphere KDE, sphere kNN." in verdict(better)
    few = filled(tmp_path / "few", {k: v for k, v in probes.items() if k[0].startswith("sphere") and not k[1]})
    assert "the effect of the seed is unknown" in verdict(few)
    assert "too few pairs" in verdict(filled(tmp_path / "none", {}))


def test_page_has_tables_and_figures(tmp_path):
    results = filled(tmp_path, {("sphere KDE", 0): 0.9, ("sphere KDE", 1): 0.92, ("simplex KDE", 0): 0.8})
    results.add(row_of("BYOL", failed="<b>no</b>"))
    results.add({"part": "timing", "combination": "SimCLR", "seed": 0, "step_s": 0.002})
    images = Images.digits("test")
    for name in ("sphere KDE", "random weights"):
        experiment.save_features(tmp_path, name, images.images.reshape(len(images), -1)[:, :9], images)
    lines = {line[0]: line for line in table(results)}
    assert lines["sphere KDE"][1:4] == ("0.910 ± 0.014", "0.800 ± 0.000", "0.9093")
    assert lines["sphere KDE"][4] == "12, 9"
    assert lines["BYOL, seed 0"][1] == "<b>no</b>"
    page = tmp_path / "page.html"
    write_images_page(results, page)
    text = page.read_text()
    assert text.count("data:image/png") == 2
    assert "&lt;b&gt;no" in text
    assert "<td>2</td>" in text


@pytest.mark.parametrize("preset", ["digits", "cifar-small"])
def test_stored_results_belong_to_the_present_settings(preset):
    stored = json.loads((RESULTS / "images" / preset / "results.json").read_text())
    assert stored["settings"] == json.loads(json.dumps(settings_of(preset)))
    names = {row["combination"] for row in stored["results"] if row["part"] == "combinations"}
    assert names == set(COMBINATIONS)


# --- the command -----------------------------------------------------------------------------------------------------


def command(*arguments):
    return CliRunner().invoke(app, [*arguments, "--preset", "tiny", "--workers", "1", "--quiet"])


def test_command_runs_the_chosen_combinations_and_resumes(tmp_path):
    out = str(tmp_path / "out")
    result = command("--out", out, "--combinations", "EUCLIDEAN KDE", "--combinations", "categories + MI, match")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    names = [row["combination"] for row in found["results"]]
    assert names == [
        "Euclidean KDE",
        "Euclidean KDE + MI",
        "categories + MI, match 0.8",
        "Euclidean KDE",
        "Euclidean KDE + MI",
    ]
    assert (tmp_path / "out" / "page.html").stat().st_size > 10_000
    before = (tmp_path / "out" / "results.json").read_text()
    assert command("--out", out, "--combinations", "euclidean kde").exit_code == 0
    assert (tmp_path / "out" / "results.json").read_text() == before


def test_command_refuses_unknown_combinations(tmp_path):
    result = command("--out", str(tmp_path / "out"), "--combinations", "nonsense")
    assert result.exit_code == 2
    assert "no run has this in its name" in result.output
