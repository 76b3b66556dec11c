"""The C program `limit.c`, compiled for one problem size with the C compiler of the system."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np

from filter.problems import Problem

__all__ = ["LimitFilter", "compiler", "core_rate"]

SOURCE = Path(__file__).with_name("limit.c")


@cache
def compiler() -> str | None:
    """Return the path of the C compiler of the system, or None."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


@cache
def _library(states: int, channels: int, width: int) -> tuple[ctypes.CDLL, float]:
    """Return the program compiled for these sizes, and the wall seconds of the compilation."""
    program = compiler()
    if program is None:
        raise RuntimeError("no C compiler: install gcc or clang")
    sizes = {"STATES": states, "CHANNELS": channels, "WIDTH": width, "PADDED": _power_of_two(states)}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "limit.so"
        command = [program, "-O3", "-march=native", "-shared", "-fPIC", *(f"-D{k}={v}" for k, v in sizes.items())]
        done = subprocess.run([*command, str(SOURCE), "-o", str(target), "-lm"], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip().splitlines()[-1]}")
        return ctypes.CDLL(str(target)), time.perf_counter() - started


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is not below a number."""
    return 1 << (number - 1).bit_length()


def _aligned(*shape: int) -> np.ndarray:
    """Return float32 zeros that are aligned to cache lines and whose memory pages are allocated."""
    count = int(np.prod(shape))
    memory = np.zeros(count + 16 * 16, np.float32)
    memory.fill(0)
    start = (-memory.ctypes.data % (16 * 64)) // 4
    return memory[start : start + count].reshape(shape)


def _placed(values: np.ndarray) -> np.ndarray:
    """Return an aligned copy."""
    out = _aligned(*values.shape)
    out[...] = values
    return out


class LimitFilter:
    """A forward pass in C; copying the data into its memory layout is not part of its time.

    Parameters
    ----------
    problem : Problem
        Its noise may vary over sequences and steps.
    """

    def __init__(self, problem: Problem) -> None:
        batch, steps, states, channels = self.size = problem.size
        self.single = batch == 1
        self.width = 8 if batch <= 8 else 16
        self.variances = _placed(problem.Q), _placed(np.ones(states))
        self.A = _placed(problem.A)
        R = np.broadcast_to(problem.R, problem.y.shape)
        self.library, self.compile_s = _library(states, channels, self.width)
        if self.single:
            padded = _power_of_two(states)
            pad = ((0, 0), (0, padded - states))
            self.y, self.R = _placed(problem.y[0]), _placed(R[0])
            self.A_transposed, self.C = _placed(np.pad(problem.A.T, pad)), _placed(np.pad(problem.C, pad))
            self.means, self.covs = _aligned(steps, padded), _aligned(steps, states, padded)
            self.log_likelihood = _aligned(steps)
        else:
            self.blocks = -(-batch // self.width)
            member = np.minimum(np.arange(self.blocks * self.width), batch - 1).reshape(self.blocks, self.width)
            self.y, self.R = (_placed(np.moveaxis(v[member], 1, -1)) for v in (problem.y, R))
            self.C = _placed(problem.C)
            self.means = _aligned(self.blocks, steps, states, self.width)
            self.covs = _aligned(self.blocks, steps, states * (states + 1) // 2, self.width)
            self.log_likelihood = _aligned(self.blocks, steps, self.width)

    def __call__(self) -> None:
        """Filter; the results are in `means`, `covs` and `log_likelihood`."""
        Q, P0 = self.variances
        steps = ctypes.c_ssize_t(self.size.steps)
        if self.single:
            inputs = (self.y, self.R, self.A, self.A_transposed, Q, self.C, P0)
            self.library.filter_single(steps, *map(_pointer, (*inputs, self.means, self.covs, self.log_likelihood)))
            return
        for block in range(self.blocks):
            arrays = (self.y[block], self.R[block], self.A, Q, self.C, P0)
            outputs = (self.means[block], self.covs[block], self.log_likelihood[block])
            self.library.filter_batch(steps, *map(_pointer, (*arrays, *outputs)))

    def results(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return filtered means, covariances and log-likelihoods of the steps, in the layout of the other methods."""
        batch, steps, states, _ = self.size
        if self.single:
            covs = self.covs[None, ..., :states]
            return self.means[None, :, :states], covs, self.log_likelihood[None]
        means, packed, log_likelihood = (
            np.moveaxis(v, -1, 1).reshape(-1, *v.shape[1:-1])[:batch]
            for v in (self.means, self.covs, self.log_likelihood)
        )
        covs = np.empty((batch, steps, states, states), np.float32)
        low, high = np.tril_indices(states)
        covs[..., low, high] = covs[..., high, low] = packed
        return means, covs, log_likelihood


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    """Return the address of an array."""
    return ctypes.c_void_p(array.ctypes.data)


def core_rate(seconds: float = 0.2) -> float:
    """Return the largest number of floating-point operations per second of this core (multiply and add only)."""
    width, chains, rounds = 16, 12, 1 << 14
    library, _ = _library(2, 1, width)
    library.multiply_add.restype = ctypes.c_float
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.process_time()
        library.multiply_add(ctypes.c_ssize_t(rounds), ctypes.c_float(0.999))
        taken = time.process_time() - started
        if taken < 0.01:  # too short to be measured
            rounds *= 2
        else:
            best = max(best, 2 * chains * width * rounds / taken)
    return best
