from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from nwb_sessions import START, STOP, session, spikes_of, tracked


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data: $KALMANSSL_DATA, or shared/data beside the repository."""
    named = os.environ.get("KALMANSSL_DATA")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: no folder {root}; set KALMANSSL_DATA to where the recordings are")
    return root


@pytest.fixture(scope="session")
def hc11_path(data_dir: Path) -> Path:
    """Real recording of rat Achilles on the linear track, from hc-11."""
    path = data_dir / "hc11" / "achilles_maze.nwb"
    if not path.is_file():
        pytest.skip(f"REAL DATA NOT TESTED: no file {path}; set KALMANSSL_DATA to where the recordings are")
    return path


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain session: four units, one position, three epochs."""
    return session(
        tmp_path_factory.mktemp("nwb") / "plain.nwb",
        spikes_of(),
        cell_type=["excitatory", "inhibitory", "excitatory", "excitatory"],
        columns={"location": ["lCA1", "lCA1", "rCA1", "rCA1"], "shank_id": [1, 2, 3, 4]},
        position=[tracked()],
        epochs=[(START - 10, START + 20, "PREEpoch"), (START + 30, STOP, "MazeEpoch"), (STOP, STOP + 10, "POSTEpoch")],
    )


@pytest.fixture
def interruptible():
    """Ctrl-C works, also where a shell in the background has switched it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
