"""What the suites share: how a command ends before its time, rows kept line by line, jobs in processes."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import typer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


# --- how commands end ------------------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_said_in_a_line(capsys):
    from suite import explained

    from kalmanssl.errors import InputError

    with pytest.raises(typer.Exit) as ended, explained(Path("out")):
        raise InputError("no [such] thing: " + "long " * 40)
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "error: no [such] thing: " + "long " * 40 + "\n"


def test_ctrl_c_says_how_to_go_on_and_mistakes_of_ours_are_not_hidden(capsys, interruptible):
    from suite import explained

    with pytest.raises(typer.Exit) as ended, explained(Path("out")):
        os.kill(os.getpid(), signal.SIGINT)
    assert ended.value.exit_code == 130
    assert "what is done is in out, the same command goes on" in capsys.readouterr().err
    with pytest.raises(KeyError), explained(Path("out")):
        raise KeyError("a mistake")


def test_what_is_asked_for_is_a_part_of_a_name():
    from suite import asked

    assert asked(None, "sphere KDE")
    assert asked(["knn", "kde"], "euclidean", "sphere KDE")
    assert not asked(["kde"], "sphere kNN")


# --- rows on disk ----------------------------------------------------------------------------------------------------


def test_lines_are_appended_and_a_damaged_one_is_left_out(tmp_path):
    from kept import Lines

    first = Lines(tmp_path / "out")
    assert first.settings is None
    first.begin({"preset": "quick"}, [])
    for n in range(3):
        first.add({"n": n})
    with first.path.open("a") as file:
        file.write('{"n": 3, "killed')
    again = Lines(tmp_path / "out")
    assert again.damaged
    assert again.settings == {"preset": "quick"}
    assert again.rows == first.rows == [{"n": 0}, {"n": 1}, {"n": 2}]
    again.begin({"preset": "full"}, again.rows[1:])
    last = Lines(tmp_path / "out")
    assert (last.damaged, last.settings, last.rows) == (False, {"preset": "full"}, [{"n": 1}, {"n": 2}])


# --- jobs ------------------------------------------------------------------------------------------------------------


def double(job, say):
    say({"n": job, "step": 1, "steps": 2})
    return {"n": job, "double": float("inf") if job == 3 else 2 * job}


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_are_done_and_their_rows_kept(tmp_path, workers, capsys, monkeypatch):
    from kept import Results
    from suite import run_all

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    results = Results(tmp_path, {"preset": "quick"}, {}, key=("n",))
    run_all(double, [1, 2, 3], results, workers, quiet=False, found=lambda row: f"found {row['double']}")
    again = Results(tmp_path, {"preset": "quick"}, {}, key=("n",))
    assert {n: row["double"] for (n,), row in again.rows.items()} == {1: 2, 2: 4, 3: None}
    assert "2: found 4" in capsys.readouterr().err


def rest(job, say):
    (job / f"{os.getpid()}").write_text("")
    time.sleep(300)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who is alive")
def test_ctrl_c_ends_the_workers_at_once(tmp_path, interruptible):
    from kept import Results
    from suite import run_all

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
        run_all(rest, [begun] * 4, results, 2, quiet=True, found=str)
    assert time.monotonic() - began < 200
    alive = [int(one.name) for one in begun.iterdir()]
    for _ in range(100):
        alive = [pid for pid in alive if _runs(pid)]
        if not alive:
            break
        time.sleep(0.1)
    assert not alive
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
