"""The identifiability suite: baselines on systems they can solve, ours, results on disk, models of somebody else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def turning():
    """Videos that are linear in two latents which turn, with noise, and those latents."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 6.28, (60, 1)) + 0.3 * np.arange(50)
    true = np.stack([np.cos(angle), np.sin(angle)], -1)
    videos = 2.0 * true @ rng.normal(size=(2, 30)) + 0.7 * rng.normal(size=(60, 50, 30))
    return videos.astype(np.float32), true


def r2(model, videos, true):
    from kalmanssl.identifiability import affine_r2

    model.fit(videos[:40])
    found = model.transform(videos)
    assert found.shape == (60, 50, 2)
    return affine_r2(found[:40], true[:40], found[40:], true[40:])


# --- models ----------------------------------------------------------------------------------------------------------


def test_linear_baselines_find_linear_latents_and_a_filter_does_better(turning):
    from identifiability.baselines import PCA, KalmanPCA, SlowFeatures

    plain, slow, filtered = (r2(make(2), *turning) for make in (PCA, SlowFeatures, KalmanPCA))
    assert plain > 0.95
    assert slow > 0.95
    assert filtered > plain + 0.3 * (1 - plain)


def test_kalman_pca_estimates_the_transition(turning):
    from identifiability.baselines import KalmanPCA

    A = KalmanPCA(2).fit(turning[0]).parameters["A"]
    assert np.abs(np.angle(np.linalg.eigvals(A))) == pytest.approx([0.3, 0.3], abs=0.01)
    assert np.abs(np.linalg.eigvals(A)) == pytest.approx([1.0, 1.0], abs=0.02)


def test_slow_features_ignore_what_is_large_and_fast():
    from identifiability.baselines import PCA, SlowFeatures

    rng = np.random.default_rng(1)
    slow = np.cumsum(rng.normal(size=(60, 50, 2)), axis=1)
    videos = np.concatenate([slow / slow.std(), 5 * rng.normal(size=(60, 50, 4))], -1) @ rng.normal(size=(6, 30))
    assert r2(SlowFeatures(2), videos, slow) > 0.9
    assert r2(PCA(2), videos, slow) < 0.5


@pytest.mark.parametrize("name", ["CPC", "JEPA", "VICReg"])
def test_trained_baselines_find_more_than_their_random_weights(turning, name):
    from identifiability.baselines import BASELINES
    from identifiability.runner import Plan

    def plan(steps):
        return Plan(steps, 8, 3e-3, dynamics=3.0)

    before, after = (r2(BASELINES[name](2, (30,), plan(n), 0), *turning) for n in (1, 100))
    assert after > before
    assert after > 0.8


def test_ours_finds_the_latents(turning):
    from identifiability.networks import KalmanNetwork
    from identifiability.runner import Plan

    plan = Plan(200, 8, 2e-3, dynamics=30.0)
    model = KalmanNetwork("knn", samples=200)(2, plan, 0)
    assert r2(model, *turning) > 0.97
    assert len(model.cosine) > 30
    assert all(-1 <= cosine <= 1 for _, cosine in model.cosine)


def test_ours_repeats_itself_with_the_seed(turning):
    from identifiability.networks import KalmanNetwork
    from identifiability.runner import Plan

    def latents(seed):
        model = KalmanNetwork("knn", samples=100)(2, Plan(5, 4, 2e-3), seed)
        return model.fit(turning[0][:20]).transform(turning[0][:2])

    assert np.array_equal(latents(0), latents(0))
    assert not np.array_equal(latents(0), latents(1))


def test_gradients_of_entropies_agree_where_both_know_only_the_scale():
    from identifiability.networks import KalmanNetwork
    from identifiability.runner import Plan, entropy_cosine

    class Gains(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x * self.gain

    # Independent latents of one variance, and a filter that predicts nothing: for both, the entropy grows alike in
    # both gains.
    videos = torch.randn(8, 100, 2, generator=torch.Generator().manual_seed(2))
    model = KalmanNetwork("knn")(2, Plan(1, 8, 1e-3), 0).begun(videos.numpy())
    model.encoder = Gains()
    with torch.no_grad():
        model.predictor.A.zero_()
    assert entropy_cosine(model, videos) > 0.98


def test_plan_rises_and_falls():
    from identifiability.runner import Plan, batches

    plan = Plan(100, 4, 1.0, warm_up=0.1, last=0.2)
    factors = [plan.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) <= 1
    assert factors[-1] == pytest.approx(0.2, abs=0.01)
    videos = np.arange(6, dtype=np.float32)[:, None, None]
    seen = torch.cat([batch.flatten() for batch in batches(videos, Plan(3, 4, 1.0), 0)])
    assert sorted(seen.tolist()) == sorted([*range(6)] * 2)  # two whole rounds


# --- experiments -----------------------------------------------------------------------------------------------------


def test_every_experiment_has_what_the_suite_promises():
    from identifiability.catalog import EXPERIMENTS
    from identifiability.experiment import PRESETS

    assert list(EXPERIMENTS) == ["square", "figure8", "noise", "wobbly", "deviations", "dimensions", "sphere"]
    for experiment in EXPERIMENTS.values():
        names = [setting.name for setting in experiment.settings]
        assert len(set(names)) == len(names)
        assert set(experiment.sizes) == set(PRESETS)
    goals = {(e.name, s.name): s.goal for e in EXPERIMENTS.values() for s in e.settings if s.goal}
    assert goals["square", "kNN"] == goals["square", "stop-gradient"] == goals["wobbly", "kNN"] == 0.97
    assert goals["figure8", "kNN"] == goals["figure8", "stop-gradient"] == 0.99
    assert goals["noise", "stop-gradient"] == 0.95
    assert goals["dimensions", "kNN, 5 dimensions"] == 0.9


@pytest.mark.parametrize(
    ("name", "setting"),
    [("noise", "kNN"), ("wobbly", "KDE"), ("dimensions", "kNN, 5 dimensions"), ("sphere", "stop-gradient")],
)
def test_experiments_run(name, setting):
    from identifiability.catalog import EXPERIMENTS
    from identifiability.experiment import run

    experiment = EXPERIMENTS[name]
    row = run(experiment, experiment.setting(setting), "tiny", 0)
    assert row["r2_true_from_learned"] <= 1
    assert row[experiment.score] <= 1
    assert len(row["curve"]) >= 10
    assert ("noise_correlation" in row) == (name == "noise")
    assert ("map" in row) == (name == "wobbly")
    assert ("coverage" in (row["recovery"]["calibration"] or ())) == (name != "sphere")
    assert (row["recovery"]["frequencies"] is not None) == (name == "noise")
    assert bool(row["assumptions"]) == (name != "sphere")
    json.dumps(row)


def test_a_filter_that_knows_the_system_bounds_what_is_found():
    from identifiability.catalog import EXPERIMENTS
    from identifiability.experiment import run

    row = run(EXPERIMENTS["noise"], EXPERIMENTS["noise"].setting("exact filter, knows the system"), "tiny", 1)
    assert 0.965 < row["r2_true_from_learned"] < 0.985  # Bayes' rule with the true noise levels reaches 0.976


def test_plans_are_chosen_by_videos_that_are_not_tested():
    from identifiability.catalog import EXPERIMENTS
    from identifiability.experiment import run

    row = run(EXPERIMENTS["square"], EXPERIMENTS["square"].setting("PCA"), "tiny", 0)
    assert row["validation"] != row["r2_true_from_learned"]
    assert abs(row["validation"] - row["r2_true_from_learned"]) < 0.05


def test_true_latents_score_one_and_folded_ones_less():
    from identifiability.catalog import EXPERIMENTS
    from identifiability.experiment import Setting, run

    class Cheat:
        """Knows the positions, since the pixels of this test are noiseless and linear enough to look up."""

        def __init__(self, fold):
            self.fold = fold

        def fit(self, videos):
            pass

        def transform(self, videos):
            rows, columns = (np.arange(100) // 10, np.arange(100) % 10)
            weight = videos / videos.sum(-1, keepdims=True)
            found = np.stack([weight @ rows, weight @ columns], -1) - 5.0
            return np.abs(found) if self.fold else found

    rows = [
        run(EXPERIMENTS["square"], Setting("x", lambda *_, f=fold: Cheat(f), {"noise_variance": 0.0}), "tiny", 0)
        for fold in (False, True)
    ]
    assert rows[0]["r2_true_from_learned"] > 0.99
    assert rows[0]["r2_learned_from_true"] > 0.99
    assert rows[1]["r2_true_from_learned"] < 0.5


# --- results ---------------------------------------------------------------------------------------------------------


def row(seed=0, **more):
    return {"experiment": "square", "setting": "kNN", "seed": seed, "fit_s": 1.0} | more


SCORES = {"r2_true_from_learned": 0.98, "r2_learned_from_true": 0.97}


def test_results_are_kept_resumed_and_never_mixed(tmp_path):
    from identifiability.settings import open_results

    first = open_results(tmp_path / "out", {"preset": "quick"}, {})
    first.add(row(**SCORES, extra=float("nan")))
    first.add(row(1, failed="it diverged"))
    again = open_results(tmp_path / "out", {"preset": "quick"}, {})
    assert not again.lacks("square", "kNN", 0)
    assert again.lacks("square", "kNN", 1)
    assert again.rows["square", "kNN", 0]["extra"] is None
    with pytest.raises(ValueError, match="other settings"):
        open_results(tmp_path / "out", {"preset": "full"}, {})
    (tmp_path / "out" / "results.json").write_text("{")
    with pytest.raises(ValueError, match="no file of results"):
        open_results(tmp_path / "out", {"preset": "quick"}, {})
    assert (tmp_path / "out" / "results.json").read_text() == "{"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(ValueError, match="other files"):
        open_results(tmp_path / "other", {"preset": "quick"}, {})


def test_table_says_what_was_reached(tmp_path):
    from identifiability.catalog import EXPERIMENTS
    from identifiability.figures import write_page
    from identifiability.settings import open_results
    from identifiability.tables import table

    results = open_results(tmp_path / "out", {"preset": "quick"}, {})
    for seed, found in enumerate((0.96, 0.98)):
        results.add(row(seed, setting="stop-gradient", **SCORES | {"r2_true_from_learned": found}))
    results.add(row(setting="kNN", **SCORES | {"r2_true_from_learned": 0.9}, curve=[[0, 0.1], [9, 0.9]]))
    results.add(row(setting="PCA", failed="<no> luck"))
    lines = {line[1]: line for line in table(results, [EXPERIMENTS["square"]])}
    assert lines["stop-gradient"][2:5] == ("0.970 ± 0.014", "0.967", "reaches 0.97, as published")
    assert lines["kNN"][2:5] == ("0.900", "", "below 0.97")
    assert lines["PCA"][4] == "failed: <no> luck"
    write_page(results, [EXPERIMENTS["square"]], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "&lt;no&gt; luck" in page
    assert "Which assumptions hold" in page
    assert "data:image/png" in page


def test_tables_say_what_else_was_measured(tmp_path):
    from identifiability.catalog import EXPERIMENTS
    from identifiability.settings import open_results
    from identifiability.tables import assumptions, measured

    results = open_results(tmp_path / "out", {"preset": "quick"}, {})
    z = np.random.default_rng(0).standard_normal((200, 2))
    for seed, turn in enumerate((np.eye(2), np.array([[0.0, -2.0], [1.0, 0.3]]))):
        recovery = {
            "r2_true_from_learned": 0.9,
            "mlp_gain": 0.01,
            "predictor_r2_same_map": 0.8,
            "calibration": {"coverage": {"95": 0.94}},
            "frequencies": {"error": [0.1 * (seed + 1), float("nan")]},
        }
        found = {"gaussian": {"verdict": "doubtful", "value": 0.03}}
        more = {"recovery": recovery, "assumptions": found, "common": (z @ turn).tolist()}
        results.add(row(seed, **SCORES, **more))
    head, line = measured(results, [EXPERIMENTS["square"]])
    said = dict(zip(head, line, strict=True))
    assert said["encoder alone"] == "0.900 ± 0.000"
    assert said["frequency error"] == "0.150 ± 0.071"
    assert said["inside 95 %"] == "0.940 ± 0.000"
    assert said["seeds agree"] == "1.000"
    assert assumptions(results, [EXPERIMENTS["square"]])[1] == ("square", "kNN", "? 0.03")


# --- the command -----------------------------------------------------------------------------------------------------


def command(*arguments):
    import importlib

    app = importlib.import_module("identifiability.__main__").app
    return CliRunner().invoke(app, [*arguments, "--preset", "tiny", "--workers", "1", "--quiet"])


MODEL = """
import numpy as np

class Mine:
    def fit(self, videos):
        pass
    def transform(self, videos):
        return {}

def make(dims, seed):
    return Mine()
"""


def test_command_runs_resumes_and_takes_a_model_of_the_user(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(MODEL.format("videos[..., :2]"))
    asked = ("--experiments", "square", "--out", str(tmp_path / "out"))
    first = command(*asked, "--settings", "PCA")
    assert first.exit_code == 0, first.output
    before = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {r["setting"] for r in before["results"]} == {"PCA", "PCA + Kalman"}
    second = command(*asked, "--settings", "PCA", "--settings", "make", "--model", f"{mine}:make")
    assert second.exit_code == 0, second.output
    after = json.loads((tmp_path / "out" / "results.json").read_text())
    assert after["results"][:2] == before["results"]  # not run again: not even the times have changed
    assert after["results"][2]["setting"] == "make"
    assert {"r2_true_from_learned", "r2_learned_from_true", "seed"} <= set(after["results"][2])
    assert (tmp_path / "out" / "page.html").exists()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("videos[0]", "transform must return latents of shape"),
        ("videos[:, ::2, :2]", "transform must return latents of shape"),
        ("np.where(videos > 0, np.nan, 1.0)", "NaN"),
        ("np.full((*videos.shape[:2], 2), 'a')", "real numbers"),
    ],
)
def test_command_refuses_what_are_no_latents(tmp_path, returned, said):
    mine = tmp_path / "mine.py"
    mine.write_text(MODEL.format(returned))
    asked = ("--experiments", "square", "--settings", "make", "--out", str(tmp_path / "out"))
    found = command(*asked, "--model", f"{mine}:make")
    assert found.exit_code == 2
    assert said in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_command_explains_what_it_cannot_do(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1")
    out = ("--out", str(tmp_path / "out"))
    assert "square" in command("--experiments", "circle", *out).stderr
    for where, said in (("none.py:make", "FILE.py:FUNCTION"), (f"{tmp_path / 'mine.py'}:make", "no function 'make'")):
        found = command("--experiments", "square", "--model", where, *out)
        assert found.exit_code == 2
        assert said in found.stderr
    assert command("--settings", "nothing such", *out).exit_code == 2
