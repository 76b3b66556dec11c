"""Memory that is available to this process."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from kalmanssl.errors import InputError

__all__ = ["UNCHECKED_MEMORY", "available_memory", "check_memory", "return_freed_memory"]

UNCHECKED_MEMORY = 1e8  # bytes that arrays may take without `check_memory`, which takes time
_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> float:
    """Return the memory that this process can still allocate, bytes; infinite if it is not known.

    It is the smallest of the free memory of the machine, the limit of the control group (containers), and the limit of
    the address space (``ulimit -v``).
    """
    return min(_free_memory(), _left_in_control_group(), _left_in_address_space())


def check_memory(need: float, what: str, advice: str, parameter: str) -> None:
    """Raise `InputError` if a computation needs more memory than is available.

    Parameters
    ----------
    need : float
        Bytes.
    what : str
        The computation, as the subject of the sentence of the message.
    advice : str
        What to change.
    parameter : str
        The argument at fault.
    """
    available = available_memory()
    if need > available:
        raise InputError(
            f"{what} would take about {_readable(need)} of memory, and {_readable(available)} are available: {advice}",
            parameter=parameter,
        )


def return_freed_memory() -> None:
    """Return the memory of freed arrays to the system, where the C library keeps it (glibc).

    Arrays of less than 32 MB are in its heap, and larger ones where the heap has a gap. It keeps the pages of freed
    arrays below any that is still used. In fits of long recordings these become gigabytes.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return None


def _readable(size: float) -> str:
    return f"{size / 1e9:.2g} GB" if size < 1e11 else f"{size / 1e9:.3g} GB"


def _free_memory() -> float:
    """Return the memory of the machine that is free or can be freed, bytes."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * float(line.split()[1])
    except (OSError, ValueError):
        pass
    try:  # systems without /proc
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _left_in_control_group() -> float:
    """Return what the control group of the process may still use, bytes; infinite without a limit."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (_CGROUP / "memory.current").read_text(encoding="ascii").strip()
        return float("inf") if limit == "max" else max(0.0, float(limit) - float(used))
    except (OSError, ValueError):
        return float("inf")


def _left_in_address_space() -> float:
    """Return how much the address space of the process may still grow, bytes; infinite without a limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return float("inf")
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return max(0.0, float(limit - pages * os.sysconf("SC_PAGE_SIZE")))
    except (ImportError, OSError, ValueError):
        return float("inf")
