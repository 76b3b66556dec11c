"""The command `decoding noise`."""

import json

import pytest
from decoding.__main__ import app
from suite import RESULTS
from typer.testing import CliRunner

pytestmark = pytest.mark.filterwarnings("ignore:calibrated on .* blocks of time:UserWarning")


def test_all_models_are_judged_and_a_finished_run_is_not_repeated(tmp_path):
    arguments = ["noise", "--quick", "--seeds", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [(row["data"], row["noise"]) for row in rows] == [
        (data, noise)
        for data in ("ring with a common gain", "simulated ring")
        for noise in ("one stage", "constant", "activity")
    ]
    for one_stage, constant, activity in (rows[:3], rows[3:]):
        for row in (constant, activity):
            assert row["gain"] == pytest.approx(row["log_likelihood"] - one_stage["log_likelihood"])
            assert row["gain_error"] > 0
        assert activity["gain_over_constant"] == pytest.approx(activity["gain"] - constant["gain"])
        assert all(len(row["nis_by_decile"]) == 10 for row in (one_stage, constant, activity))
    assert rows[0]["noise_correlation"] == 0
    assert rows[2]["noise_correlation"] > 0.3
    assert "scores" not in rows[2]
    assert set(rows[3]["scores"]["simulated ring, angle"]) == {"filter", "smoother"}
    assert set(rows[5]["scores"]["simulated ring, angle"]) == {"filter", "smoother"}
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0
    assert "nats per bin" not in again.output


def test_unknown_recordings_are_refused(tmp_path):
    result = CliRunner().invoke(app, ["noise", "--recording", "hc-12", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "did you mean 'hc-11'" in result.output


def test_stored_results_are_of_three_seeds():
    rows = json.loads((RESULTS / "decoding" / "noise" / "results.json").read_text())["results"]
    assert {row["seed"] for row in rows} == {0, 1, 2}
    gains = [row["gain"] for row in rows if row["noise"] == "activity" and row["data"] == "ring with a common gain"]
    assert len(gains) == 3
    assert min(gains) > 0
