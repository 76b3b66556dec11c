"""The decoding benchmark as a command: quick preset on a simulated rat."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

# A few minutes of recording have too few blocks of time for a promise of 95 %, and the decoder says so.
pytestmark = pytest.mark.filterwarnings("ignore:calibrated on .* blocks of time:UserWarning")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FAST = ["--preset", "quick", "--seeds", "1", "--quiet"]


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def run(*arguments):
    import hc11_decoding

    return CliRunner().invoke(hc11_decoding.app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        out = tmp_path_factory.mktemp("bench") / "run"
        result = run("--out", out, *FAST, "--only", "kalmanssl", "--only", "Bayes")
    assert result.exit_code == 0, result.output
    return out


def test_rows_hold_scores_and_costs_of_every_method(folder):
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


def test_what_is_done_is_not_run_again(folder):
    before = (folder / "results.jsonl").read_text()
    assert run("--out", folder, *FAST, "--only", "Bayes").exit_code == 0
    assert (folder / "results.jsonl").read_text() == before


def test_overwriting_one_method_keeps_the_others(folder, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    before = {row["method"]: row for row in map(json.loads, (again / "results.jsonl").read_text().splitlines())}
    assert run("--out", again, *FAST, "--only", "Bayes", "--overwrite").exit_code == 0
    after = {row["method"]: row for row in map(json.loads, (again / "results.jsonl").read_text().splitlines())}
    assert after.keys() == before.keys()
    assert after["kalmanssl, filter"] == before["kalmanssl, filter"]


def test_a_damaged_last_line_is_run_again(folder, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    kept = [line for line in (again / "results.jsonl").read_text().splitlines() if "single bins" not in line]
    (again / "results.jsonl").write_text("\n".join([*kept, '{"method": "place-fi']))
    result = run("--out", again, *FAST, "--only", "Bayes")
    assert result.exit_code == 0
    methods = [json.loads(line)["method"] for line in (again / "results.jsonl").read_text().splitlines()]
    assert sorted(methods) == sorted({*methods})
    assert "place-field Bayes, single bins" in methods


def test_a_missing_cebra_is_said_aloud_and_skipped(tmp_path, monkeypatch):
    import hc11_methods

    monkeypatch.setattr(hc11_methods, "find_spec", lambda name: None)
    result = run("--out", tmp_path / "run", *FAST, "--only", "CEBRA", "--only", "single bins")
    assert result.exit_code == 0, result.output
    assert "pip install 'kalmanssl[benchmarks]'" in result.stderr
    skipped = json.loads((tmp_path / "run" / "results.json").read_text())["skipped"]
    assert "CEBRA-Time + kNN" in skipped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "full"], "--preset full needs --data"),
        (["--preset", "quick", "--only", "nothing"], "no method has that in its name"),
        (["--preset", "quick", "--end-zones", "-9", "9"], "set --end-zones"),
    ],
)
def test_mistakes_end_with_one_line_and_code_two(tmp_path, arguments, message):
    result = run("--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_folder_of_something_else_or_of_other_settings_is_left_alone(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = run("--out", tmp_path, *FAST, "--overwrite", "--only", "Bayes")
    assert result.exit_code == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"
    result = run("--out", folder, *FAST, "--bin-size", "0.05")
    assert result.exit_code == 2
    assert "other settings" in result.stderr


def test_scores_are_those_of_the_library():
    import hc11_decoding

    from kalmanssl import PositionDecoder
    from kalmanssl.decoding import score_decoding

    rng = np.random.default_rng(0)
    position = np.cumsum(rng.normal(size=1200)) / 20
    latents = np.stack([position, rng.normal(size=1200)], axis=1) + 0.3 * rng.normal(size=(1200, 2))
    decoded = (
        PositionDecoder(regressor="linear", random_state=0).fit(latents[:800], position[:800]).predict(latents[800:])
    )
    mask = rng.random(400) < 0.7
    ours = hc11_decoding.score(decoded, position[800:], mask)
    theirs = score_decoding(decoded, position[800:], mask)
    for key, name in (("median", "median_error"), ("mean", "mean_error"), ("crps", "crps")):
        assert ours[key] == pytest.approx(100 * theirs[name], rel=1e-5)
    assert ours["r2"] == pytest.approx(theirs["r2"], abs=0.02)
    for level in ("50", "80", "95"):
        assert ours["coverage"][level] == pytest.approx(theirs["coverage"][level], abs=0.01)
        assert ours["width"][level] == pytest.approx(100 * theirs["width"][level], rel=1e-5)


def test_widths_are_compared_at_equal_coverage():
    from hc11_report import scaled_width

    rng = np.random.default_rng(0)
    truth = rng.normal(size=20_000)
    point = np.zeros_like(truth)
    narrow = scaled_width(point - 0.5, point, point + 0.5, truth, 0.95)
    assert narrow == pytest.approx(2 * 1.96, rel=0.03)
    assert np.isinf(scaled_width(point, point, point, truth, 0.95))
