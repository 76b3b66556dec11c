"""The losses of lightly and solo-learn, for comparison with ours.

They are imported from the installed packages:

    pip install --no-deps lightly solo-learn

Neither is in the `benchmarks` extra: both depend on torchvision, whose wheel on PyPI does not work with the CPU build
of torch, and solo-learn depends on torch 1.9. The losses need none of this; only the `__init__` of the packages and
some networks do. So the modules of the losses are imported without running any `__init__`, and with an empty module in
place of torchvision.

To add a loss, add a line to `PEERS`. Each loss is a function of two views (pairs, dim) with the constants of our
recipes: temperature 0.2; VICReg's coefficients 25, 25, 1 on the sum over both views (lightly takes the mean of the
variance terms: 50 there is our 25); for BYOL and SimSiam the mean of both directions, without a predictor. lightly's
loss for BYOL is that for SimSiam, which is half of solo-learn's up to a constant.
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
REPLACED = "torchvision"
TEMPERATURE = 0.2


class PeerMissingError(Exception):
    """The loss of a peer cannot be imported; the message says why."""


class Peer(NamedTuple):
    """The package to install, the module with the loss, and a function that makes the loss from the module."""

    package: str
    module: str
    make: Callable[[ModuleType], Loss]


def peer_loss(name: str) -> Loss:
    """Return one of `PEERS`.

    Raises
    ------
    PeerMissingError
        If the package is not installed, or its loss has changed.
    """
    package, module, make = PEERS[name]
    if PathFinder.find_spec(module.partition(".")[0]) is None:
        raise PeerMissingError(f"not installed (pip install --no-deps {package})")
    try:
        with _bare_packages(module.partition(".")[0]):
            return make(importlib.import_module(module))
    except (ImportError, AttributeError, TypeError) as error:
        raise PeerMissingError(f"the installed version of {package} is not supported: {error}") from error


@contextmanager
def _bare_packages(package: str) -> Iterator[None]:
    """Import modules of a package without running its `__init__` files; `sys.modules` is restored afterward."""
    finder = _BareFinder(package)
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if finder.applies(name)}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if finder.applies(name)]:
            del sys.modules[name]
        sys.modules.update(before)


class _BareFinder(MetaPathFinder):
    """Finds modules of one package without `__init__`, and an empty module in place of torchvision."""

    def __init__(self, package: str) -> None:
        self.roots = (package, REPLACED)

    def applies(self, name: str) -> bool:
        return name.partition(".")[0] in self.roots

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.applies(fullname):
            return None
        if fullname.partition(".")[0] == REPLACED:
            return ModuleSpec(fullname, _Empty(), is_package=True)
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.submodule_search_locations is not None:
            bare = ModuleSpec(fullname, None, is_package=True)
            bare.submodule_search_locations = spec.submodule_search_locations
            return bare
        return spec


class _Empty(Loader):
    """Makes modules in which every name is an empty class."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        def empty_class(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__dict__["__getattr__"] = empty_class


def _both_ways(loss: Loss) -> Loss:
    """Return the mean of a loss over both directions, with a stop-gradient for the target."""
    return lambda z, other: 0.5 * (loss(z, other.detach()) + loss(other, z.detach()))


def _solo_simclr(module: ModuleType) -> Loss:
    """Return the SimCLR loss of solo-learn 1.0.2; later versions take all views in one tensor."""
    loss = module.simclr_loss_func
    if [*inspect.signature(loss).parameters][:2] != ["z1", "z2"]:
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
"""Losses by name: the combination of ours that they correspond to, and the package."""
