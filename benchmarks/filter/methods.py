"""All methods by name; what a method needs is imported only when it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from .limit import compiler
from .problems import Problem, Size
from .work import Work

__all__ = ["METHODS", "OURS", "Method"]

OURS = "kalmanssl"


@dataclass(frozen=True)
class Method:
    """A way to filter.

    Attributes
    ----------
    prepare
        Makes the work out of a problem and a task.
    packages
        What must be installed: names to import and to give to pip.
    threads
        How many threads it may use.
    timed
        False for a variant whose accuracy alone is of interest.
    compiles_at_first
        The first call compiles, so that it is never a measure.
    unfit
        Why a size, noise and task is not tried, or None.
    """

    prepare: Callable[[Problem, str], Work]
    packages: tuple[tuple[str, str], ...] = ()
    threads: int = 1
    timed: bool = True
    compiles_at_first: bool = False
    unfit: Callable[[Size, str, str], str | None] = lambda size, noise, task: None

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, and what to do about it."""
        absent = [pip for module, pip in self.packages if find_spec(module) is None]
        return f"not installed: pip install {' '.join(absent)}" if absent else None


def _ours(options: dict[str, str], double: bool = False) -> Callable[[Problem, str], Work]:
    def prepare(problem: Problem, task: str) -> Work:
        import torch

        from . import torch_methods as filters

        return filters.TorchWork(filters.ours(**options), problem, task, torch.float64 if double else torch.float32)

    return prepare


def _torch(name: str) -> Callable[[Problem, str], Work]:
    def prepare(problem: Problem, task: str) -> Work:
        from . import torch_methods as filters

        return filters.TorchWork(getattr(filters, name), problem, task)

    return prepare


def _dynamax(**options: bool) -> Callable[[Problem, str], Work]:
    def prepare(problem: Problem, task: str) -> Work:
        from .other_methods import DynamaxWork

        return DynamaxWork(problem, task, **options)

    return prepare


def _filterpy(problem: Problem, task: str) -> Work:
    from .other_methods import FilterpyWork

    return FilterpyWork(problem, task)


def _limit(problem: Problem, task: str) -> Work:
    from .other_methods import LimitWork

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
    @property
    def missing(self) -> str | None:
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
