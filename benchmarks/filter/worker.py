"""The process of one method: it reads commands, one JSON object per line, and answers in the same form.

The other end is `filter.processes`; `filter.timing` decides which method runs when.
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

from filter.limit import compiler, core_rate
from filter.methods import METHODS, Work
from filter.problems import Size, make_problem

LONG_CALL_S = 10.0  # longer calls are measured without a warm-up call
SHORT_S = 0.03  # shorter calls are repeated until they take this long together
WARM_UP_S = 0.1  # calls before a measurement, which fill the caches and wake up threads


def keep_to_cores(threads: int) -> None:
    """Limit the process to as many cores as threads, where the operating system supports it."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-threads:])


def resident_mb() -> float:
    """Return the memory in use after free memory is released, MB; 0 where it is unknown."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0.0


class Worker:
    """Executes the commands on one method.

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
        """Make the problem and call the method once, and a second time unless the first call was long."""
        self.work = None
        self.work = self.method.prepare(make_problem(Size(*size), noise), task)
        self._forget_peak()
        first, second, calls = self.time(1), None, 1
        if first["wall"] < LONG_CALL_S or self.method.compiles_at_first:
            self._forget_peak()
            second = self.time(1, warm_up=first["wall"] < 1.0)
            calls = max(1, round(SHORT_S / max(second["wall"], 1e-6)))
        return {"compile_s": self.work.compile_s, "first": first, "second": second, "calls": calls}

    def time(self, calls: int, warm_up: bool = False) -> dict[str, float]:
        """Return CPU and wall seconds of a call, the mean over several; `warm_up` adds calls before these."""
        assert self.work is not None
        gc.collect()
        end = time.perf_counter() + WARM_UP_S
        while warm_up and time.perf_counter() < end:
            self.work()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            self.work()
        return {"cpu": (time.process_time() - cpu) / calls, "wall": (time.perf_counter() - wall) / calls}

    def finish(self) -> dict[str, float]:
        """Return the peak memory during the warm calls, and its excess over the memory of libraries and data."""
        peak = peak_memory_mb()
        self.work = None
        return {"peak_memory_mb": peak, "added_memory_mb": max(0.0, peak - self.resident)}

    def check(self, preset: str) -> dict[str, Any]:
        """Return the accuracies in all cases."""
        from filter.accuracy import accuracy_of

        return {"rows": accuracy_of(self.method, quick=preset == "quick")}

    def rates(self) -> dict[str, float | None]:
        """Return floating-point operations per second: the maximum of this core, and a matrix product in torch."""
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
    """Execute commands from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # output of libraries must not mix with the answers
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
        command = json.loads(line)
        try:
            answer = commands[command.pop("do")](**command)
        except Exception as error:  # a peer may raise any error, which becomes its result
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
