from __future__ import annotations

from pathlib import Path

import pytest
from nwb_damage import write_bands, write_potential, write_session, write_traces


@pytest.fixture(scope="session")
def valid_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("valid")


@pytest.fixture(scope="session")
def session_file(valid_folder: Path) -> Path:
    """A session with three units, a position, another series, epochs and trials."""
    return write_session(valid_folder / "session.nwb")


@pytest.fixture(scope="session")
def traces_file(valid_folder: Path) -> Path:
    """Calcium traces of four cells, and a position."""
    return write_traces(valid_folder / "traces.nwb")


@pytest.fixture(scope="session")
def potential_file(valid_folder: Path) -> Path:
    """A field potential of two channels, and a position."""
    return write_potential(valid_folder / "potential.nwb")


@pytest.fixture(scope="session")
def bands_file(valid_folder: Path) -> Path:
    """Stored band power of two channels in two bands."""
    return write_bands(valid_folder / "bands.nwb")
