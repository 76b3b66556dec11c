"""Compiled code: whether it is to be had here, how it is compiled and kept, and how it uses several cores."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

__all__ = ["SlowPathWarning", "compiled", "has_compiler", "inlined", "run_blocks"]


# What a thread does in about half a millisecond.
_OPERATIONS_OF_A_THREAD = 20_000_000


class SlowPathWarning(UserWarning):
    """Results are right, but something that would have made them faster is missing."""


@cache
def has_compiler() -> bool:
    """Whether numba is installed and not switched off by NUMBA_DISABLE_JIT; says once if it is not installed."""
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


@cache
def _warn_uncached() -> None:
    warnings.warn(
        "compiled code cannot be kept between runs, which makes the first use of the filter take some seconds each "
        "time: set NUMBA_CACHE_DIR to a folder that can be written to",
        SlowPathWarning,
        stacklevel=4,
    )


@cache
def _fingerprint() -> str:
    """Of everything that kernels are made of: numba itself looks only at the file of the function that it keeps."""
    sources = [*sorted(Path(__file__).parent.glob("*kernels.py")), Path(__file__).with_name("_simd.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call; other threads may run meanwhile, and the code is kept on disk."""
    from numba import njit

    function.__qualname__ += f"_{_fingerprint()}"
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **settings)(function)
    except (RuntimeError, OSError):
        _warn_uncached()
        return njit(**settings)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Make a function part of every compiled one that calls it."""
    from numba import njit

    return njit(forceinline=True, error_model="numpy")(function)


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # a fork needs a pool of its own
    return ThreadPoolExecutor(threads, thread_name_prefix="kalmanssl")


def run_blocks(work: Callable[[int, int], Any], blocks: int, operations: int) -> None:
    """Share blocks 0, 1, … out among as many threads as torch uses; `work(first, last)` does some in a row.

    `operations` says how much work it is: handing over a little costs more than doing it.
    """
    threads = max(1, min(torch.get_num_threads(), blocks, operations // _OPERATIONS_OF_A_THREAD))
    if threads == 1:
        work(0, blocks)
        return
    bounds = [blocks * i // threads for i in range(threads + 1)]
    jobs = [_pool(os.getpid(), threads).submit(work, *pair) for pair in pairwise(bounds[1:])]
    work(bounds[0], bounds[1])
    for job in jobs:
        job.result()
