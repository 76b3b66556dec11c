"""--linearize and --waypoints: a position in x and y is decoded as the distance along a track."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from cli_commands import SMALL, UNTIL, fails, invoke

from kalmanssl.data import Recording, Track
from kalmanssl.runs import Run

CORNER = Track.of([[0.0, 0.0], [0.9, 0.0], [0.9, 0.9]])


@pytest.fixture(scope="module")
def in_the_plane(recording, tmp_path_factory):
    """The simulated recording on a track with a corner."""
    path = tmp_path_factory.mktemp("plane") / "rat.nwb"
    whole = Recording.from_nwb(recording, units="all")
    noise = 0.01 * np.random.default_rng(0).standard_normal((len(whole), 2))
    position = CORNER.locate(whole.behavior["position"]) + noise
    replace(whole, behavior={"position": position}, behavior_unit={"position": "meters"}).to_nwb(path)
    return path


def test_the_track_of_the_fitted_part_is_kept_with_the_run(in_the_plane, recording, tmp_path):
    out = tmp_path / "run"
    args = ("--until", UNTIL, "--linearize", *SMALL, "--epochs", 1)
    result = invoke("fit", in_the_plane, "--out", out, *args)
    assert result.exit_code == 0, result.output
    assert "note: position is the distance along a track: one arm, " in result.stderr
    run = Run.load(out)
    assert run.metadata["track"]["gap"] is None
    evaluated = json.loads(invoke("evaluate", out, in_the_plane, "--json").stdout)
    assert evaluated["all"]["median_error"] == pytest.approx(run.evaluation.scores["all"]["median_error"], rel=1e-3)
    truth = Recording.from_nwb(recording).restrict(start=UNTIL).behavior["position"]
    assert run.evaluation.arrays["truth"].shape[1] == 1
    assert invoke("decode", out, in_the_plane, "--out", tmp_path / "x.csv", "--after", UNTIL).exit_code == 0
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "mean_x" not in rows[0]
    decoded = np.array([float(row["mean"]) for row in rows])
    assert -0.2 < decoded.min() < decoded.max() < truth.max() + 0.3
    assert invoke("report", out).exit_code == 0
    assert "cannot be projected to a track" in fails("evaluate", out, recording)
    metadata = json.loads((out / "metadata.json").read_text())
    metadata["track"]["arms"]["track"] = [[0, 0]]
    (out / "metadata.json").write_text(json.dumps(metadata))
    assert "track" in fails("evaluate", out, in_the_plane)


def test_way_points_of_a_loop_give_the_period(in_the_plane, tmp_path):
    square = tmp_path / "square.csv"
    square.write_text("x,y\n0,0\n0.9,0\n0.9,0.9\n0,0.9\n0,0\n")
    out = tmp_path / "run"
    args = ("--until", UNTIL, "--waypoints", square, *SMALL, "--epochs", 1)
    result = invoke("fit", in_the_plane, "--out", out, *args)
    assert result.exit_code == 0, result.output
    assert "along a track: a loop, 3.6 m long" in result.stderr
    assert Run.load(out).settings.period == pytest.approx(3.6)


@pytest.mark.parametrize(
    ("rows", "more", "expected_message"),
    [
        ("x,y\n0,0\n", (), "--waypoints"),
        ("a,b\n0,0\n", (), "must be a table with the columns x and y"),
        ("x,y\n500,500\n500,501\n", (), "farther from all positions than the track is long"),
        ("x,y\n0,0\n1,0\n", ("--period", "3"), "--period is that of the track"),
        ("x,y\n0,0\n1,0\n", ("--behavior", "none"), "--waypoints is for a behavior in x and y, and there is no"),
    ],
)
def test_bad_way_points_are_refused_on_one_line(in_the_plane, tmp_path, monkeypatch, rows, more, expected_message):
    monkeypatch.setattr("kalmanssl.training._loop._Loop.run", lambda *a, **k: pytest.fail("trained"))
    (tmp_path / "track.csv").write_text(rows)
    arguments = ("--out", tmp_path / "run", "--waypoints", tmp_path / "track.csv", *SMALL, *more)
    assert expected_message in fails("fit", in_the_plane, *arguments)
    assert not (tmp_path / "run").exists()


def test_a_behavior_of_one_dimension_is_not_linearized(recording, tmp_path):
    assert "--linearize is for a behavior in x and y" in fails(
        "fit", recording, "--out", tmp_path / "run", "--linearize", *SMALL
    )
