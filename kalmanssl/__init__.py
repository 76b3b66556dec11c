"""kalmanssl: latent dynamics from neural recordings without labels, decoded with intervals that can be trusted.

The names below are imported when they are first used, so that ``import kalmanssl`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import kalmanssl.datasets as datasets
    import kalmanssl.identifiability as identifiability
    import kalmanssl.kalman as kalman
    import kalmanssl.recipes as recipes
    from kalmanssl.assumptions import check_assumptions
    from kalmanssl.decoding import PositionDecoder
    from kalmanssl.errors import CollapseError, DivergenceError, InputError
    from kalmanssl.estimator import KalmanSSL
    from kalmanssl.pair_model import PairModel
    from kalmanssl.path import LatentPath
    from kalmanssl.recording import Recording
    from kalmanssl.rehearsal import rehearse

__version__ = version("kalmanssl")

_HOME = {
    "CollapseError": "errors",
    "DivergenceError": "errors",
    "InputError": "errors",
    "KalmanSSL": "estimator",
    "LatentPath": "path",
    "PairModel": "pair_model",
    "PositionDecoder": "decoding",
    "Recording": "recording",
    "check_assumptions": "assumptions",
    "rehearse": "rehearsal",
}
_MODULES = ("datasets", "identifiability", "kalman", "recipes")

__all__ = [
    "CollapseError",
    "DivergenceError",
    "InputError",
    "KalmanSSL",
    "LatentPath",
    "PairModel",
    "PositionDecoder",
    "Recording",
    "check_assumptions",
    "datasets",
    "identifiability",
    "kalman",
    "recipes",
    "rehearse",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"kalmanssl.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"kalmanssl.{name}")
    raise AttributeError(f"module 'kalmanssl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
