"""The filter and the smoother on a device: loops, scans in time, and dynamax, and where scans become faster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from filter.problems import Problem, Size, make_problem
from filter.torch_methods import TorchWork, ours
from results_store import Row

from gpu.timing import Clock, time_calls
from kalmanssl.kalman import kalman_smoother

__all__ = [
    "CROSSOVER", "DYNAMAX", "DYNAMAX_SCAN", "LOOP", "ON_CPU", "QUICK_SIZES", "SCAN", "SIZES", "FilterCell",
    "crossover_cells", "dynamax_cells", "dynamax_missing", "filter_cells", "run_filter_cell",
]  # fmt: skip

SIZES = (Size(8, 100, 10, 5), Size(32, 100, 2, 2), Size(32, 400, 16, 8), Size(128, 400, 16, 8), Size(1, 65000, 16, 8))
QUICK_SIZES = (Size(2, 70, 3, 2),)
LOOP, SCAN, ON_CPU, DYNAMAX, DYNAMAX_SCAN = "loop", "scan", "auto on the CPU", "dynamax", "dynamax, associative scan"
IMPLEMENTATIONS = {LOOP: "adjoint", SCAN: "scan", ON_CPU: "auto"}
TASKS = ("forward", "gradients", "smoother")
NOISES = ("constant", "varying")
BUDGET_S = 1.5  # wall seconds of a method on a problem, without its first call
MOST_LOOP_STEPS = 5000  # with noise that varies, longer loops take a minute
MOST_COMPILED_STEPS = 5000  # jax compiles an associative scan over more steps for minutes

# Where scans become faster than loops: by number of steps, and by number of sequences with their own covariances.
CROSSOVER = (
    *(Size(8, steps, 16, 8) for steps in (16, 32, 64, 128, 256)),
    *(Size(batch, 400, 16, 8) for batch in (32, 128, 512)),
)

FilterCell = tuple[str, Size, str, str]  # method, size, noise, task


def filter_cells(sizes: tuple[Size, ...], *, with_cpu: bool) -> Iterator[FilterCell]:
    """Yield our methods on problems, those that are compared one after another."""
    for size in sizes:
        for noise in NOISES:
            for task in TASKS:
                for method in [SCAN, LOOP] + ([ON_CPU] if with_cpu else []):
                    if method != LOOP or noise == "constant" or size.steps <= MOST_LOOP_STEPS:
                        yield method, size, noise, task


def dynamax_cells(sizes: tuple[Size, ...]) -> Iterator[FilterCell]:
    """Yield dynamax on problems; it makes no difference between noise that is constant or varies."""
    for size in sizes:
        for task in TASKS[:2]:
            yield DYNAMAX, size, "varying", task
            if size.steps <= MOST_COMPILED_STEPS:
                yield DYNAMAX_SCAN, size, "varying", task


def crossover_cells(sizes: tuple[Size, ...]) -> Iterator[FilterCell]:
    """Yield a step with gradients by scan and by loop, for few and many steps and sequences."""
    for size in sizes:
        for noise in NOISES:
            for method in (SCAN, LOOP):
                yield method, size, noise, "gradients"


def dynamax_missing(device: torch.device) -> str | None:
    """Return why dynamax cannot run on the device, or None."""
    # Otherwise jax takes three quarters of the memory of the GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        import dynamax  # noqa: F401
        import jax
    except Exception as error:  # an installation that does not fit fails in its own ways
        return f"dynamax or jax cannot be imported ({type(error).__name__}: {error})"
    jax.config.update("jax_default_matmul_precision", "highest")  # otherwise float32 products are rounded to TF32
    found = jax.devices()[0].platform
    wanted = "gpu" if device.type == "cuda" else "cpu"
    return None if found == wanted else f"jax runs on {found} and not on {wanted}: pip install 'jax[cuda12]'"


def run_filter_cell(cell: FilterCell, device: torch.device, clock: Clock) -> Row:
    """Time a method on a problem; of ours also the error of the log-likelihood relative to float64 on the CPU."""
    method, size, noise, task = cell
    problem = _problem(size, noise)
    place = torch.device("cpu") if method == ON_CPU else device
    if method in (DYNAMAX, DYNAMAX_SCAN):
        from filter.other_methods import DynamaxWork

        dynamax = DynamaxWork(problem, task, parallel=method == DYNAMAX_SCAN)
        times = time_calls(dynamax, place, clock.budget(BUDGET_S))
        # The memory that jax allocates is not known to torch.
        return times | {"compile_s": dynamax.compile_s, "peak_mb": None}
    options = {"implementation": IMPLEMENTATIONS[method]}
    if task == "smoother":
        return time_calls(_smoother(problem, place, options), place, clock.budget(BUDGET_S))
    work = TorchWork(ours(**options), problem, task, device=place)
    row = time_calls(work, place, clock.budget(BUDGET_S))
    return row | {"error": abs(float(work()[0].double().sum()) / _log_likelihood(size, noise) - 1)}


@cache
def _problem(size: Size, noise: str) -> Problem:
    return make_problem(size, noise).rounded()


@cache
def _log_likelihood(size: Size, noise: str) -> float:
    """Log-likelihood of a problem in float64 on the CPU."""
    return float(TorchWork(ours(), _problem(size, noise), "forward", torch.float64)()[0].sum())


def _smoother(problem: Problem, device: torch.device, options: dict[str, str]) -> Callable[[], Any]:
    """Return a function that smooths the observations of a problem on a device, in float32."""
    names = ("y", "A", "Q", "C", "R")
    tensors = {n: torch.tensor(getattr(problem, n), dtype=torch.float32, device=device) for n in names}
    y = tensors.pop("y")

    @torch.no_grad()
    def work() -> torch.Tensor:
        return kalman_smoother(y, **tensors, **options).smoothed_cov

    return work
