"""The command `decoding online`."""

import json

from decoding.__main__ import app
from typer.testing import CliRunner


def test_bins_are_timed_for_latents_alone_on_a_line_and_in_two_dimensions(tmp_path):
    result = CliRunner().invoke(app, ["online", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [(row["behavior"], row["cells"]) for row in rows] == [("none", 0), ("line", 96), ("plane", 1600)]
    for row in rows:
        for clock in ("wall", "cpu"):
            assert 0 < row[f"{clock}_median_us"] <= row[f"{clock}_p99_us"] <= row[f"{clock}_p99_9_us"]
