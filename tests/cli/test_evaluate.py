"""kalmanssl evaluate: its output, and damaged runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_commands import UNTIL, fails, invoke

from kalmanssl.runs import Run


def test_json_output_is_a_single_object(run, recording):
    code = "import sys; from kalmanssl.cli import main; main()"
    command = [sys.executable, "-c", code, "evaluate", str(run), str(recording), "--after", str(UNTIL), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    stored = json.loads((run / "metadata.json").read_text())["scores"]
    for part in ("running", "all"):
        assert result[part]["median_error"] == pytest.approx(stored[part]["median_error"], rel=1e-3)
        assert set(result[part]["coverage"]) == {"50", "80", "95"}
    assert (result["behavior"], result["unit"], result["fitted"]) == ("position", "m", False)
    checked = json.loads((run / "evaluation/metadata.json").read_text())["assumptions"]
    assert result["assumptions"]["verdict"] == checked["verdict"]
    verdicts = {row["name"]: row["verdict"] for row in result["assumptions"]["assumptions"]}
    assert verdicts == {row["name"]: row["verdict"] for row in checked["assumptions"]}
    assert {"gaussian", "coverage", "injective"} <= set(verdicts)


def test_evaluate_uses_the_held_out_part_by_default(run, recording):
    def start(*more):
        result = invoke("evaluate", run, recording, "--json", *more)
        return json.loads(result.stdout), result.stderr

    held_out, messages = start()
    assert held_out["start_s"] == pytest.approx(UNTIL)
    assert "note: evaluated on the held-out part" in messages
    fitted, messages = start("--after", 3700)
    assert (fitted["start_s"], fitted["fitted"]) == (pytest.approx(3700.0), True)
    assert "note: the model was fitted on this part" in messages


def test_smoothing_changes_the_scores(run, recording):
    filtered, smoothed = (
        json.loads(invoke("evaluate", run, recording, "--json", *more).stdout) for more in ((), ("--smooth",))
    )
    assert (filtered["smoothed"], smoothed["smoothed"]) == (False, True)
    assert smoothed["running"]["mean_error"] != filtered["running"]["mean_error"]


def test_evaluate_prints_a_table_of_scores_and_a_line_on_the_assumptions(run, recording):
    text = invoke("evaluate", run, recording).stdout
    for word in ("moving bins", "all bins", "median error (cm)", "bins at rest", "CRPS", "95 %"):
        assert word in text
    rows = Run.load(run).evaluation.assumptions["assumptions"]
    count = [sum(row["verdict"] == verdict for row in rows) for verdict in ("holds", "doubtful", "fails")]
    last = text.splitlines()[-1]
    assert last.startswith("assumptions of identifiability: {} hold, {} doubtful, {} fail".format(*count))


def test_a_part_too_short_for_the_assumption_checks_is_scored(run, recording):
    after = ("--after", 3896)
    result = json.loads(invoke("evaluate", run, recording, "--json", *after).stdout)
    assert result["all"]["bins"] > 100
    assert result["assumptions"]["verdict"] is None
    assert "200 steps are needed for 4 latents" in result["assumptions"]["reason"]
    assert "assumptions of identifiability not checked: " in invoke("evaluate", run, recording, *after).stdout


def test_alarms_and_trust_are_printed_and_in_the_json(run, recording):
    after = ("--after", 3898)
    result = json.loads(invoke("evaluate", run, recording, "--json", *after).stdout)
    alarms, trust = result["alarms"], result["all"]["trust"]
    assert (
        sum(group["bins"] for group in trust["groups"] if group["label"] in ("trusted", "not trusted"))
        == (result["all"]["bins"])
    )
    assert "never_runs" in [alarm["name"] for alarm in alarms]
    text = invoke("evaluate", run, recording, *after).stdout
    assert f"{100 * trust['untrusted']:.1f} % of the bins are not trusted" in text
    assert [f"alarm: {alarm['message']}" in text for alarm in alarms] == [True] * len(alarms)


def keys_of(value):
    """Return the keys of all objects in a JSON value, except those that name data or settings of a check."""
    if isinstance(value, list):
        return set().union(*map(keys_of, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    below = [keys_of(one) for key, one in value.items() if key not in ("reasons", "numbers", "threshold")]
    return set(value).union(*below)


def test_every_key_of_the_json_is_on_its_page_of_the_documentation(run, recording):
    result = json.loads(invoke("evaluate", run, recording, "--json").stdout)
    page = (Path(__file__).parents[2] / "docs" / "pages" / "json.md").read_text(encoding="utf-8")
    explained = {part for name in re.findall(r"`([^`\n]+)`", page) for part in name.split(".")}
    assert keys_of(result) - explained == {"position"}  # the behavior, under `conditional`
    assert explained >= {"accuracy", "set_size", "confusion", "other_label_bins"}  # of labels
    assert "held_out_gain" in result
    help_text = " ".join(invoke("evaluate", "--help").output.split())
    assert "docs/pages/json.md" in help_text
    assert "all.trust.untrusted" in help_text


@pytest.mark.parametrize(
    ("name", "how", "expected_message"),
    [
        ("", "remove", "no run at"),
        ("metadata.json", "remove", "metadata.json is missing"),
        ("metadata.json", "cut", "metadata.json is damaged"),
        ("model", "remove", "no saved model"),
        ("model/metadata.json", "cut", "metadata.json is damaged"),
        ("model/weights.safetensors", "remove", "weights.safetensors is missing"),
        ("model/weights.safetensors", "cut", "checksum"),
        ("decoder", "remove", "no saved decoder"),
        ("decoder/weights.safetensors", "cut", "checksum"),
        ("evaluation/metadata.json", "remove", "metadata.json is missing"),
    ],
)
def test_error_names_the_damaged_run_and_file(copy, recording, name, how, expected_message):
    target = copy / name
    if how == "cut":
        target.write_bytes(target.read_bytes()[:-20])
    elif target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    message = fails("evaluate", copy, recording)
    assert expected_message in message
    assert str(copy) in message


def test_run_with_incomplete_metadata_is_reported_as_damaged(copy, recording):
    metadata = json.loads((copy / "metadata.json").read_text())
    del metadata["behavior"]
    (copy / "metadata.json").write_text(json.dumps(metadata))
    assert "damaged" in fails("evaluate", copy, recording)
