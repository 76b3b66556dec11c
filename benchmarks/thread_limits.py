"""Numbers of threads of this process and of new ones."""

from __future__ import annotations

import os

__all__ = ["limit_threads", "thread_environment"]

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def limit_threads(threads: int) -> None:
    """Let torch and the linear algebra of numpy use so many threads in this process."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def thread_environment(threads: int | None) -> dict[str, str]:
    """Return the environment of a new process with so many threads; None for the default number."""
    others = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    return others if threads is None else others | dict.fromkeys(_VARIABLES, str(threads))
