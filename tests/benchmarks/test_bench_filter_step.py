"""The benchmarks of one filter step and of threads."""

from __future__ import annotations

import json
import sys

import filter_step
import pytest
import threads
from typer.testing import CliRunner

from kalmanssl.errors import InputError


def test_rows_have_the_time_of_a_step(tmp_path):
    done = CliRunner().invoke(filter_step.app, ["--steps", "20", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert len(rows) == 4 * len(filter_step.SIZES)
    assert all(0 < row["cpu_median_us"] < 1e5 for row in rows)
    assert {row["goal_us"] for row in rows if row["states"] <= 8} == {50.0}
    assert "│ 64" in done.output


def test_commands_run_with_the_wanted_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    show = "import os, sys; sys.exit(0 if os.environ.get('OMP_NUM_THREADS') == sys.argv[1] else 'wrong')"
    # In place of the package, a program that ends with an error unless it has this number of threads.
    run = threads.subprocess.run
    monkeypatch.setattr(
        threads.subprocess, "run", lambda command, **given: run([sys.executable, "-c", show, command[-1]], **given)
    )
    row = threads._measure("fit", ("1",), "1", 1)
    assert (row["threads"], row["neighbors"], row["command"]) == ("1", 1, "fit")
    assert 0 < row["cpu_s"] < 10
    with pytest.raises(InputError, match="kalmanssl fit failed: wrong"):
        threads._measure("fit", ("7",), "default", 1)
