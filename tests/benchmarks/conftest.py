"""Threads of the commands of the benchmarks."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import torch
from threadpoolctl import threadpool_limits


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Restore the numbers of threads after each test and its fixtures of any scope.

    The commands limit the threads of their process, on which the last bits of later results depend.
    """
    before = torch.get_num_threads()
    with threadpool_limits():  # without a limit it only restores
        try:
            return (yield)
        finally:
            torch.set_num_threads(before)
