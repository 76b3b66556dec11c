"""The losses of lightly and of solo-learn, to be measured beside ours.

They are run as they stand in the installed packages:

    pip install --no-deps lightly solo-learn

With their dependencies both would bring torchvision, whose wheel on PyPI does not load beside a build of torch for
processors alone, and solo-learn torch 1.9; so neither is among the benchmarks' extra. No loss needs any of that. What
does are the packages' `__init__`, which are passed over, and networks in files that the losses' import, for which an
empty torchvision stands in while they are loaded.

All are functions of two views (pairs, dim), in the constants of our recipes: temperature 0.2; coefficients 25, 25, 1 on
the sum over both views, where lightly takes their mean for the variance, so that 50 there is our 25; for BYOL and
SimSiam the mean of both directions, without a predictor. lightly's loss for BYOL is that for SimSiam, half of
solo-learn's but for a constant.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["PEERS", "Loss", "PeerMissingError", "peer_loss"]

Loss = Callable[[Tensor, Tensor], Tensor]
STOOD_IN = "torchvision"
TEMPERATURE = 0.2


class PeerMissingError(Exception):
    """A peer's loss that cannot be had, with the reason in a few words."""


class Peer(NamedTuple):
    """Where a loss is: what is installed, the file as a module, and what makes a function of two views of it."""

    package: str
    module: str
    make: Callable[[ModuleType], Loss]


def peer_loss(name: str) -> Loss:
    """Return one of `PEERS`.

    Raises
    ------
    PeerMissingError
        If the package is not installed, or is another than was known.
    """
    package, module, make = PEERS[name]
    if PathFinder.find_spec(module.partition(".")[0]) is None:
        raise PeerMissingError(f"not installed (pip install --no-deps {package})")
    try:
        with _bare_packages(module.partition(".")[0]):
            return make(importlib.import_module(module))
    except (ImportError, AttributeError, TypeError) as error:
        raise PeerMissingError(f"installed, but another {package} than was known: {error}") from error


@contextmanager
def _bare_packages(package: str) -> Iterator[None]:
    """Let modules of a package be imported without any `__init__` of it, and leave no trace of that."""
    ours = _Bare(package)
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if ours.answers(name)}
    sys.meta_path.insert(0, ours)
    try:
        yield
    finally:
        sys.meta_path.remove(ours)
        for name in [name for name in sys.modules if ours.answers(name)]:
            del sys.modules[name]
        sys.modules.update(before)


class _Bare(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self.roots = (package, STOOD_IN)

    def answers(self, name: str) -> bool:
        return name.partition(".")[0] in self.roots

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.answers(fullname):
            return None
        if fullname.partition(".")[0] == STOOD_IN:
            return ModuleSpec(fullname, _Empty(), is_package=True)
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.submodule_search_locations is not None:
            bare = ModuleSpec(fullname, None, is_package=True)
            bare.submodule_search_locations = spec.submodule_search_locations
            return bare
        return spec


class _Empty(Loader):
    """Makes modules in which every name is a class of its own, which nobody makes an object of."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        def name_of_nothing(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__dict__["__getattr__"] = name_of_nothing


def _both_ways(loss: Loss) -> Loss:
    return lambda z, other: 0.5 * (loss(z, other.detach()) + loss(other, z.detach()))


def _solo_simclr(module: ModuleType) -> Loss:
    loss = module.simclr_loss_func
    if [*inspect.signature(loss).parameters][:2] != ["z1", "z2"]:  # later all views in one, and numbers of pairs
        raise TypeError("simclr_loss_func does not take two views, as in 1.0.2")
    return lambda z, other: loss(z, other, temperature=TEMPERATURE)


PEERS: dict[str, Peer] = {
    "SimCLR, lightly": Peer(
        "lightly", "lightly.loss.ntx_ent_loss", lambda module: module.NTXentLoss(temperature=TEMPERATURE)
    ),
    "SimCLR, solo-learn": Peer("solo-learn", "solo.losses.simclr", _solo_simclr),
    "VICReg, lightly": Peer("lightly", "lightly.loss.vicreg_loss", lambda module: module.VICRegLoss(mu_param=50.0)),
    "VICReg, solo-learn": Peer("solo-learn", "solo.losses.vicreg", lambda module: module.vicreg_loss_func),
    "SimSiam, lightly": Peer(
        "lightly",
        "lightly.loss.negative_cosine_similarity",
        lambda module: _both_ways(module.NegativeCosineSimilarity()),
    ),
    "SimSiam, solo-learn": Peer(
        "solo-learn", "solo.losses.simsiam", lambda module: _both_ways(module.simsiam_loss_func)
    ),
    "BYOL, solo-learn": Peer("solo-learn", "solo.losses.byol", lambda module: _both_ways(module.byol_loss_func)),
}
"""By name: which of our losses, and whose."""
