"""One method in a process of its own, which does what it is told, line by line, and answers in JSON.

A process each gives every method its own threads, caches and peak memory, and lets one that hangs be stopped. Who
runs when is decided by `rounds.py`, so that the methods still take turns.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from measure import peak_memory_mb, reset_peak_memory

from .limit import compiler, core_rate
from .methods import METHODS
from .problems import Size, make_problem
from .work import Work

LONG_CALL_S = 10.0  # a call that takes longer is measured without one to warm up
SHORT_S = 0.03  # shorter calls are repeated until they take this long together
WAKE_S = 0.1  # caches fill and sleeping threads find their cores


def keep_to_cores(threads: int) -> None:
    """Use no more cores than threads, whatever a library believes, where the system can enforce it."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-threads:])


def resident_mb() -> float:
    """Memory in use now, MB, once all that is free has been given back; 0 where Linux does not say."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2
    return 0.0


class Worker:
    """Holds the work of the moment.

    Parameters
    ----------
    method : str
        Name in `METHODS`.
    """

    def __init__(self, method: str) -> None:
        self.method = METHODS[method]
        self.work: Work | None = None
        self.resident = 0.0

    def prepare(self, size: list[int], noise: str, task: str) -> dict[str, Any]:
        """Make the problem and call once; again, unless that took long, since first calls are slow."""
        self.work = None
        self.work = self.method.prepare(make_problem(Size(*size), noise), task)
        self._forget_peak()
        first, second, calls = self.time(1), None, 1
        if first["wall"] < LONG_CALL_S or self.method.compiles_at_first:
            self._forget_peak()
            second = self.time(1, wake=first["wall"] < 1.0)
            calls = max(1, round(SHORT_S / max(second["wall"], 1e-6)))
        return {"compile_s": self.work.compile_s, "first": first, "second": second, "calls": calls}

    def time(self, calls: int, wake: bool = False) -> dict[str, float]:
        """CPU and wall seconds of a call, the mean of several in a row; `wake` lets it run a little before."""
        assert self.work is not None
        gc.collect()
        end = time.perf_counter() + WAKE_S
        while wake and time.perf_counter() < end:
            self.work()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            self.work()
        return {"cpu": (time.process_time() - cpu) / calls, "wall": (time.perf_counter() - wall) / calls}

    def finish(self) -> dict[str, float]:
        """Peak memory of the warm calls: all of it, and what they added to the libraries and the data."""
        peak = peak_memory_mb()
        self.work = None
        return {"peak_memory_mb": peak, "added_memory_mb": max(0.0, peak - self.resident)}

    def check(self, preset: str) -> dict[str, Any]:
        """Errors in all cases of the accuracy table."""
        from .accuracy import accuracy_of

        return {"rows": accuracy_of(self.method, quick=preset == "quick")}

    def rates(self) -> dict[str, float | None]:
        """Floating-point operations per second of this core, at most, and in a product of matrices in torch."""
        import torch

        a, best = torch.randn(512, 512), 0.0
        for _ in range(10):
            started = time.process_time()
            a @ a
            best = max(best, 2 * 512**3 / (time.process_time() - started))
        return {"core": core_rate() if compiler() else None, "torch.mm": best}

    def _forget_peak(self) -> None:
        self.resident = resident_mb()
        reset_peak_memory()


def main() -> None:
    """Read commands from the standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not come between the answers
    name, threads = sys.argv[1], int(sys.argv[2])
    keep_to_cores(threads)
    worker = Worker(name)
    commands: dict[str, Callable[..., dict[str, Any]]] = {
        "prepare": worker.prepare,
        "time": worker.time,
        "finish": worker.finish,
        "check": worker.check,
        "rates": worker.rates,
    }
    for line in sys.stdin:
        order = json.loads(line)
        try:
            reply = commands[order.pop("do")](**order)
        except Exception as error:  # a peer may raise anything: the row says what
            reply = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        answers.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
