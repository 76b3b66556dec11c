"""The command `decoding command-line`."""

import json

import pytest
from decoding.__main__ import app
from decoding.command_line import _options
from decoding.recordings import RECORDINGS
from typer.testing import CliRunner


def test_both_commands_run_and_a_finished_run_is_not_repeated(tmp_path):
    arguments = ["command-line", "--quick", "--recording", "track", "--recording", "arm", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    track, arm = json.loads((tmp_path / "results.json").read_text())["results"]
    fit = "kalmanssl fit data/simulated_track.nwb --out simulated_track_position --until 3744 --end-zones 0.1 1.5"
    assert track["fit"]["line"].startswith(fit)
    assert track["evaluate"]["line"] == (
        "kalmanssl evaluate simulated_track_position data/simulated_track.nwb --after 3744 --json"
    )
    for row in (track, arm):
        assert row["fit"]["cpu_s"] > 1
        assert row["scores"]["fitted"] is False
        assert row["scores"]["all"]["bins"] > row["scores"]["running"]["bins"] > 100
        assert str(tmp_path) not in json.dumps(row)
    table = result.stdout.splitlines()
    assert table[1].startswith("| --- |")
    assert table[2].startswith("| simulated track, position | cm |")
    assert f"{100 * track['scores']['all']['median_error']:.3g}" in table[2]
    assert len({line.count("|") for line in table[:4]}) == 1
    again = CliRunner().invoke(app, arguments)
    assert again.stdout == result.stdout
    assert "CPU s; all bins" not in again.stderr


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hc-11", ["--end-zones", "-0.15", "1.1"]),
        ("head direction", ["--period", "6.28319"]),
        ("center-out", ["--behavior", "cursor_position"]),
        ("calcium 2", []),
    ],
)
def test_recordings_need_few_options(name, options):
    assert _options(RECORDINGS[name], RECORDINGS[name].targets[0]) == options


def test_a_command_that_fails_is_stored_with_its_message(tmp_path):
    (tmp_path / "data" / "hc11").mkdir(parents=True)
    (tmp_path / "data" / "hc11" / "achilles_maze.nwb").write_text("not a recording")
    arguments = [
        "command-line",
        "--data",
        str(tmp_path / "data"),
        "--recording",
        "hc-11",
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert row["failed"].startswith("error: data/hc11/achilles_maze.nwb")
    assert "error: data/hc11" in result.stdout


def test_unknown_recordings_are_refused(tmp_path):
    result = CliRunner().invoke(app, ["command-line", "--quick", "--recording", "hc-12", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "no recording is left" in result.output
