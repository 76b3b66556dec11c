from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_commands import SMALL, UNTIL, ZONES, invoke

from kalmanssl.datasets import place_cells


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated recording: 24 place cells and 2 interneurons for 300 seconds."""
    path = tmp_path_factory.mktemp("recording") / "rat.nwb"
    place_cells(n_units=24, n_interneurons=2, duration=300.0).to_nwb(path)
    return path


@pytest.fixture(scope="session")
def run(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run fitted on the first 180 seconds of `recording`; tests must not change it."""
    out = tmp_path_factory.mktemp("fitted") / "run"
    result = invoke("fit", recording, "--out", out, "--until", UNTIL, *ZONES, *SMALL, "--epochs", 2)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of `run` that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "copy"))
