"""The benchmarks of one filter step and of threads."""

from __future__ import annotations

import json
import sys

import filter_step
import pytest
import threads
from typer.testing import CliRunner

from kalmanssl.data import Recording
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


def test_commands_are_measured_with_all_threads_and_neighbors_and_the_fit_ends_within_the_recording(
    tmp_path, monkeypatch
):
    measured = []

    def measure(command, arguments, threads, neighbors):
        if command == "fit":
            until = float(arguments[arguments.index("--until") + 1])
            time = Recording.from_nwb(arguments[1]).time
            assert time[0] < until < time[-1]
        measured.append((threads, neighbors, command))
        return {
            "threads": threads,
            "neighbors": neighbors,
            "command": command,
            "cpu_s": 1.0,
            "wall_s": 1.0,
            "load": 0.0,
        }

    monkeypatch.setattr(threads, "_measure", measure)
    done = CliRunner().invoke(threads.app, ["--quick", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    commands = ("fit", "decode", "evaluate", "report", "bench identifiability")
    assert measured == [(t, n, command) for t in ("default", "1") for n in (0, 4) for command in commands]
