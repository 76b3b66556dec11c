"""The command `hc11 decoding` with its quick preset on a simulated recording."""

import json
import shutil

import hc11.methods
import numpy as np
import pytest
from hc11.__main__ import app
from hc11.methods import FULL, all_jobs
from hc11.recording import score
from hc11.report import scaled_width
from suite import RESULTS
from typer.testing import CliRunner

from kalmanssl import PositionDecoder
from kalmanssl.decoding import score_decoding

# A few minutes of recording have too few blocks of time to calibrate a level of 95 %, and the decoder warns.
pytestmark = pytest.mark.filterwarnings("ignore:calibrated on .* blocks of time:UserWarning")

FAST = ["--preset", "quick", "--seeds", "1", "--quiet"]


def run(*arguments):
    return CliRunner().invoke(app, ["decoding", *(str(a) for a in arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "run"
    result = run("--out", out, *FAST, "--only", "kalmanssl", "--only", "Bayes")
    assert result.exit_code == 0, result.output
    return out


def test_rows_have_scores_and_costs_of_every_method(folder):
    result = json.loads((folder / "results.json").read_text())
    rows = {row["method"]: row for row in result["results"]}
    assert {"kalmanssl, filter", "kalmanssl, smoother", "place-field Bayes, 250 ms"} <= set(rows)
    for row in rows.values():
        assert set(row["coverage"]) == set(row["width"]) == {"50", "80", "95"}
        assert row["width"]["50"] <= row["width"]["80"] <= row["width"]["95"]
        assert 0 < row["median"] < 100
        assert row["crps"] < row["mean"]
        assert row["fit_cpu_s"] > 0
        assert row["minute_wall_s"] > 0
        assert row["peak_memory_mb"] > 50
    assert rows["kalmanssl, filter"]["seed"] == 0
    assert rows["place-field Bayes, 250 ms"]["seed"] is None
    ours = rows["kalmanssl, filter"]
    assert ours["width_at_our_coverage"] == pytest.approx(ours["width"]["95"], rel=0.1)
    assert result["machine"]["torch"]
    assert result["recording"]["test"]["running"] > 100
    assert (folder / "decoding.png").stat().st_size > 10_000


def stored(folder):
    return {row["method"]: row for row in json.loads((folder / "results.json").read_text())["results"]}


def test_finished_rows_are_not_run_again(folder):
    before = stored(folder)
    assert run("--out", folder, *FAST, "--only", "Bayes").exit_code == 0
    assert stored(folder) == before


def test_overwriting_one_method_keeps_the_others(folder, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    before = stored(again)
    assert run("--out", again, *FAST, "--only", "single bins", "--overwrite").exit_code == 0
    after = stored(again)
    assert list(after) == list(before)
    changed = [name for name in after if after[name]["fit_cpu_s"] != before[name]["fit_cpu_s"]]
    assert changed == ["place-field Bayes, single bins"]


def test_rows_without_saved_predictions_count_as_finished_but_cannot_be_drawn(folder, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    shutil.rmtree(again / "predictions")
    (again / "decoding.png").unlink()
    result = run("--out", again, *FAST, "--only", "Bayes")
    assert result.exit_code == 0
    assert "no figure" in result.stderr
    assert stored(again) == stored(folder)
    assert not (again / "decoding.png").exists()


def test_stored_results_are_of_the_methods_of_the_full_preset():
    names = {name for job in all_jobs(FULL) for name in job.rows}
    rows = json.loads((RESULTS / "hc11" / "results.json").read_text())["results"]
    assert {row["method"] for row in rows} == names
    seeds = [row["seed"] for row in rows if row["method"] == "kalmanssl, filter"]
    assert seeds == [0, 1, 2]


def test_cebra_is_skipped_with_a_message_if_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(hc11.methods, "find_spec", lambda name: None)
    result = run("--out", tmp_path / "run", *FAST, "--only", "CEBRA", "--only", "single bins")
    assert result.exit_code == 0, result.output
    assert "pip install 'kalmanssl[benchmarks]'" in result.stderr
    skipped = json.loads((tmp_path / "run" / "results.json").read_text())["skipped"]
    assert "CEBRA-Time + kNN" in skipped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "full"], "--preset full needs --data"),
        (["--preset", "quick", "--only", "nothing"], "no method has this in its name"),
        (["--preset", "quick", "--end-zones", "-9", "9"], "set --end-zones"),
    ],
)
def test_invalid_options_end_with_one_line_and_code_two(tmp_path, arguments, message):
    result = run("--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_folders_with_other_files_or_settings_are_refused(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = run("--out", tmp_path, *FAST, "--overwrite", "--only", "Bayes")
    assert result.exit_code == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"
    result = run("--out", folder, *FAST, "--bin-size", "0.05")
    assert result.exit_code == 2
    assert "other settings" in result.stderr


def test_scores_equal_those_of_the_library():
    rng = np.random.default_rng(0)
    position = np.cumsum(rng.normal(size=1200)) / 20
    latents = np.stack([position, rng.normal(size=1200)], axis=1) + 0.3 * rng.normal(size=(1200, 2))
    decoded = (
        PositionDecoder(regressor="linear", random_state=0).fit(latents[:800], position[:800]).predict(latents[800:])
    )
    mask = rng.random(400) < 0.7
    found = score(decoded, position[800:], mask)
    expected = score_decoding(decoded, position[800:], mask)
    for key, name in (("median", "median_error"), ("mean", "mean_error"), ("crps", "crps")):
        assert found[key] == pytest.approx(100 * expected[name], rel=1e-5)
    assert found["r2"] == pytest.approx(expected["r2"], abs=0.02)
    for level in ("50", "80", "95"):
        assert found["coverage"][level] == pytest.approx(expected["coverage"][level], abs=0.01)
        assert found["width"][level] == pytest.approx(100 * expected["width"][level], rel=1e-5)


def test_width_is_scaled_to_the_given_coverage():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20_000)
    point = np.zeros_like(truth)
    narrow = scaled_width(point - 0.5, point, point + 0.5, truth, 0.95)
    assert narrow == pytest.approx(2 * 1.96, rel=0.03)
    assert np.isinf(scaled_width(point, point, point, truth, 0.95))
