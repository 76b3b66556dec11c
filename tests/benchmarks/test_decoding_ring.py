"""The command `decoding ring`."""

import json

from decoding.__main__ import app
from decoding.ring import BINS, CONFIGURATIONS
from typer.testing import CliRunner


def test_quick_run_scores_every_configuration_and_the_default_finds_the_ring(tmp_path):
    result = CliRunner().invoke(app, ["ring", "--quick", "--seeds", "1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [(row["name"], row["fitted_on"]) for row in rows] == [
        (name, bins) for name in CONFIGURATIONS for bins in BINS
    ]
    for row in rows:
        assert row["fit_cpu_s"] > 0
        assert 0 < row["spectral_radius"] <= 1.021
        assert "no_ring" in row or row["n_laps"] > 3
    (default,) = (row for row in rows if (row["name"], row["fitted_on"]) == ("default", "running"))
    assert default["one_turn_laps"] > 0.8
    assert default["phase_r2"] > 0.8
    assert 0.5 < default["period"] / default["lap_time"] < 2
