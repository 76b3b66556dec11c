"""The command `decoding online`."""

import json

from decoding.__main__ import app
from suite import RESULTS
from typer.testing import CliRunner


def test_bins_are_timed_for_latents_alone_on_a_line_and_in_two_dimensions(tmp_path):
    result = CliRunner().invoke(app, ["online", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [(row["behavior"], row["cells"]) for row in rows] == [("none", 0), ("line", 96), ("plane", 1600)]
    for row in rows:
        for clock in ("wall", "cpu"):
            assert 0 < row[f"{clock}_median_us"] <= row[f"{clock}_p99_us"] <= row[f"{clock}_p99_9_us"]


def test_stored_times_are_within_the_goals():
    stored = json.loads((RESULTS / "decoding_online" / "results.json").read_text())
    assert stored["settings"] == {"bins": 100_000, "quick": False, "units": 120, "states": 64}
    (line,) = [row for row in stored["results"] if row["behavior"] == "line"]
    assert line["wall_median_us"] <= line["goal_median_us"] == 300
    assert line["wall_p99_9_us"] <= line["goal_p99_9_us"] == 2000
