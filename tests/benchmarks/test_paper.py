"""The suite of the paper: verdicts, items and their figures in the preset `tiny`, resumption, stored rows."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from identifiability.matcher import Plan
from identifiability.networks import KalmanNetwork
from images.combinations import COMBINATIONS
from matplotlib.figure import Figure
from paper import cosine_variants, exact_prediction
from paper.__main__ import app
from paper.category_runs import PureInformation, category_measures
from paper.digit_runs import jacobian_measures
from paper.ica_runs import photographs, processes
from paper.item import MET, MISSED, NO_NUMBER, Item, Part, Target, judge, values_of
from paper.items import ITEMS
from paper.items.mi import PAIRS, paired_differences
from paper.jobs import chosen_items, jobs_of, open_results, parts_of, rows_of, work
from paper.networks import PlainStart, PublishedNoise
from paper.numeric_checks import fold_checks
from paper.page import write_paper_page
from paper.stored import stored_part, stored_rows
from paper.tables import item_table, overview
from refusals import assert_refused
from torch import nn
from typer.testing import CliRunner

from kalmanssl.datasets import Images
from kalmanssl.distributions import GaussianConditional
from kalmanssl.errors import CollapseError
from kalmanssl.models import LDM
from kalmanssl.recipes import categorical

# --- verdicts --------------------------------------------------------------------------------------------------------

SCORE = Target("a score", "part", "r2", 0.9)


@pytest.mark.parametrize(
    ("values", "changes", "verdict"),
    [
        ([0.95], {}, MET),
        ([0.895], {}, MET),  # within the tolerance
        ([0.85], {}, MISSED),
        ([0.87, 0.90, 0.88], {}, MET),  # within twice the standard deviation
        ([0.84, 0.90, 0.87], {}, MISSED),  # by more than twice the tolerance
        ([0.99, 0.00, 0.98], {}, MISSED),  # a fit that fails is no excuse
        ([0.84, 0.86, 0.85], {}, MISSED),
        ([0.95], {"kind": "equal"}, MISSED),
        ([0.905], {"kind": "equal"}, MET),
        ([0.95], {"kind": "at most"}, MISSED),
        ([0.5], {"kind": "at most"}, MET),
        ([0.5], {"published": (0.4, 0.6)}, MET),
        ([0.7], {"published": (0.4, 0.6)}, MET),
        ([0.7], {"published": (0.4, 0.6), "kind": "equal"}, MISSED),
        ([0.3], {"published": (0.4, 0.6), "tolerance": 0.2}, MET),
        ([0.1], {"published": None}, NO_NUMBER),
        ([0.1], {"published": None, "goal": 0.5}, f"{NO_NUMBER}; goal 0.5 not met"),
        ([0.6], {"published": None, "goal": 0.5}, f"{NO_NUMBER}; goal 0.5 met"),
    ],
)
def test_a_verdict_allows_for_the_spread_over_seeds_and_the_tolerance(values, changes, verdict):
    assert judge(values, replace(SCORE, **changes)) == verdict


def made_up(values, baseline=(0.2,)):
    """An item with made-up rows, and its results."""

    def run(preset, seed, logger):
        return {"r2": values[seed]}

    part, other = Part("part", run), Part("other", lambda preset, seed, logger: {"r2": baseline[seed]}, seeds=1)
    target = replace(SCORE, baseline=("other", "r2"), source="plot", why="a made-up reason")
    return Item(
        "made-up", "Fig. 0", "Made up", "something", (part, other), (target,), lambda rows: [Figure()], "nothing"
    )


def results_with(item, folder, monkeypatch, seeds):
    monkeypatch.setitem(ITEMS, item.name, item)
    results = open_results(folder, "tiny", {})
    for job in jobs_of([item], "tiny", results, seeds):
        results.add(work(job, lambda row: None))
    return results


def test_a_table_has_ours_beside_the_published_number_and_the_baseline(tmp_path, monkeypatch):
    item = made_up((0.92, 0.94))
    results = results_with(item, tmp_path, monkeypatch, 2)
    _, line = item_table(item, results)
    assert line[:5] == ("a score", "0.930 ± 0.014", "2", "0.9 (at least, ± 0.01)", "plot")
    assert line[5:] == ("other: 0.200", "met", "a made-up reason")
    assert overview([item], results)[1][2:5] == ("1", "0", "0")


def test_a_score_below_its_baseline_is_marked(tmp_path, monkeypatch):
    item = made_up((0.92,), (0.95,))
    results = results_with(item, tmp_path, monkeypatch, 1)
    assert item_table(item, results)[1][6] == "met; not better than the baseline"


def test_failed_runs_are_listed_and_run_again(tmp_path, monkeypatch):
    item = made_up(())  # no value for the first seed
    results = results_with(item, tmp_path, monkeypatch, 1)
    assert item_table(item, results)[-1][-1].startswith("IndexError")
    assert [job.part for job in jobs_of([item], "tiny", results)] == ["part"]


def test_a_collapse_is_a_result_and_not_part_of_the_mean(tmp_path, monkeypatch):
    def run(preset, seed, logger):
        if seed == 1:
            raise CollapseError("the latents collapsed")
        return {"r2": 0.95}

    item = replace(made_up((0.92,)), parts=(Part("part", run),))
    results = results_with(item, tmp_path, monkeypatch, 3)
    _, line, last = item_table(item, results)
    assert line[1:3] == ("0.950 ± 0.000", "2, 1 collapsed")
    assert last == ("part, seed 1", "", "", "", "", "", "collapsed", "the latents collapsed")
    assert jobs_of([item], "tiny", results, 3) == []


def test_a_run_with_other_settings_is_made_again(tmp_path, monkeypatch):
    item = made_up((0.92,))
    results = results_with(item, tmp_path, monkeypatch, 1)
    assert jobs_of([item], "tiny", results) == []
    changed = replace(item, parts=(replace(item.parts[0], settings={"tiny": {"steps": 3}}), item.parts[1]))
    assert [job.part for job in jobs_of([changed], "tiny", results)] == ["part"]


def test_the_first_seed_comes_first_and_long_runs_last(tmp_path):
    quick, slow = (Part(name, lambda preset, seed, logger: {}, long=name == "slow") for name in ("quick", "slow"))
    item = replace(made_up(()), parts=(slow, quick))
    order = [(job.part, job.seed) for job in jobs_of([item], "tiny", open_results(tmp_path, "tiny", {}), 2)]
    assert order == [("quick", 0), ("quick", 1), ("slow", 0), ("slow", 1)]


def test_seeds_of_expensive_parts_are_limited_except_in_full():
    part = Part("a", lambda preset, seed, logger: {}, seeds=1)
    assert [part.n_seeds(preset) for preset in ("tiny", "quick", "full")] == [1, 1, 5]
    assert replace(part, source="stored rows").n_seeds("full") == 1
    assert replace(part, source="stored rows", settings={"full": {}}).n_seeds("full") == 5  # run anew in full
    assert replace(part, seeds=None).n_seeds("quick") == 3
    assert replace(part, seeds=None).n_seeds("quick", 2) == 2


# --- all items in the preset tiny ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The results of all items, without the two measures of other suites that take longest."""
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        for module in (cosine_variants, exact_prediction):
            patch.setattr(module, "REPEATS", 1)
        patch.setattr("kalmanssl.identifiability._recovery.mlp_gain", lambda *arguments, **others: 0.0)
        patch.setattr("identifiability.run.assumption_row", lambda fitted: {})
        done = CliRunner().invoke(app, ["--preset", "tiny", "--out", str(folder), "--quiet"])
    assert done.exit_code == 0, done.output
    return open_results(folder, "tiny", {})


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS.keys())
def test_every_figure_of_an_item_is_there_and_finite(tiny, item):
    rows = rows_of(item, tiny)
    assert rows.keys() == {part.name for part in item.parts}
    missing = [t.label for t in item.targets if not values_of(rows, t.part, t.figure)]
    # In a training of a few steps the latents can be too coarse for the slopes from which folds are computed.
    assert [label for label in missing if "folds" not in label] == []
    for target in item.targets:
        assert np.isfinite(values_of(rows, target.part, target.figure)).all(), target.label
        assert target.baseline is None or target.baseline[0] in rows, target.label
        assert (target.published is None) == (target.source == ""), target.label
        assert target.published is not None or target.why, target.label
    assert item.shown
    assert len(item_table(item, tiny)) > len(missing)


def test_the_page_is_self_contained_and_has_every_item_with_its_command(tiny):
    page = tiny.path.with_name("page.html").read_text()
    for item in ITEMS.values():
        assert item.title in page
        assert f"kalmanssl bench paper --preset tiny --only {item.name}" in page
        section = page[page.index(f"<h2>{item.figure}: ") :].split("</section>")[0]
        assert "<img" in section
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert len(page) < 3_000_000


def test_items_without_rows_are_left_out_of_the_page(tmp_path, tiny):
    results = open_results(tmp_path, "tiny", {})
    results.add(tiny.good("known maps")[0])
    write_paper_page([ITEMS["theorems"], ITEMS["fig5"]], results, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert ITEMS["theorems"].title in page
    assert ITEMS["fig5"].title not in page


def test_parts_have_unique_names():
    for name, part in parts_of(ITEMS.values()).items():
        assert all(other is part for item in ITEMS.values() for other in item.parts if other.name == name), name


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_stopped_run_is_continued(tmp_path):
    arguments = ["--preset", "tiny", "--only", "fig2", "--out", str(tmp_path), "--quiet"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    path = tmp_path / "results.json"
    content = json.loads(path.read_text())
    kept, lost = content["results"]
    kept["cpu_s"] = 1234.5
    path.write_text(json.dumps(content | {"results": [kept]}))
    assert CliRunner().invoke(app, arguments).exit_code == 0
    rows = json.loads(path.read_text())["results"]
    assert [row["part"] for row in rows] == [kept["part"], lost["part"]]
    assert rows[0]["cpu_s"] == 1234.5
    assert {key: value for key, value in rows[1].items() if key != "cpu_s"} == {
        key: value for key, value in lost.items() if key != "cpu_s"
    }
    assert (tmp_path / "page.html").is_file()


def test_an_unknown_item_ends_the_command_with_the_names_of_all(tmp_path):
    done = CliRunner().invoke(app, ["--only", "fig99", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "--only fig99: there is no such item; choose from fig2, table2" in done.stderr
    assert not (tmp_path / "results.json").exists()
    assert_refused(lambda: chosen_items(["Fig5"]), "--only Fig5.*fig5")


def test_items_are_listed():
    done = CliRunner().invoke(app, ["--items"])
    assert done.exit_code == 0
    assert all(name in done.output for name in ITEMS)


def test_results_of_another_preset_are_refused(tmp_path):
    open_results(tmp_path, "tiny", {}).write()
    assert_refused(lambda: open_results(tmp_path, "quick", {}), "preset 'tiny'")


# --- measures --------------------------------------------------------------------------------------------------------


def test_jacobian_of_a_linear_network():
    matrix = torch.diag(torch.tensor([3.0, 2.0, 0.0, 0.0]))[:, :3]  # 4 latents from 3 pixels, rank 2
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 4, bias=False))
    network[1].weight.data = matrix
    found = jacobian_measures(network, torch.randn(5, 1, 1, 3))
    assert found["rank"] == 2
    assert found["log_det"] == pytest.approx(float(torch.logdet(matrix @ matrix.T + 1e-6 * torch.eye(4))), rel=1e-4)
    assert found["singular"] == pytest.approx([3.0, 2.0, 1e-12])


def test_folding_entropy_of_known_maps():
    row = fold_checks("quick", 0, None)
    assert row["identity_error"] == pytest.approx(0.0, abs=0.03)
    assert row["injective"] == pytest.approx(0.0, abs=0.05)
    assert row["two_to_one"] == pytest.approx(math.log(2), abs=0.05)
    assert 0 < row["fold_formula"] < math.log(2)


def test_independent_components_are_found_and_mixed_signals_are_not():
    row = processes("tiny", 0, None)
    assert row["correlation"] > 0.99 > 0.9 > row["correlation_mixed"]
    assert row["rotation_error"] < 0.05
    row = photographs("tiny", 0, None)
    assert max(row["correlation"], row["correlation_mixed"]) <= 1


def test_mutual_information_alone_is_that_of_the_categories():
    recipe = categorical(3)
    model = recipe.build(nn.Identity(), 3)
    pure = PureInformation(nn.Identity(), nn.Identity(), model.latent_model, LDM(recipe.entropy, False))
    certain = 50.0 * torch.eye(3).repeat(4, 1)
    assert float(-pure.terms((certain, certain)).loss) == pytest.approx(math.log(3), abs=1e-4)
    other = certain[torch.tensor([0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2])]  # each category meets all three alike
    shuffled = torch.cat([certain[:9], certain[:0]]), other[:9]
    assert float(-pure.terms(shuffled).loss) == pytest.approx(0.0, abs=1e-4)


def test_measures_of_three_classes_of_which_two_share_a_category():
    labels = np.repeat([0, 1, 2], 4)
    images = Images(np.zeros((12, 1, 4, 4), np.uint8), labels, ("a", "b", "c"))
    found = category_measures(np.eye(3)[[0, 1, 1]][labels], images, [[0.0, 2 / 3]])
    assert found["accuracy"] == found["optimal_accuracy"] == pytest.approx(2 / 3)
    assert found["used"] == 2
    assert found["effective"] == pytest.approx(3 / 2 ** (2 / 3))  # frequencies 1/3 and 2/3
    assert found["mean_bits"] == pytest.approx(0.0)
    assert category_measures(np.eye(3)[labels], images, [])["effective"] == pytest.approx(3.0)


def test_cosine_of_the_published_code_is_that_of_our_estimator_where_nothing_is_clipped():
    z = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mine = cosine_variants.KNNEntropy(clip_quantile=0.9)(z)
    (expected,) = torch.autograd.grad(mine, z)
    (found,) = torch.autograd.grad(cosine_variants._hard_clipped(z), z)
    assert float(torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0)) > 0.95


def test_exact_prediction_of_a_linear_encoder():
    encoder = nn.Linear(6, 2)
    weight, rng = encoder.weight.detach().double(), np.random.default_rng(0)
    clean, variance = rng.normal(size=(2, 50, 6)), np.full((2, 50), 0.3)
    found = exact_prediction._exact(SimpleNamespace(encoder=encoder), clean, variance, rng)
    latent = encoder(torch.from_numpy(clean.astype(np.float32))).detach()
    expected = GaussianConditional(latent, (0.3 * weight @ weight.T).float().expand(2, 50, 2, 2))
    assert torch.allclose(found.cov.mean((0, 1)), expected.cov[0, 0], rtol=0.1, atol=0.01)
    error = exact_prediction._error(found, expected)
    assert error == pytest.approx(1 / exact_prediction.N_DRAWS, rel=0.5)  # of a mean of that many frames
    moved = GaussianConditional(expected.mean + torch.linalg.cholesky(expected.cov)[..., 0], expected.cov)
    assert exact_prediction._error(moved, expected) == pytest.approx(0.5, rel=1e-4)  # one of two dimensions


def test_entropy_of_a_mixture_of_equal_parts_is_that_of_one_part():
    parts = GaussianConditional(torch.ones(2, 5, 3), 2.0 * torch.eye(3).expand(2, 5, 3, 3))
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    one = GaussianConditional(torch.ones(3), 2.0 * torch.eye(3)).log_prob(z).mean() + math.log(10)
    assert float(exact_prediction._mixture_entropy(z, parts)) == pytest.approx(float(-one), rel=1e-5)


def test_models_with_the_published_start():
    plan, videos = Plan(10, 4, 1e-3), np.random.default_rng(0).normal(size=(8, 20, 6)).astype(np.float32)
    scaled, plain = (make("knn")(2, plan, 0).initial_model(videos) for make in (KalmanNetwork, PlainStart))
    x = torch.from_numpy(videos)
    assert float(scaled.encoder(x).detach().std()) == pytest.approx(1.0, abs=0.05)
    assert float(plain.encoder(x).detach().std()) < 0.9
    published = PublishedNoise("knn", state=3)(2, plan, 0).initial_model(videos).predictor
    published.observation_noise.log_variance.data += 1.0  # one scale for both
    assert torch.allclose(published.observation_noise(), torch.full((2,), math.e**2))
    assert torch.allclose(published.process_noise(), torch.full((3,), math.e**2))
    assert not published.initial_mean.requires_grad
    names = [name for name, _ in published.named_parameters()]
    assert len(names) == len(set(names))


def test_stored_rows_are_read_and_missing_ones_say_what_to_run():
    name = "sphere KDE"
    part = stored_part(
        "some", "images/digits", "a command", lambda row: {"top1": row["linear_probe"]}, 3,
        part="combinations", combination=name,
    )  # fmt: skip
    rows = stored_rows("images/digits", part="combinations", combination=name)
    assert [part.run("quick", row["seed"], None)["top1"] for row in rows] == [row["linear_probe"] for row in rows]
    assert_refused(lambda: part.run("quick", 99, None), "seed 99.*a command")
    assert_refused(lambda: stored_rows("images/nowhere"), "does not exist")


def test_differences_of_mutual_information_are_those_of_the_stored_pairs():
    rows = {
        row["combination"]: row["linear_probe"] for row in stored_rows("images/digits", part="combinations", seed=1)
    }
    pairs = [(n, o.partner) for n, o in COMBINATIONS.items() if o.partner and not o.make().mutual_information]
    expected = [rows[second] - rows[first] for first, second in pairs]
    found = paired_differences("images/digits", 1)
    assert found == {
        "difference": pytest.approx(np.mean(expected)),
        "better": np.mean(np.array(expected) > 0),
        "pairs": len(pairs),
    }
    assert len(PAIRS) == 6
