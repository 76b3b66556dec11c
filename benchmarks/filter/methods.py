"""All methods by name, and the interface that a method must have.

To add a method, write a class like `filter.torch_methods.TorchWork` or a function for it, and add a line to `METHODS`.
The packages of a method are imported only when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from filter.limit import compiler
from filter.problems import Problem, Size

__all__ = ["GRADIENTS", "METHODS", "OURS", "Answer", "Method", "Work"]

OURS = "kalmanssl"
GRADIENTS = ("A", "Q", "y", "R")


@dataclass(frozen=True)
class Answer:
    """The result of a filter in float64.

    Attributes
    ----------
    log_likelihood : (batch,)
    mean : (batch, steps, states), optional
    cov : (batch, steps, states, states), optional
    gradients : dict
        Gradients of the log-likelihood summed over all sequences, by the names in `GRADIENTS`.
    """

    log_likelihood: np.ndarray
    mean: np.ndarray | None = None
    cov: np.ndarray | None = None
    gradients: dict[str, np.ndarray] = field(default_factory=dict)


class Work(Protocol):
    """A problem in the memory layout of a method; the time of a call is measured.

    Attributes
    ----------
    compile_s : float
        Wall seconds of the compilation before the first call; 0 without compilation.
    """

    compile_s: float

    def __call__(self) -> Any:
        """Compute everything that the task requires."""

    def answer(self, result: Any) -> Answer:
        """Convert the result of a call."""


@dataclass(frozen=True)
class Method:
    """An implementation of the Kalman filter.

    Attributes
    ----------
    prepare : callable
        Makes a `Work` from a problem and a task.
    packages : tuple of (str, str)
        Required packages: their names for import and for pip.
    threads : int
        Number of threads.
    timed : bool
        False if only the accuracy is measured.
    compiles_at_first : bool
        Whether the first call compiles and therefore never counts as a measurement.
    unfit : callable
        Returns why a size, noise and task is skipped, or None.
    """

    prepare: Callable[[Problem, str], Work]
    packages: tuple[tuple[str, str], ...] = ()
    threads: int = 1
    timed: bool = True
    compiles_at_first: bool = False
    unfit: Callable[[Size, str, str], str | None] = lambda size, noise, task: None

    @property
    def missing(self) -> str | None:
        """Why it cannot run here and how to correct that, or None."""
        absent = [pip for module, pip in self.packages if find_spec(module) is None]
        return f"not installed: pip install {' '.join(absent)}" if absent else None


def _ours(options: dict[str, str], double: bool = False) -> Callable[[Problem, str], Work]:
    """Return the `prepare` of our filter."""

    def prepare(problem: Problem, task: str) -> Work:
        import torch

        from filter import torch_methods as filters

        return filters.TorchWork(filters.ours(**options), problem, task, torch.float64 if double else torch.float32)

    return prepare


def _torch(name: str) -> Callable[[Problem, str], Work]:
    """Return the `prepare` of another filter in torch."""

    def prepare(problem: Problem, task: str) -> Work:
        from filter import torch_methods as filters

        return filters.TorchWork(getattr(filters, name), problem, task)

    return prepare


def _dynamax(**options: bool) -> Callable[[Problem, str], Work]:
    """Return the `prepare` of dynamax."""

    def prepare(problem: Problem, task: str) -> Work:
        from filter.other_methods import DynamaxWork

        return DynamaxWork(problem, task, **options)

    return prepare


def _filterpy(problem: Problem, task: str) -> Work:
    from filter.other_methods import FilterpyWork

    return FilterpyWork(problem, task)


def _limit(problem: Problem, task: str) -> Work:
    from filter.other_methods import LimitWork

    return LimitWork(problem, task)


def _unfit_long(size: Size, noise: str, task: str) -> str | None:
    if task == "gradients" and size.steps > 5000:
        return "a loop in Python with autograd over so many steps takes minutes to hours"
    return None


def _unfit_scan(size: Size, noise: str, task: str) -> str | None:
    if size.batch * size.steps > (5000 if task == "gradients" else 15000):
        return "compiles for minutes and is several times slower than the sequential filter on one core"
    return None


def _unfit_filterpy(size: Size, noise: str, task: str) -> str | None:
    if task == "gradients":
        return "has no gradients"
    if size.batch * size.steps > 5000:
        return "one sequence and step at a time in Python: small sizes only"
    return None


class _Limit(Method):
    """The C program."""

    @property
    def missing(self) -> str | None:
        """Why it cannot run here and how to correct that, or None."""
        return None if compiler() else "no C compiler: install gcc or clang"


def _unfit_limit(size: Size, noise: str, task: str) -> str | None:
    return "written for noise that varies" if noise == "constant" else None


DYNAMAX = (("jax", "jax"), ("dynamax", "dynamax"))

METHODS: dict[str, Method] = {
    OURS: Method(_ours({}), compiles_at_first=True),
    "kalmanssl, 2 threads": Method(_ours({}), threads=2, compiles_at_first=True),
    "kalmanssl, float64": Method(_ours({}, double=True), timed=False),
    "kalmanssl, adjoint": Method(_ours({"implementation": "adjoint"})),
    "kalmanssl, reference": Method(_ours({"implementation": "reference"}), unfit=_unfit_long),
    "published loop": Method(_torch("published"), unfit=_unfit_long),
    "careful loop": Method(_torch("careful")),
    "torch-kf": Method(_torch("torch_kf"), (("torch_kf", "torch-kf"),), unfit=_unfit_long),
    "dynamax": Method(_dynamax(), DYNAMAX),
    "dynamax, associative scan": Method(_dynamax(parallel=True), DYNAMAX, unfit=_unfit_scan),
    "dynamax, diagonal noise": Method(_dynamax(diagonal=True), DYNAMAX, timed=False),
    "filterpy": Method(_filterpy, (("filterpy", "filterpy"),), unfit=_unfit_filterpy),
    "C limit": _Limit(_limit, unfit=_unfit_limit),
}
