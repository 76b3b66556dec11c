"""What kalmanssl fit and info print: phases, and every problem once."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from cli_commands import SMALL, UNTIL, invoke

from kalmanssl.data import Recording
from kalmanssl.runs._fit import _collected_warnings

FIRST = ["reading", "encoder and dynamics"]
DECODING = ["held-out fit (first 60 % of the time)", "held-out fit (first 80 % of the time)", "decoder and calibration"]


@pytest.mark.parametrize("decodes", [True, False])
def test_a_fit_that_is_piped_prints_its_phases_and_no_bar(recording, tmp_path, decodes):
    more = () if decodes else ("--behavior", "none")
    result = invoke("fit", recording, "--out", tmp_path / "run", "--until", UNTIL, *SMALL, "--epochs", 1, *more)
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    expected = [*FIRST, *(DECODING if decodes else []), "evaluation"]
    phases = [line for line in lines if line.startswith("phase ")]
    assert phases == [f"phase {number} of {len(expected)}: {name}" for number, name in enumerate(expected, start=1)]
    scores = [line for line in lines if "held-out gain" in line]
    assert [line.split(":")[0] for line in scores] == [FIRST[1], *(DECODING[:2] if decodes else [])]
    assert all(" nats per bin" in line for line in scores)  # as the gain in the report
    assert "━" not in result.stderr
    assert "scores of the time that the model was fitted on" not in result.stderr
    assert "segments are short" not in result.stderr  # a window of whole steps may be a little shorter


def test_every_problem_of_a_short_recording_is_printed_once(recording, tmp_path):
    part = ("--from", 3600, "--to", 3630)
    result = invoke("fit", recording, "--out", tmp_path / "run", *part, *SMALL, "--epochs", 1)
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert text.count("independent errors, and a level of") + text.count("are not calibrated:") == 1
    assert "note: calibrated on" not in text
    assert "note: too few bins" not in text
    assert text.count("hold out the end of the recording: --until 3621") == 1
    assert text.count("24 excitatory of 26, by column cell_type") == 1  # in the table


class TrainedError(Exception):
    """Raised where the training would begin."""


def stop_at_training(monkeypatch):
    def train(*args, **kwargs):
        raise TrainedError

    monkeypatch.setattr("kalmanssl.training._loop._Loop.run", train)


def test_info_and_fit_say_that_a_position_jumps_back_after_each_lap(recording, tmp_path, monkeypatch):
    whole = Recording.from_nwb(recording, units="all")
    belt = replace(whole, behavior={"position": 20 * whole.time % 180.0}, behavior_unit={"position": "cm"})
    belt.to_nwb(tmp_path / "belt.nwb")
    laps = int((np.diff(belt.behavior["position"]) < 0).sum())
    assert laps >= 3
    info = " ".join(invoke("info", tmp_path / "belt.nwb").stdout.split())
    assert f"jumps from one end to the other {laps} times, as after laps" in info
    assert "as after laps" not in invoke("info", recording).stdout
    stop_at_training(monkeypatch)
    text = " ".join(invoke("fit", tmp_path / "belt.nwb", "--out", tmp_path / "run", *SMALL).stderr.split())
    assert f"position jumps from one end to the other {laps} times" in text
    assert re.search(r"--period with the length of a lap, about 1(79|80)", text)
    for period in (180, 0):
        result = invoke("fit", tmp_path / "belt.nwb", "--out", tmp_path / "run", *SMALL, "--period", period)
        assert isinstance(result.exception, TrainedError)
        assert "jumps from one end to the other" not in result.stderr.split("phase 1 of")[1]


def test_info_and_fit_say_before_the_fit_which_period_an_angle_has(recording, tmp_path, monkeypatch):
    whole = Recording.from_nwb(recording, units="all")
    heading = (0.7 * whole.time + 0.3 * np.sin(whole.time)) % (2 * np.pi)
    turning = replace(whole, behavior={"heading": heading}, behavior_unit={"heading": "rad"})
    turning.to_nwb(tmp_path / "turning.nwb")
    info = invoke("info", tmp_path / "turning.nwb")
    assert "heading covers a whole circle: fit uses the period 6.28319 (360°)" in " ".join(info.stdout.split())
    objects = json.loads(invoke("info", tmp_path / "turning.nwb", "--json").stdout)["objects"]
    assert [o["period"] for o in objects if o["role"] == "behavior"] == [pytest.approx(2 * np.pi)]
    assert "whole circle" not in invoke("info", recording).stdout

    stop_at_training(monkeypatch)
    result = invoke("fit", tmp_path / "turning.nwb", "--out", tmp_path / "run", *SMALL)
    assert isinstance(result.exception, TrainedError)
    text = " ".join(result.stderr.split())
    assert (
        text.count("heading covers a whole circle, so it is decoded as an angle with the period 6.28319 (360°);") == 1
    )
    for period in (6.283185307, 0):
        result = invoke("fit", tmp_path / "turning.nwb", "--out", tmp_path / "run", *SMALL, "--period", period)
        assert isinstance(result.exception, TrainedError)
        assert "whole circle" not in result.stderr


def test_warnings_are_collected_once_and_those_for_developers_not_at_all():
    collected: list[Warning] = []
    with _collected_warnings(collected):
        for category in (UserWarning, RuntimeWarning, UserWarning, FutureWarning, DeprecationWarning):
            warnings.warn(f"a {category.__name__}", category, stacklevel=1)
    assert [str(message) for message in collected] == ["a UserWarning", "a RuntimeWarning"]
