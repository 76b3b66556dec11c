"""The command `decoding speed`."""

import json

from decoding.__main__ import app
from suite import RESULTS
from typer.testing import CliRunner


def test_both_passes_are_timed_on_a_line_and_in_two_dimensions(tmp_path):
    result = CliRunner().invoke(app, ["speed", "--bins", "30", "--repeats", "1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [(row["grid"], row["prior"], row["smooth"]) for row in rows] == [
        (grid, prior, smooth)
        for grid in ("line", "plane")
        for prior in ("states", "mixture")
        for smooth in (False, True)
    ]
    assert [row["cells"] for row in rows] == [100] * 4 + [2500] * 4
    assert all(row["cpu_ms"] >= 0 for row in rows)


def test_stored_times_are_within_the_goals():
    rows = json.loads((RESULTS / "decoding_speed" / "results.json").read_text())["results"]
    assert len(rows) == 8
    assert all(row["cpu_ms"] <= row["goal_ms"] for row in rows if row["goal_ms"])
