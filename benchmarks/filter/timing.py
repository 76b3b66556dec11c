"""Time several methods on one problem, in rounds: each method waits in its own process while another one computes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable

from results_store import Row

from filter.methods import METHODS, OURS
from filter.problems import Cell, operations
from filter.processes import FailedError, Processes, TooLongError

__all__ = ["new_row", "time_cell"]

BUDGET_S = 12.0  # wall seconds for the repeats of one method on one problem


def time_cell(
    processes: Processes, methods: Iterable[str], cell: Cell, repeats: int, logger: Callable[[str], None]
) -> list[Row]:
    """Time methods on one problem.

    Every method is first prepared, compiled and called once. Each round then starts with another method; methods with
    long calls take part in fewer rounds.

    Parameters
    ----------
    processes : Processes
    methods : iterable of str
    cell : Cell
    repeats : int
        Number of rounds.
    logger : callable
        Called with what is running.

    Returns
    -------
    list of dict
        One row for each method, including the time of ours in the same rounds, or why there is no time.
    """
    rows, timed = {}, {}
    for name in methods:
        logger(f"{name}, first call")
        rows[name] = new_row(name, cell)
        try:
            timed[name] = _TimedMethod(processes, name, cell, repeats)
        except FailedError as error:
            rows[name] |= _reason(error)
    for number in range(max((method.rounds for method in timed.values()), default=0)):
        names = list(timed)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if number < timed[name].rounds:
                logger(f"{name}, round {number + 1} of {timed[name].rounds}")
                try:
                    timed[name].run_round()
                except FailedError as error:
                    rows[name] |= _reason(error)
                    del timed[name]
    for name, method in timed.items():
        try:
            rows[name] |= method.summary()
        except FailedError as error:
            rows[name] |= _reason(error)
    ours = rows.get(OURS, {})
    for row in rows.values():
        row["measured"] = time.strftime("%Y-%m-%dT%H:%M:%S")
        if "cpu_s" in row and "cpu_s" in ours:
            row |= {f"ours_{key}": ours[key] for key in ("cpu_s", "wall_s")}
            row |= {"times_ours": row["cpu_s"] / ours["cpu_s"], "times_ours_wall": row["wall_s"] / ours["wall_s"]}
    return list(rows.values())


def new_row(method: str, cell: Cell) -> Row:
    """Return the row of a method and a problem without any measures."""
    return {"method": method, **cell._asdict(), "size": list(cell.size), "threads": METHODS[method].threads}


class _TimedMethod:
    """A method that is prepared for a problem, and its times."""

    def __init__(self, processes: Processes, name: str, cell: Cell, repeats: int) -> None:
        self._processes, self._name, self._cell = processes, name, cell
        answer = processes.ask(name, do="prepare", **cell._asdict())
        self._first, self._second, self._calls = answer["first"], answer["second"], answer["calls"]
        lazily = METHODS[name].compiles_at_first
        self._compile_s = self._first["wall"] - self._second["wall"] if lazily else answer["compile_s"]
        self.rounds = 0
        if self._second is not None:
            affordable = int(BUDGET_S / max(self._second["wall"], 0.01))
            self.rounds = max(1, min(repeats, affordable))
        self._times: list[dict[str, float]] = []

    def run_round(self) -> None:
        """Time the method once more."""
        warm_up = self._second["wall"] < 1.0  # longer calls warm up by themselves
        self._times.append(self._processes.ask(self._name, do="time", calls=self._calls, warm_up=warm_up))

    def summary(self) -> Row:
        """Return times, rates and memory."""
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
            **self._processes.ask(self._name, do="finish"),
        }


def _reason(error: FailedError) -> dict[str, str]:
    """Return what a row has instead of times: "skipped" is final, "failed" is tried again by the next run."""
    return {"skipped" if isinstance(error, TooLongError) else "failed": str(error)}
