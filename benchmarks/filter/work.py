"""What a method makes of a problem: something that can be called again and again, and its answer for checking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

__all__ = ["GRADIENTS", "Answer", "Work"]

GRADIENTS = ("A", "Q", "y", "R")


@dataclass(frozen=True)
class Answer:
    """What a filter says, as float64; gradients of the log-likelihood summed over all sequences, by name."""

    log_likelihood: np.ndarray  # (batch,)
    mean: np.ndarray | None = None  # (batch, steps, states)
    cov: np.ndarray | None = None  # (batch, steps, states, states)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)


class Work(Protocol):
    """A problem, laid out as the method needs it; calling it is what is timed.

    Attributes
    ----------
    compile_s : float
        Wall seconds spent compiling before the first call; 0 where there is nothing to compile.
    """

    compile_s: float

    def __call__(self) -> Any:
        """Compute everything that the task asks for."""

    def answer(self, result: Any) -> Answer:
        """Bring what a call returned to the common form."""
