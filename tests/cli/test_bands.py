"""Frequency bands of a field potential on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from cli_commands import SMALL, fails, invoke
from nwb_activity import field_potential, position, write

from kalmanssl.runs import Run, RunSettings

BANDS = ("--activity", "LFP", "--band", "theta=6:10", "--band", "gamma=30:80")


@pytest.fixture(scope="module")
def lfp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three channels at 250 Hz for 80 s, and a position."""
    rng = np.random.default_rng(0)
    time = np.arange(20_000) / 250.0
    phase = 2 * np.pi * time[:, None] * [7.0, 8.0, 40.0]
    signal = (1.5 + np.sin(time[:, None] + np.arange(3))) * np.sin(phase) + 0.1 * rng.standard_normal((len(time), 3))
    return write(
        tmp_path_factory.mktemp("lfp") / "lfp.nwb",
        field_potential(signal, 250.0),
        position(np.arange(0.0, 80.0, 0.04)),
    )


def test_bands_are_saved_with_the_run_and_used_by_every_command(lfp: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = invoke("fit", lfp, "--out", out, *BANDS, "--until", 60, "--bin-size", 0.1, *SMALL, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "log power in bands, Hz: theta 6 to 10, gamma 30 to 80" in result.stderr
    assert json.loads((out / "metadata.json").read_text())["settings"]["bands"] == ["theta=6:10", "gamma=30:80"]
    assert Run.load(out).model.unit_ids_ == tuple(
        f"{unit}/{band}" for unit in (10, 11, 12) for band in ("theta", "gamma")
    )
    scores = invoke("evaluate", out, lfp, "--json")
    assert scores.exit_code == 0, scores.output
    assert json.loads(scores.stdout)["all"]["bins"] == pytest.approx(200, abs=2)
    decoded = invoke("decode", out, lfp, "--after", 60, "--out", tmp_path / "decoded.csv")
    assert decoded.exit_code == 0, decoded.output
    assert "--band=['theta=6:10'] differs" in _resume_error(lfp, tmp_path)


def _resume_error(lfp: Path, tmp_path: Path) -> str:
    """Return the error of a fit that is resumed with other bands."""
    work = tmp_path / "other.partial"
    work.mkdir()
    settings = RunSettings(recording=str(lfp), activity="LFP", bands=["theta=6:11"])
    (work / "settings.json").write_text(json.dumps(asdict(settings)))
    return fails("fit", lfp, "--out", tmp_path / "other", "--resume", "--band", "theta=6:10")


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (("theta",), "--band must be NAME=LOW:HIGH with LOW below HIGH in Hz, such as theta=6:10; got 'theta'"),
        (("theta=6-10",), "--band must be NAME=LOW:HIGH"),
        (("=6:10",), "--band must be NAME=LOW:HIGH"),
        (("theta=10:6",), "got 'theta=10:6'"),
        (("theta=0:6",), "got 'theta=0:6'"),
        (("theta=nan:6",), "got 'theta=nan:6'"),
        (("theta=6:10", "theta=6:12"), "--band has two bands of the name 'theta'"),
        (("theta=6:10", "ripple=100:200"), "within 0 and 125 Hz, half the sampling rate"),
    ],
)
def test_wrong_bands_are_rejected(lfp: Path, tmp_path: Path, bands: tuple[str, ...], message: str) -> None:
    given = [part for band in bands for part in ("--band", band)]
    result = invoke("fit", lfp, "--out", tmp_path / "run", "--activity", "LFP", *given)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_bands_without_a_field_potential_are_rejected(recording: Path, tmp_path: Path) -> None:
    result = invoke("fit", recording, "--out", tmp_path / "run", "--band", "theta=6:10")
    assert result.exit_code == 2
    assert "--band: the activity is units, which is not a field potential" in result.stderr.splitlines()[-1]
