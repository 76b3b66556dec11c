"""A task of the benchmark: one behavior of one recording, and the bins to fit on."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from measure import Stopwatch

from kalmanssl.data import Recording

__all__ = ["Cache", "Data", "Target", "Task"]

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """A behavior to decode.

    Attributes
    ----------
    name : str
        As in the tables.
    behavior : str
        Its key in `Recording.behavior`.
    unit : str
        Unit of the reported scores.
    factor : float
        Number of these units in one unit of the recording.
    period : float, optional
        Period of an angle, in the unit of the recording.
    """

    name: str
    behavior: str
    unit: str
    factor: float
    period: float | None = None


class Cache:
    """Results that several methods or targets share, with the CPU seconds that they took.

    Attributes
    ----------
    reused : float
        CPU seconds that were saved since the last call of `take_reused`.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[Any, float]] = {}
        self.reused = 0.0

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the stored result of `make`, or call it."""
        if key in self._entries:
            value, seconds = self._entries[key]
            self.reused += seconds
            return value
        with Stopwatch() as stopwatch:
            value = make()
        self._entries[key] = value, stopwatch.cpu
        return value

    def take_reused(self) -> float:
        """Return the CPU seconds that were saved, and count from zero again."""
        seconds, self.reused = self.reused, 0.0
        return seconds


@dataclass(frozen=True, eq=False)
class Data:
    """The two parts of a recording; settings are chosen and models fitted on `train` alone.

    Attributes
    ----------
    name : str
    train, test : Recording
    running_train, running_test : (time,) bool
        Bins in which the animal moves.
    events : bool
        The activity consists of amplitudes of calcium events instead of counts.
    has_traversals : bool
        Running bins are the traversals of a linear track.
    cache : Cache
    """

    name: str
    train: Recording
    test: Recording
    running_train: np.ndarray
    running_test: np.ndarray
    events: bool = False
    has_traversals: bool = False
    cache: Cache = field(default_factory=Cache)

    def part(self, name: str) -> Recording:
        """Return the part "train" or "test"."""
        return self.train if name == "train" else self.test


@dataclass(frozen=True, eq=False)
class Task:
    """One behavior of one recording.

    Attributes
    ----------
    data : Data
    target : Target
    fitted_on : "all" or "running"
        Bins of the training part that decoders are fitted on and chosen by.
    """

    data: Data
    target: Target
    fitted_on: str = "all"

    def truth(self, part: str) -> np.ndarray:
        """Return the behavior in "train" or "test", (time, dims)."""
        values = np.asarray(self.data.part(part).behavior[self.target.behavior], dtype=float)
        return values.reshape(len(values), -1)

    @cached_property
    def train(self) -> np.ndarray:
        """The behavior of the training part, (time, dims)."""
        return self.truth("train")

    @cached_property
    def fit_mask(self) -> np.ndarray:
        """Bins of the training part to fit on, (time,) bool."""
        known = np.isfinite(self.train).all(axis=1)
        return known & self.data.running_train if self.fitted_on == "running" else known

    @property
    def dims(self) -> int:
        """Dimensions of the behavior."""
        return self.train.shape[1]

    @property
    def on_line(self) -> bool:
        """Whether the behavior has one dimension and is not circular."""
        return self.dims == 1 and self.target.period is None
