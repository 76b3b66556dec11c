"""Run fits in child processes that are killed, interrupted or limited, and print what went wrong as JSON.

The parent process imports everything and fits once, and its children are forked, which saves the imports and the
compilation of each of them. It is run by the tests with one thread, since a pool of threads does not survive a fork.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from estimator_cases import TINY, counts

from kalmanssl import KalmanSSL
from kalmanssl.cli import main
from kalmanssl.errors import InputError
from kalmanssl.runs import Run
from kalmanssl.utils.storage import replace_folder

OPTIONS = ["--latent-dim", "2", "--state-dim", "3", "--decoder", "linear", "--epochs", "2", "--bin-size", "0.5"]
OPTIONS += ["--behavior", "mazeSpatialSeries"]


def start(work: Callable[[], Any], log: Path, limit: Callable[[], Any] | None = None) -> int:
    """Start a function in a child process with its output in a file; return the number of the process."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if limit is not None:
            limit()
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except KeyboardInterrupt:  # before the command began
        os.write(2, b"error: interrupted")
        code = 130
    except BaseException as error:
        os.write(2, f"Traceback {type(error).__name__}: {error}".encode())
    finally:
        os._exit(code)


def status(child: int) -> int:
    """Wait for a child and return its exit code, or minus the signal that ended it."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return int(code)


def end(child: int, sent: signal.Signals) -> None:
    """Send a signal to a child until it ends: Python loses an interrupt that arrives in a callback."""
    while True:
        os.kill(child, sent)
        for _ in range(250):
            if os.waitpid(child, os.WNOHANG)[0]:
                return
            time.sleep(0.02)


def fit(recording: Path, out: Path, *more: str) -> Callable[[], None]:
    """Return a function that runs the command fit."""

    def run() -> None:
        sys.argv = ["kalmanssl", "fit", str(recording), "--out", str(out), *OPTIONS, *more]
        try:
            main()
        except KeyboardInterrupt:
            raise RuntimeError("the command did not handle the interrupt") from None

    return run


def one_line(log: Path, code: int) -> str | None:
    """Return what is wrong with the output of a command that ended with a code, or None."""
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").strip().split("\n")
    # An interrupt in a callback of the interpreter is printed and ignored by Python itself.
    if any("Traceback" in line for line in lines) and not any("Exception ignored" in line for line in lines):
        return f"a traceback: {lines[-1]}"
    if code in (2, 130) and not lines[-1].startswith("error: "):
        return f"no line of error: {lines[-1]}"
    return None if code in (0, 2, 130) else f"exit code {code}: {lines[-1]}"


def killed_fits(recording: Path, folder: Path, rounds: int) -> list[str]:
    """Kill or interrupt fits at random moments; after each the run folder is absent, or complete."""
    out, log, wrong = folder / "run", folder.parent / "log", []
    partial = folder / "run.partial"
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    status(start(fit(recording, folder.parent / "first" / "run"), log))
    duration = time.perf_counter() - began
    for number in range(rounds):
        existed = out.exists()
        more = ["--overwrite"] if existed or number % 3 == 0 else []
        if (partial / "last.safetensors").exists() and number % 2 == 0:
            more.append("--resume")
        elif (partial / "last.safetensors").exists() and "--overwrite" not in more:
            more.append("--overwrite")
        child = start(fit(recording, out, *more), log)
        time.sleep(rng.uniform(0, 1.1 * duration))
        sent = signal.SIGINT if number % 2 else signal.SIGKILL
        os.kill(child, sent)
        if sent == signal.SIGINT and number % 4 == 1:  # twice, as by an impatient person
            time.sleep(rng.uniform(0, 0.03))
            os.kill(child, sent)
        code = status(child)
        problem = None if code == -signal.SIGKILL else one_line(log, code)
        if problem:
            wrong.append(f"round {number}, {sent.name}, {more}: {problem}")
        if existed and not out.exists():
            wrong.append(f"round {number}: the run is lost")
        if out.exists():
            Run.load(out)
    wrong += _last_fit(recording, out, log)
    return wrong


def _last_fit(recording: Path, out: Path, log: Path) -> list[str]:
    """Fit without an interrupt; nothing but the run may remain."""
    code = status(start(fit(recording, out, "--overwrite"), log))
    Run.load(out)
    left = sorted(set(os.listdir(out.parent)) - {"run"})
    return ([f"the last fit ended with {code}"] if code else []) + ([f"remains: {left}"] if left else [])


def killed_saves(folder: Path, rounds: int) -> list[str]:
    """Kill a process that saves one model after another; the saved one is always complete."""
    model = KalmanSSL(**TINY).fit(counts())
    model.save(folder / "model")
    before = model.transform(counts()).mean
    rng = np.random.default_rng(1)
    wrong = []

    def save() -> None:
        while True:
            model.save(folder / "model", overwrite=True)

    for number in range(rounds):
        child = start(save, folder.parent / "log")
        time.sleep(rng.uniform(0.0, 0.05))
        end(child, signal.SIGKILL if number % 2 else signal.SIGINT)
        try:
            found = KalmanSSL.load(folder / "model").transform(counts()).mean
        except InputError as error:
            # Killed between two renames: the old version is put back by whoever writes there next.
            try:
                replace_folder(folder / "model", lambda new: None)
            except InputError:
                found = KalmanSSL.load(folder / "model").transform(counts()).mean
            else:
                wrong.append(f"round {number}: {error}")
                model.save(folder / "model", overwrite=True)
                continue
        if not np.array_equal(found, before):
            wrong.append(f"round {number}: another model")
    model.save(folder / "model", overwrite=True)
    return wrong + [f"remains: {name}" for name in os.listdir(folder) if name != "model"]


def two_fits(recording: Path, folder: Path, *more: str) -> list[str]:
    """Start two fits into one folder at the same time: one of them succeeds, the other ends with one line."""
    logs = [folder.parent / name for name in ("log", "other")]
    children = [start(fit(recording, folder / "run", *more), log) for log in logs]
    codes = [status(child) for child in children]
    problems = [one_line(log, code) for log, code in zip(logs, codes, strict=True)]
    Run.load(folder / "run")
    wrong = [problem for problem in problems if problem]
    if sorted(codes) != [0, 2]:
        wrong.append(f"exit codes {codes}")
    return wrong + [f"remains: {name}" for name in os.listdir(folder) if name != "run"]


def _address_space(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _file_size(limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


LIMITS: dict[str, Callable[[], Any]] = {
    "files of 4 kB": lambda: _file_size(4000),
    "files of 40 kB": lambda: _file_size(40_000),
    "no more open files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)),
    "five open files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5)),
    "2 MB of memory": lambda: _address_space(2_000_000),
    "20 MB of memory": lambda: _address_space(20_000_000),
}


def limited_fits(recording: Path, folder: Path) -> list[str]:
    """Fit with limits of files and memory: the fit succeeds, or ends with one line and leaves no run."""
    wrong = []
    for name, limit in LIMITS.items():
        code = status(start(fit(recording, folder / "run"), folder.parent / "log", limit))
        problem = one_line(folder.parent / "log", code)
        if problem:
            wrong.append(f"{name}: {problem}")
        if code == 0:
            Run.load(folder / "run")
        elif (folder / "run").exists():
            wrong.append(f"{name}: a run was left")
        if code == 0:
            os.rename(folder / "run", folder.parent / name)
    return wrong + _last_fit(recording, folder / "run", folder.parent / "log")


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has switched it off
    KalmanSSL.__init__.__kwdefaults__["steps_per_epoch"] = 5  # most moments of a fit are then not inside an epoch
    recording, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for name in ("killed", "two", "saves", "limits"):
        (folder / name).mkdir()
    warm_up = fit(recording, folder / "warm" / "run")
    streams = sys.stdout, os.dup(1)
    os.dup2(os.open(folder / "log", os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    with contextlib.suppress(SystemExit):
        warm_up()
    found: dict[str, Any] = {}
    found["killed"] = killed_fits(recording, folder / "killed", 20)
    found["two"] = two_fits(recording, folder / "two")
    found["two, overwrite"] = two_fits(recording, folder / "two", "--overwrite")
    found["saves"] = killed_saves(folder / "saves", 20)
    found["limits"] = limited_fits(recording, folder / "limits")
    os.write(streams[1], json.dumps(found).encode())
