"""The result of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

if TYPE_CHECKING:
    from kalmanssl.kalman._state_space_model import LinearGaussianSSM

__all__ = ["FitResult", "FitStatus"]

FitStatus = Literal["converged", "max_iterations", "failed"]


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted model and how the fit went.

    Attributes
    ----------
    model : LinearGaussianSSM
        The fitted model, in the data type of the one that it started from.
    log_likelihood : (iterations + 1,)
        Log-likelihood of all observed values in nats, at the start and after each iteration; float64.
    status : {"converged", "max_iterations", "failed"}
        "converged" if the log-likelihood rose by less than the tolerance; "max_iterations" if the iterations ended
        first; "failed" if a step led to parameters without a finite log-likelihood, or the line search found none that
        are better. The model is then the last good one.
    """

    model: LinearGaussianSSM
    log_likelihood: Tensor
    status: FitStatus

    @property
    def converged(self) -> bool:
        """Whether the tolerance was reached."""
        return self.status == "converged"

    @property
    def n_iterations(self) -> int:
        """Number of iterations."""
        return len(self.log_likelihood) - 1
