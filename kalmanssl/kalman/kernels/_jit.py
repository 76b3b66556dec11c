"""Compilation of kernels by numba, and their execution in threads."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

__all__ = [
    "SlowPathWarning",
    "cached_njit",
    "has_compiler",
    "inline_allocating_njit",
    "inline_njit",
    "run_blocks",
    "watch_compilation",
]


# Operations that a thread does in about half a millisecond.
_OPERATIONS_PER_THREAD = 20_000_000


class SlowPathWarning(UserWarning):
    """Results are correct, but something that would make them faster is missing."""


@cache
def has_compiler() -> bool:
    """Whether numba is installed and not disabled by NUMBA_DISABLE_JIT; warns once if it is not installed."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return False
    if find_spec("numba") is not None:
        return True
    warnings.warn(
        "numba is not installed: the Kalman filter runs in plain torch, about ten times slower; pip install numba",
        SlowPathWarning,
        stacklevel=3,
    )
    return False


_watchers: list[Callable[[bool], None]] = []


@contextmanager
def watch_compilation(watcher: Callable[[bool], None]) -> Iterator[None]:
    """Call `watcher` with True whenever a compilation begins inside the context, and with False when it ends.

    Code that is loaded from the cache on disk is not compiled.
    """
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


@cache
def _listen() -> None:
    """Tell the watchers what numba compiles from now on."""
    from numba.core import event

    class Listener(event.Listener):
        depth = 0  # a function is compiled together with those that it calls

        def on_start(self, event: Any) -> None:
            self.depth += 1
            self._tell(True)

        def on_end(self, event: Any) -> None:
            self._tell(False)
            self.depth -= 1

        def _tell(self, begins: bool) -> None:
            for watcher in list(_watchers) if self.depth == 1 else ():
                watcher(begins)

    event.register("numba:compile", Listener())


@cache
def _warn_uncached() -> None:
    warnings.warn(
        "compiled code cannot be kept between runs, which makes the first use of the filter take some seconds each "
        "time: set NUMBA_CACHE_DIR to a folder that can be written to",
        SlowPathWarning,
        stacklevel=4,
    )


@cache
def _source_hash() -> str:
    """Hash of all modules of kernels, since numba itself only checks the file that contains the cached function."""
    return hashlib.sha256(
        b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    ).hexdigest()[:12]


def cached_njit(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call and cache it on disk; it releases the global interpreter lock."""
    from numba import njit

    _listen()
    function.__qualname__ += f"_{_source_hash()}"
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except (RuntimeError, OSError):
        _warn_uncached()
        return njit(**options)(function)


def inline_njit(function: Callable[..., Any]) -> Any:
    """Inline a function into every compiled one that calls it; the function must not allocate arrays.

    `_nrt=False` compiles it without reference counts for the arrays in its arguments. LLVM does not remove all of them
    from loops, where they make the adjoint of the filter 10 to 25 % slower.
    """
    from numba import njit

    options: dict[str, Any] = {"forceinline": True, "error_model": "numpy", "_nrt": False}
    return njit(**options)(function)


def inline_allocating_njit(function: Callable[..., Any]) -> Any:
    """Inline a function that allocates arrays into every compiled one that calls it."""
    from numba import njit

    return njit(forceinline=True, error_model="numpy")(function)


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # a forked process needs a pool of its own
    return ThreadPoolExecutor(threads, thread_name_prefix="kalmanssl")


def run_blocks(work: Callable[[int, int], Any], blocks: int, operations: int) -> None:
    """Divide blocks 0, 1, … among as many threads as torch uses; `work(first, last)` processes consecutive ones.

    `operations` is the total number of floating-point operations. Little work is not divided: starting a thread would
    take longer.
    """
    threads = max(1, min(torch.get_num_threads(), blocks, operations // _OPERATIONS_PER_THREAD))
    if threads == 1:
        work(0, blocks)
        return
    bounds = [blocks * i // threads for i in range(threads + 1)]
    jobs = [_pool(os.getpid(), threads).submit(work, *pair) for pair in pairwise(bounds[1:])]
    work(bounds[0], bounds[1])
    for job in jobs:
        job.result()
