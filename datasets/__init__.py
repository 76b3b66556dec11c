"""Data sets: generators that need no download, and images from folders, zips and arrays."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not lazy, since these functions bear the names of their modules, which would take their places.
from kalmanssl.datasets.dot_videos import DotVideos, dot_videos
from kalmanssl.datasets.ornstein_uhlenbeck import ornstein_uhlenbeck
from kalmanssl.datasets.place_cells import place_cells

if TYPE_CHECKING:
    from kalmanssl.datasets.images import ClassPairs, Images

_HOME = {"ClassPairs": "images", "Images": "images"}

__all__ = ["ClassPairs", "DotVideos", "Images", "dot_videos", "ornstein_uhlenbeck", "place_cells"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"kalmanssl.datasets.{_HOME[name]}"), name)
    raise AttributeError(f"module 'kalmanssl.datasets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
