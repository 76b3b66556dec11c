"""What the suites share: errors and Ctrl-C of the commands, and jobs in several processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import typer
from parallel import run_all
from results_store import Results
from suite import RESULTS, cli_errors, matches

from kalmanssl.errors import InputError

# --- how commands end ------------------------------------------------------------------------------------------------


def test_input_errors_end_with_one_line_and_code_two(capsys):
    with pytest.raises(typer.Exit) as ended, cli_errors(Path("out")):
        raise InputError("no [such] thing: " + "long " * 40)
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "error: no [such] thing: " + "long " * 40 + "\n"


def test_ctrl_c_ends_with_one_line_and_other_errors_are_raised(capsys, interruptible):
    with pytest.raises(typer.Exit) as ended, cli_errors(Path("out")):
        os.kill(os.getpid(), signal.SIGINT)
    assert ended.value.exit_code == 130
    message = "stopped; finished rows are in out, and the same command continues from there\n"
    assert capsys.readouterr().err == message
    with pytest.raises(KeyError), cli_errors(Path("out")):
        raise KeyError("a mistake")


def test_a_part_matches_names_that_contain_it():
    assert matches(None, "sphere KDE")
    assert matches(["knn", "kde"], "euclidean", "sphere KDE")
    assert not matches(["kde"], "sphere kNN")


# --- stored rows -----------------------------------------------------------------------------------------------------


def test_rows_are_identified_by_their_key_and_replaced_when_overwritten(tmp_path):
    def opened(overwrite=False):
        return Results(tmp_path / "out", {"preset": "quick"}, {}, ("method", "size", "case"), overwrite=overwrite)

    first = opened()
    first.extra = {"notes": ["one"]}
    first.add({"method": "a", "size": [1, 2], "value": 1})
    first.add({"method": "a", "case": "hard", "value": float("inf")})
    first.add({"method": "b", "failed": "no"})
    assert json.loads(first.path.read_text())["notes"] == ["one"]
    again = opened()
    assert list(again.rows) == [("a", (1, 2), None), ("a", None, "hard"), ("b", None, None)]
    assert [row["value"] for row in again.good()] == [1, None]
    assert not again.is_pending("a", (1, 2), None)
    assert again.is_pending("b", None, None)
    assert again.is_pending("c", None, None)
    overwritten = opened(overwrite=True)
    assert overwritten.is_pending("a", (1, 2), None)
    overwritten.add({"method": "a", "size": [1, 2], "value": 2})
    assert not overwritten.is_pending("a", (1, 2), None)
    assert [row["value"] for row in opened().of("a")] == [2, None]


# --- jobs ------------------------------------------------------------------------------------------------------------


def double(job, logger):
    logger({"n": job, "step": 1, "steps": 2})
    threads = os.environ.get("OMP_NUM_THREADS")
    return {"n": job, "double": float("inf") if job == 3 else 2 * job, "threads": threads}


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_of_all_jobs_are_stored(tmp_path, workers, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    results = Results(tmp_path, {"preset": "quick"}, {}, key=("n",))
    run_all(double, [1, 2, 3], results, workers, quiet=False, describe=lambda row: f"doubled {row['double']}")
    again = Results(tmp_path, {"preset": "quick"}, {}, key=("n",))
    assert {n: row["double"] for (n,), row in again.rows.items()} == {1: 2, 2: 4, 3: None}
    assert {row["threads"] for row in again.good()} == {"7" if workers == 1 else "1"}
    assert "2: doubled 4" in capsys.readouterr().err


def wait(job, logger):
    (job / f"{os.getpid()}").write_text("")
    time.sleep(300)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_ends_the_workers_at_once(tmp_path, interruptible):
    results = Results(tmp_path / "out", {"preset": "quick"}, {}, key=("n",))
    begun = tmp_path / "begun"
    begun.mkdir()

    def interrupt():
        while len(list(begun.iterdir())) < 2:
            time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all(wait, [begun] * 4, results, 2, quiet=True, describe=str)
    assert time.monotonic() - began < 200
    assert _end_soon(begun)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {benchmarks!r})
from parallel import run_all
from results_store import Results
sys.path.insert(0, {folder!r})
import jobs_of_test
folder = Path({folder!r})
results = Results(folder / "out", {{}}, {{}}, ("n",))
run_all(jobs_of_test.wait, [folder / "begun"] * 4, results, 2, quiet=True, describe=str)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "jobs_of_test.py").write_text(
        "import os, time\ndef wait(job, logger):\n    (job / str(os.getpid())).touch()\n    time.sleep(300)\n"
    )
    begun = tmp_path / "begun"
    begun.mkdir()
    script = SCRIPT.format(benchmarks=str(RESULTS.parent), folder=str(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    while len(list(begun.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    assert _end_soon(begun)


def _end_soon(begun: Path) -> bool:
    """Wait up to ten seconds until the processes whose numbers are the names of files have ended."""
    alive = [int(file.name) for file in begun.iterdir()]
    for _ in range(100):
        alive = [pid for pid in alive if _runs(pid)]
        if not alive:
            return True
        time.sleep(0.1)
    return False


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
