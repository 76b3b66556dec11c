"""The command `decoding accuracy` with its quick preset on simulated recordings."""

import html
import json
import shutil

import decoding.methods
import numpy as np
import pytest
from decoding.__main__ import app
from decoding.accuracy import main
from decoding.methods import FULL, OURS, all_methods
from decoding.recordings import RECORDINGS, load, targets_of
from decoding.tables import best_baseline, representation, summary
from suite import RESULTS
from typer.testing import CliRunner

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
QUICK = ["accuracy", "--preset", "quick", "--seeds", "1", "--quiet"]
ANGLE = ["--recording", "ring", "--only", "neighbors, causal"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows_in(folder):
    return json.loads((folder / "results.json").read_text())["results"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of all methods on all simulated recordings."""
    out = tmp_path_factory.mktemp("decoding") / "quick"
    result = run(*QUICK, "--out", out, "--skip", "cebra")
    assert result.exit_code == 0, result.output
    return out


def test_quick_preset_scores_all_methods_on_a_line_a_circle_and_in_two_dimensions(folder):
    rows = rows_in(folder)
    assert not [row for row in rows if "failed" in row]
    methods = {row["target"]: {r["method"] for r in rows if r["target"] == row["target"]} for row in rows}
    assert len(methods) == 3
    installed = [m for m in all_methods(FULL) if not m.missing and m.group != "cebra"]
    assert methods["simulated track, position"] == {m.name for m in installed}
    for found in methods.values():
        assert {f"{OURS}, filter", f"{OURS}, smoother", "neighbors + movement prior, smoother"} <= found
    assert {r["fitted_on"] for r in rows if r["target"] == "simulated track, position"} == {"all", "running"}
    assert {r["fitted_on"] for r in rows if r["target"] == "simulated ring, angle"} == {"all"}


def test_every_row_has_scores_of_all_bins_of_running_bins_and_by_lag(folder):
    for row in rows_in(folder):
        for bins in ("all", "running"):
            scores = row[bins]
            assert 0 < scores["crps"] < 1.5 * scores["mean_error"]
            coverage = [scores["coverage"][level] for level in ("50", "80", "95")]
            assert 0 <= coverage[0] <= coverage[1] <= coverage[2] <= 1
            width = [scores["width"][level] for level in ("50", "80", "95")]
            assert 0 < width[0] < width[1] < width[2]
        assert row["running"]["bins"] < row["all"]["bins"]
        lags = [part["lag_s"] for part in row["lag"]]
        assert len(lags) == 3
        assert lags == sorted(lags)
        assert sum(part["bins"] for part in row["lag"]) == row["all"]["bins"]
        in_two = row["target"] == "simulated arm, position"
        assert ("area" in row["all"]) == in_two
        assert ("energy" in row["all"]) == in_two
        if in_two and row["group"] != "ours":
            assert row["all"]["crps"] < row["all"]["energy"] < 2 * row["all"]["crps"]
        assert row["fit_cpu_s"] >= 0
        assert row["decode_cpu_s"] > 0


def test_baselines_decode_the_simulated_recordings(folder):
    for row in rows_in(folder):
        if row["group"] == "baseline" and row["target"] != "simulated track, position":
            assert row["all"]["r2"] > 0.7, (row["target"], row["method"])
        if row["method"].startswith("neighbors") and row["fitted_on"] == "running":
            assert row["running"]["r2"] > 0.9


def test_page_has_the_comparison_and_a_table_of_each_target(folder):
    page = (folder / "page.html").read_text()
    assert len(page) < 100_000 * (1 + page.count("data:image/png"))  # images are small
    assert "Ours beside the best baseline" in page
    assert "Representation" in page
    for row in rows_in(folder):
        assert row["target"] in page
        assert html.escape(row["method"]).replace("&#x27;", "&#39;") in page


def test_comparison_divides_our_score_by_that_of_the_best_baseline(folder):
    rows = rows_in(folder)
    target = "simulated ring, angle"
    name, crps = best_baseline(rows, target, "all", causal=True)
    others = [r for r in rows if r["target"] == target and r["group"] != "ours" and r["look_ahead"] == "no"]
    assert crps == min(r["all"]["crps"] for r in others)
    assert name in {r["method"] for r in others}
    (ours,) = (r for r in rows if r["target"] == target and r["method"] == f"{OURS}, filter")
    (line,) = (line for line in summary(rows) if line[:2] == (target, "all"))
    assert float(line[4]) == pytest.approx(ours["all"]["crps"] / crps, abs=0.01)


def test_representation_compares_neighbors_on_latents_and_on_counts(folder):
    lines = representation(rows_in(folder))[1:]
    assert [line[:2] for line in lines[:2]] == [("simulated track, position", bins) for bins in ("all", "running")]
    for line in lines:
        assert float(line[4]) == pytest.approx(float(line[2]) / float(line[3]), rel=0.02)


def test_a_second_run_keeps_finished_rows_and_overwrite_replaces_them(folder, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    assert run(*QUICK, "--out", again, *ANGLE).exit_code == 0
    assert rows_in(again) == rows_in(folder)
    assert run(*QUICK, "--out", again, *ANGLE, "--overwrite").exit_code == 0
    changed = [old["method"] for old, new in zip(rows_in(folder), rows_in(again), strict=True) if old != new]
    assert set(changed) <= {"neighbors, causal 200 ms"}
    pairs = zip(rows_in(folder), rows_in(again), strict=True)
    assert all(old["all"] == new["all"] for old, new in pairs)


def test_a_method_that_rejects_a_recording_is_stored_as_failed_and_run_again(tmp_path, monkeypatch):
    def fails(*arguments):
        raise ValueError("too few bins\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(decoding.methods, "select_and_decode", fails)
        result = run(*QUICK, "--out", tmp_path / "run", *ANGLE)
        assert result.exit_code == 0, result.output
    (row,) = rows_in(tmp_path / "run")
    assert row["failed"] == "ValueError: too few bins"
    assert "too few bins" in (tmp_path / "run" / "page.html").read_text()
    run(*QUICK, "--out", tmp_path / "run", *ANGLE)
    (row,) = rows_in(tmp_path / "run")
    assert "failed" not in row


def test_packages_that_are_not_installed_are_skipped_with_a_message(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding.methods, "find_spec", lambda name: None)
    result = run(*QUICK, "--out", tmp_path / "run", "--only", "CEBRA", "--only", "package", *ANGLE)
    assert result.exit_code == 0, result.output
    assert "pip install 'kalmanssl[benchmarks]'" in result.stderr
    assert "pynapple" in result.stderr
    assert {row["method"] for row in rows_in(tmp_path / "run")} == {"neighbors, causal 200 ms"}


def test_cebra_decodes_a_recording_with_gaps(tmp_path):
    pytest.importorskip("cebra")
    result = run(*QUICK, "--out", tmp_path / "run", "--only", "cebra", "--recording", "ring")
    assert result.exit_code == 0, result.output
    rows = rows_in(tmp_path / "run")
    assert [row["look_ahead"] for row in rows] == ["5 bins", "yes"]
    for row in rows:
        assert "failed" not in row
        assert row["all"]["r2"] > 0.3  # after only 20 training steps
        assert row["fit_cpu_s"] + row["select_cpu_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "full"], "give the folder of the recordings with --data"),
        (["--preset", "quick", "--only", "nothing"], "no method is left"),
        (["--preset", "quick", "--recording", "nothing"], "no recording is left"),
    ],
)
def test_invalid_options_end_with_one_line_and_code_two(tmp_path, monkeypatch, arguments, message):
    monkeypatch.delenv("KALMANSSL_DATA", raising=False)
    result = run("accuracy", "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_missing_file_is_named(tmp_path):
    result = run("accuracy", "--data", tmp_path, "--out", tmp_path / "run", "--recording", "hc-11", "--quiet")
    assert result.exit_code == 2
    assert "achilles_maze.nwb" in result.stderr


def test_folders_with_other_files_or_settings_are_refused(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert run(*QUICK, "--out", tmp_path, *ANGLE).exit_code == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"
    result = run(*QUICK, "--out", folder, *ANGLE, "--threads", "2")
    assert result.exit_code == 2
    assert "other settings" in result.stderr


def test_stored_results_have_every_baseline_on_every_target():
    rows = rows_in(RESULTS / "decoding" / "full")
    found = {(row["target"], row["method"]) for row in rows if row["fitted_on"] == "all" and "failed" not in row}
    one_dimensional = {"hc-11", "head direction", *(name for name in RECORDINGS if name.startswith("calcium"))}
    for name in RECORDINGS:
        for target in targets_of(name):
            for method in all_methods(FULL):
                tuning = method.name.startswith("tuning curves")
                if method.group == "baseline" and (not tuning or name in one_dimensional):
                    assert (target.name, method.name) in found


@pytest.mark.data
@pytest.mark.parametrize("name", list(RECORDINGS))
def test_recordings_are_read_and_split(data_dir, name):
    data = load(name, data_dir)
    share = len(data.train.time) / (len(data.train.time) + len(data.test.time))
    assert 0.68 < share < 0.72
    assert data.train.time[-1] < data.test.time[0]
    assert 0.05 < data.running_train.mean() < 0.9
    for target in targets_of(name):
        behavior = data.test.behavior[target.behavior]
        assert np.isfinite(behavior).all()
        if target.period:
            assert behavior.min() >= 0
            assert behavior.max() < target.period


def test_the_command_documents_its_options():
    assert main.__doc__
    result = run("accuracy", "--help")
    assert "--recording" in result.output
