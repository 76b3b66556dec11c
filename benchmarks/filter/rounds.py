"""Methods take turns: each waits in its own process while another computes."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .methods import METHODS, OURS
from .problems import Cell, operations

__all__ = ["Crew", "FailedError", "row_of", "time_cell"]

BUDGET_S = 12.0  # wall seconds for the repeats of one method on one cell
START_S = 120.0  # for a process to begin and import its libraries


class FailedError(Exception):
    """A method does not give a measure here; the message says why."""


class TooLongError(FailedError):
    """The method would take longer than it may."""


class _Process:
    def __init__(self, method: str) -> None:
        threads = METHODS[method].threads
        own = {"JAX_PLATFORMS": "cpu"}
        for library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "VECLIB_MAXIMUM"):
            own[f"{library}_NUM_THREADS"] = str(threads)
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `stop`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "filter.worker", method, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            env=os.environ | own,
            cwd=Path(__file__).resolve().parents[1],  # where the packages `filter` and `measure` are found
        )

    def ask(self, limit_s: float, **order: Any) -> dict[str, Any]:
        """Send an order and wait for the answer, at most `limit_s` seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise EOFError(self._why()) from None
        if not select.select([self.process.stdout], [], [], limit_s)[0]:
            raise TooLongError(f"takes longer than {limit_s:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(self._why())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise FailedError(reply["error"])
        return reply

    def stop(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.communicate()
        self.complaints.close()

    def _why(self) -> str:
        code = self.process.wait()
        self.complaints.seek(0)
        said = self.complaints.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with code {code}" + (f": {said[-1]}" if said else "")


class Crew:
    """The processes of the methods, each begun when it is first needed.

    Parameters
    ----------
    limit_s : float
        Wall seconds that one call, compilation included, may take.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._processes: dict[str, _Process] = {}

    def ask(self, method: str, *, limit_s: float | None = None, **order: Any) -> dict[str, Any]:
        """Let a method do something; raises FailedError if it cannot, TooLongError if its process had to be ended."""
        starting = method not in self._processes
        if starting:
            self._processes[method] = _Process(method)
        try:
            return self._processes[method].ask((limit_s or self.limit_s) + (START_S if starting else 0), **order)
        except EOFError as error:
            self.dismiss(method)
            raise FailedError(str(error)) from None
        except TooLongError:
            self.dismiss(method)
            raise

    def dismiss(self, method: str) -> None:
        """End a method's process."""
        if method in self._processes:
            self._processes.pop(method).stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for method in list(self._processes):
            self.dismiss(method)


def time_cell(
    crew: Crew, methods: Iterable[str], cell: Cell, repeats: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Time methods on one problem, in turns; a row each, with the time of ours in the same rounds.

    Every method is prepared, compiled and called first. Then they go round, each round beginning with another one;
    one whose calls are long goes round fewer times. Rows of what gives no measure say why.
    """
    rows, plans = {}, {}
    for name in methods:
        say(f"{name}, first call")
        rows[name] = row_of(name, cell)
        try:
            plans[name] = _Plan(crew, name, cell, repeats)
        except FailedError as error:
            rows[name] |= why_not(error)
    for turn in range(max((plan.rounds for plan in plans.values()), default=0)):
        names = list(plans)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if turn < plans[name].rounds:
                say(f"{name}, round {turn + 1} of {plans[name].rounds}")
                try:
                    plans[name].go_round()
                except FailedError as error:
                    rows[name] |= why_not(error)
                    del plans[name]
    for name, plan in plans.items():
        try:
            rows[name] |= plan.summary()
        except FailedError as error:
            rows[name] |= why_not(error)
    ours = rows.get(OURS, {})
    for row in rows.values():
        row["measured"] = time.strftime("%Y-%m-%dT%H:%M:%S")
        if "cpu_s" in row and "cpu_s" in ours:
            row |= {f"ours_{key}": ours[key] for key in ("cpu_s", "wall_s")}
            row |= {"times_ours": row["cpu_s"] / ours["cpu_s"], "times_ours_wall": row["wall_s"] / ours["wall_s"]}
    return list(rows.values())


def row_of(method: str, cell: Cell) -> dict[str, Any]:
    """The row's head."""
    return {"method": method, **cell._asdict(), "size": list(cell.size), "threads": METHODS[method].threads}


class _Plan:
    """A method that is prepared for a cell, and its times."""

    def __init__(self, crew: Crew, name: str, cell: Cell, repeats: int) -> None:
        self._crew, self._name, self._cell = crew, name, cell
        found = crew.ask(name, do="prepare", **cell._asdict())
        self._first, self._second, self._calls = found["first"], found["second"], found["calls"]
        lazily = METHODS[name].compiles_at_first
        self._compile_s = self._first["wall"] - self._second["wall"] if lazily else found["compile_s"]
        self.rounds = 0
        if self._second is not None:
            affordable = int(BUDGET_S / max(self._second["wall"], 0.01))
            self.rounds = max(1, min(repeats, affordable))
        self._times: list[dict[str, float]] = []

    def go_round(self) -> None:
        wake = self._second["wall"] < 1.0  # what takes longer is warm soon enough
        self._times.append(self._crew.ask(self._name, do="time", calls=self._calls, wake=wake))

    def summary(self) -> dict[str, Any]:
        times = self._times or [self._first]
        cpu, wall = ([one[key] for one in times] for key in ("cpu", "wall"))
        size = self._cell.size
        passes = 3 if self._cell.task == "gradients" else 1
        flops = operations(size.states, size.channels) * size.batch * size.steps * passes
        return {
            "cpu_s": statistics.median(cpu),
            "cpu_min_s": min(cpu),
            "wall_s": statistics.median(wall),
            "wall_min_s": min(wall),
            "repeats": len(times),
            "calls_per_repeat": self._calls if self._times else 1,
            "warm": bool(self._times),
            "first_call_cpu_s": self._first["cpu"],
            "compile_s": max(0.0, self._compile_s),
            "gflops": flops / statistics.median(cpu) / 1e9,
            **self._crew.ask(self._name, do="finish"),
        }


def why_not(error: FailedError) -> dict[str, str]:
    """What a row says instead of times: "skipped" is for good, "failed" is tried again by the next run."""
    return {"skipped" if isinstance(error, TooLongError) else "failed": str(error)}
