"""Wall time and peak memory of calls on a device, within a budget, and the parts of a run that share the time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from measure import machine_facts, peak_memory_mb, reset_peak_memory, versions
from results_store import Row

__all__ = ["Clock", "Stamps", "device_facts", "measured_memory", "time_calls", "wait_for", "warm_up"]

REPEATS = 20
LONGEST_S = 8.0


class Clock:
    """Time that is left for the whole run and for the part that is running.

    Parameters
    ----------
    seconds : float
        Wall seconds of the whole run.
    scale : float
        Factor for the time of a measurement.
    """

    def __init__(self, seconds: float, scale: float = 1.0) -> None:
        self._end, self._scale = time.monotonic() + seconds, scale
        self._part_end = self._end

    def begin_part(self, seconds: float) -> None:
        """Give the next part at most this many seconds."""
        self._part_end = min(self._end, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds that are left for the part."""
        return self._part_end - time.monotonic()

    def budget(self, seconds: float) -> float:
        """Seconds for a measurement that should take this long if there is time."""
        return min(self._scale * seconds, self.left)


class Stamps:
    """Times of the steps of a training, as its `on_step` callback."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, step: int, batch: Any) -> None:
        """Note the time; the loss of the step has been read, so that the device has computed it."""
        self.times.append(time.perf_counter())

    def row(self) -> Row:
        """Return the median and the shortest time of a step in the second half of the training, when it is warm."""
        taken = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        taken = taken[len(taken) // 2 :]
        return {"wall_s": statistics.median(taken), "wall_min_s": min(taken), "repeats": len(taken)}


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished what was started on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def measured_memory(device: torch.device, row: Row) -> Iterator[None]:
    """Add the peak memory of what runs inside to a row: allocated tensors on a GPU, the whole process on the CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_peak_memory()
    yield
    row["peak_mb"] = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else peak_memory_mb()


def time_calls(work: Callable[[], Any], device: torch.device, budget_s: float) -> Row:
    """Time calls that run on a device: one to warm up, another one, and as many more as fit into the budget.

    A call that takes longer than `LONGEST_S` is its own warm-up.

    Returns
    -------
    dict
        `first_s`, wall seconds of the first call; `wall_s` and `wall_min_s`, median and minimum of the `repeats` other
        calls (of the first one if there are no others); `peak_mb`.
    """
    row: Row = {}
    with measured_memory(device, row):
        first = _wall(work, device)
        taken: list[float] = [] if first > LONGEST_S else [_wall(work, device)]
        while 0 < len(taken) < REPEATS and sum(taken) + taken[-1] < budget_s:
            taken.append(_wall(work, device))
    times = {"wall_s": statistics.median(taken or [first]), "wall_min_s": min(taken or [first])}
    return row | times | {"first_s": first, "repeats": len(taken)}


def _wall(work: Callable[[], Any], device: torch.device) -> float:
    wait_for(device)
    start = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - start


def warm_up(device: torch.device) -> None:
    """Load the libraries of the device, which takes seconds, before anything is measured."""
    matrix = torch.eye(8, device=device, dtype=torch.float64).expand(4, 8, 8)
    torch.linalg.solve_triangular(torch.linalg.cholesky_ex(matrix @ matrix)[0], matrix, upper=False)
    torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8, device=device), torch.ones(1, 1, 3, 3, device=device))
    wait_for(device)


def device_facts(device: torch.device) -> dict[str, Any]:
    """Return the facts about the machine and the device."""
    facts = machine_facts(torch.get_num_threads()) | versions("jax", "dynamax") | {"device": device.type}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "device_name": properties.name,
            "device_memory_mb": properties.total_memory / 1e6,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
        }
    return facts
