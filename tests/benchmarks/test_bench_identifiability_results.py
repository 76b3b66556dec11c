"""The identifiability suite: stored results, tables, the command, models of the user, agreement of seeds."""

import json

import numpy as np
import pytest
from identifiability.__main__ import app
from identifiability.experiments import EXPERIMENTS
from identifiability.jobs import open_results, settings_of
from identifiability.page import write_identifiability_page
from identifiability.seeds import ITUNA_MISSING, agreement, from_text, ituna_agreement, to_text
from identifiability.tables import assumption_table, measure_table, table
from results_store import extends
from suite import RESULTS
from typer.testing import CliRunner


def row(seed=0, **more):
    return {"experiment": "square", "setting": "kNN", "seed": seed, "fit_s": 1.0} | more


SCORES = {"r2_true_from_learned": 0.98, "r2_learned_from_true": 0.97}


def test_results_are_resumed_and_other_folders_are_refused(tmp_path):
    first = open_results(tmp_path / "out", {"preset": "quick"}, {})
    first.add(row(**SCORES, extra=float("nan")))
    first.add(row(1, failed="it diverged"))
    again = open_results(tmp_path / "out", {"preset": "quick"}, {})
    assert not again.is_pending("square", "kNN", 0)
    assert again.is_pending("square", "kNN", 1)
    assert again.rows["square", "kNN", 0]["extra"] is None
    with pytest.raises(ValueError, match="other settings"):
        open_results(tmp_path / "out", {"preset": "full"}, {})
    (tmp_path / "out" / "results.json").write_text("{")
    with pytest.raises(ValueError, match="not a file of results"):
        open_results(tmp_path / "out", {"preset": "quick"}, {})
    assert (tmp_path / "out" / "results.json").read_text() == "{"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(ValueError, match="other files"):
        open_results(tmp_path / "other", {"preset": "quick"}, {})


def test_results_of_earlier_experiments_are_kept_when_one_is_added(tmp_path):
    earlier = {"preset": "quick", "experiments": {"square": {"steps": 3}}}
    open_results(tmp_path / "out", earlier, {}).add(row(**SCORES))
    added = {"preset": "quick", "experiments": {"square": {"steps": 3}, "lorenz": {"steps": 4}}}
    results = open_results(tmp_path / "out", added, {})
    assert not results.is_pending("square", "kNN", 0)
    results.write()
    for changed in (earlier, {"preset": "quick", "experiments": {"square": {"steps": 9}, "lorenz": {"steps": 4}}}):
        with pytest.raises(ValueError, match="other settings"):
            open_results(tmp_path / "out", changed, {})


def test_table_compares_scores_with_goals_and_published_ones(tmp_path):
    results = open_results(tmp_path / "out", {"preset": "quick"}, {})
    for seed, score in enumerate((0.96, 0.98)):
        results.add(row(seed, setting="stop-gradient", **SCORES | {"r2_true_from_learned": score}))
    results.add(row(setting="kNN", **SCORES | {"r2_true_from_learned": 0.9}, curve=[[0, 0.1], [9, 0.9]]))
    results.add(row(setting="PCA", failed="<no> luck"))
    lines = {line[1]: line for line in table(results, [EXPERIMENTS["square"]])}
    assert lines["stop-gradient"][2:5] == ("0.970 ± 0.014", "0.967", "reaches 0.97, as published")
    assert lines["kNN"][2:5] == ("0.900", "", "below 0.97")
    assert lines["PCA"][4] == "failed: <no> luck"
    write_identifiability_page(results, [EXPERIMENTS["square"]], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "&lt;no&gt; luck" in page
    assert "Assumptions of the theorem" in page
    assert "data:image/png" in page


def test_tables_of_further_measures_and_assumptions(tmp_path):
    results = open_results(tmp_path / "out", {"preset": "quick"}, {})
    z = np.random.default_rng(0).standard_normal((200, 2))
    for seed, mixing in enumerate((np.eye(2), np.array([[0.0, -2.0], [1.0, 0.3]]))):
        recovery = {
            "r2_true_from_learned": 0.9,
            "mlp_gain": 0.01,
            "predictor_r2_same_map": 0.8,
            "calibration": {"coverage": {"95": 0.94}},
            "frequencies": {"error": [0.1 * (seed + 1), float("nan")]},
        }
        verdicts = {"gaussian": {"verdict": "doubtful", "value": 0.03}}
        more = {"recovery": recovery, "assumptions": verdicts, "common": to_text(z @ mixing)}
        results.add(row(seed, **SCORES, **more))
    head, line = measure_table(results, [EXPERIMENTS["square"]])
    texts = dict(zip(head, line, strict=True))
    assert texts["encoder alone"] == "0.900 ± 0.000"
    assert texts["frequency error"] == "0.150 ± 0.071"
    assert texts["inside 95 %"] == "0.940 ± 0.000"
    assert texts["seeds agree"] == "1.000"
    assert assumption_table(results, [EXPERIMENTS["square"]])[1] == ("square", "kNN", "? 0.03")


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_stored_results_belong_to_the_present_settings(preset):
    stored = json.loads((RESULTS / "identifiability" / preset / "results.json").read_text())
    assert extends(json.loads(json.dumps(settings_of(preset, EXPERIMENTS.values()))), stored["settings"])
    names = {(e.name, s.name) for e in EXPERIMENTS.values() for s in e.settings}
    assert {(row["experiment"], row["setting"]) for row in stored["results"]} <= names


# --- the command -----------------------------------------------------------------------------------------------------


def command(*arguments):
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


def test_command_runs_resumes_and_accepts_a_model_of_the_user(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(MODEL.format("videos[..., :2]"))
    options = ("--experiments", "square", "--out", str(tmp_path / "out"))
    first = command(*options, "--settings", "PCA")
    assert first.exit_code == 0, first.output
    before = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {r["setting"] for r in before["results"]} == {"PCA", "PCA + Kalman"}
    second = command(*options, "--settings", "PCA", "--settings", "make", "--model", f"{mine}:make")
    assert second.exit_code == 0, second.output
    after = json.loads((tmp_path / "out" / "results.json").read_text())
    assert after["results"][:2] == before["results"]  # not run again: even the times are the same
    assert after["results"][2]["setting"] == "make"
    assert {"r2_true_from_learned", "r2_learned_from_true", "seed"} <= set(after["results"][2])
    assert (tmp_path / "out" / "page.html").exists()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("videos[0]", "transform must return latents of shape"),
        ("videos[:, ::2, :2]", "transform must return latents of shape"),
        ("np.where(videos > 0, np.nan, 1.0)", "NaN"),
        ("np.full((*videos.shape[:2], 2), 'a')", "real numbers"),
    ],
)
def test_command_refuses_models_that_return_no_latents(tmp_path, returned, message):
    mine = tmp_path / "mine.py"
    mine.write_text(MODEL.format(returned))
    options = ("--experiments", "square", "--settings", "make", "--out", str(tmp_path / "out"))
    result = command(*options, "--model", f"{mine}:make")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_command_refuses_unknown_experiments_models_and_settings(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1")
    out = ("--out", str(tmp_path / "out"))
    assert "square" in command("--experiments", "circle", *out).stderr
    mine = f"{tmp_path / 'mine.py'}:make"
    for where, message in (("none.py:make", "FILE.py:FUNCTION"), (mine, "no function 'make'")):
        result = command("--experiments", "square", "--model", where, *out)
        assert result.exit_code == 2
        assert message in result.stderr
    assert command("--settings", "nothing such", *out).exit_code == 2


def test_stored_latents_are_those_that_were_stored():
    latents = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    np.testing.assert_array_equal(from_text(json.loads(json.dumps(to_text(latents)))), latents)


@pytest.mark.skipif(bool(ITUNA_MISSING), reason=ITUNA_MISSING or "ituna is installed")
def test_agreement_of_seeds_is_that_of_ituna():
    rng = np.random.default_rng(0)
    true = rng.standard_normal((400, 3))
    same = [true @ rng.standard_normal((3, 3)) + i + 0.3 * rng.standard_normal((400, 3)) for i in range(3)]
    assert ituna_agreement(same) == pytest.approx(agreement(same), abs=1e-6)
    assert ituna_agreement([*same[:2], rng.standard_normal((400, 3))]) < agreement(same) - 0.2
