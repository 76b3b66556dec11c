"""What a computation costs: CPU seconds with all threads and children, peak memory, and on which machine."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

__all__ = ["Stopwatch", "machine_facts", "peak_memory_mb", "reset_peak_memory", "versions"]


class Stopwatch:
    """Context that measures what runs inside it.

    Attributes
    ----------
    cpu, wall : float
        CPU seconds of this process, all its threads and the children it has waited for; wall seconds.
    """

    cpu: float
    wall: float

    def __enter__(self) -> Self:
        self._cpu, self._wall = _cpu_seconds(), time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.cpu, self.wall = _cpu_seconds() - self._cpu, time.perf_counter() - self._wall


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process, its threads and the children it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def reset_peak_memory() -> None:
    """Reset the peak of the memory where Linux allows it; elsewhere the peak is that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Return the largest resident memory since the reset, MB (10^6 bytes), with the interpreter and its libraries."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6  # given in KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def machine_facts(threads: int) -> dict[str, Any]:
    """Return the processor, cores, allowed threads, and the versions of the libraries that compute."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    return facts | versions("kalmanssl", "torch", "numpy", "scipy", "scikit-learn", "cebra")


def versions(*packages: str) -> dict[str, str | None]:
    """Return the versions of packages; None for one that is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _processor() -> str:
    """Return the name of the processor."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
