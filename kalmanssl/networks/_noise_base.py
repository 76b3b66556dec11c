"""The interface of noise heads, and constant noise."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_integer, check_positive

__all__ = ["ConstantNoise", "NoiseContext", "NoiseHead"]


@dataclass(frozen=True)
class NoiseContext:
    """What a noise head may use to compute the variances of a step: nothing in it depends on the latent of that step.

    Attributes
    ----------
    features : (batch, time, features) or (batch, features), optional
        Input of the encoder. A head that uses neither state nor innovations is called once for a whole sequence, and
        the features then have a time axis. Any other head is called once per step with the features of that step.
    state : (batch, state), optional
        Filtered mean of the state at the step before; at the first step, the initial mean. Given to heads with
        `uses_state`.
    innovations : (batch, history, latent), optional
        Innovations of the `history` steps before, the latest last. Zero before the first step and in missing channels.
        Given to heads with ``history > 0``.
    """

    features: Tensor | None = None
    state: Tensor | None = None
    innovations: Tensor | None = None


class NoiseHead(nn.Module, ABC):
    """Base class of the noise heads.

    A subclass defines ``forward(context)``, which returns variances of at least `floor`. It declares with `uses_state`
    and `history` what it needs from the filter. By default it needs nothing, and the filter processes whole sequences
    with compiled code. Otherwise the filter and the noise are computed together, step by step. For example, process
    noise that follows the size of recent innovations:

    >>> class AdaptiveNoise(NoiseHead):
    ...     def __init__(self, dim, history=10, floor=1e-4):
    ...         super().__init__(dim, floor)
    ...         self.history = history
    ...         self.log_gain = nn.Parameter(torch.zeros(dim))
    ...
    ...     def forward(self, context):
    ...         size = context.innovations.square().mean((1, 2))  # (batch,)
    ...         return self.floor + self.log_gain.exp() * size[:, None]
    >>> context = NoiseContext(innovations=torch.full((1, 10, 4), 3.0))  # (batch, history, latent)
    >>> AdaptiveNoise(dim=2)(context).detach()
    tensor([[9.0001, 9.0001]])

    A variance that depends on the features of the same step makes the predictive distribution conditional on side
    information. It is then no longer a density given the past alone.

    Parameters
    ----------
    dim : int
        Number of variances.
    floor : float
        Smallest variance.

    Attributes
    ----------
    uses_state : bool
        Whether `forward` needs ``context.state``.
    history : int
        Number of earlier innovations that `forward` needs in ``context.innovations``.
    parameter_group : {"noise", "dynamics"}
        Learning-rate group of the parameters, see `kalmanssl.models.Trainable`.

    Raises
    ------
    InputError
        If `dim` or `floor` is not positive.
    """

    uses_state: bool = False
    history: int = 0
    parameter_group: ClassVar[Literal["noise", "dynamics"]] = "noise"

    def __init__(self, dim: int, floor: float) -> None:
        super().__init__()
        check_integer("dim", dim, 1)
        check_positive("floor", floor)
        self.dim, self.floor = dim, floor

    @abstractmethod
    def forward(self, context: NoiseContext) -> Tensor:
        """Compute the variances.

        Parameters
        ----------
        context : NoiseContext

        Returns
        -------
        Tensor
            (dim,) for constant noise; (batch, time, dim) when called for a whole sequence; (batch, dim) when called for
            one step.
        """

    @property
    def is_sequential(self) -> bool:
        """Whether the variances depend on results of the filter at earlier steps."""
        return self.uses_state or self.history > 0

    def _excess(self, initial_variance: float) -> float:
        """Difference between the initial variance and the floor."""
        if not (initial_variance > self.floor and math.isfinite(initial_variance)):
            raise InputError(
                f"initial_variance must be above the floor {self.floor:g}, got {initial_variance}",
                parameter="initial_variance",
            )
        return initial_variance - self.floor


class ConstantNoise(NoiseHead):
    """One variance for each channel, the same at all times: floor + exp(log_variance).

    Parameters
    ----------
    dim : int
        Number of channels.
    initial_variance : float
        Variance before training.
    floor : float
        Smallest variance.
    """

    parameter_group: ClassVar[Literal["noise", "dynamics"]] = "dynamics"

    def __init__(self, dim: int, *, initial_variance: float = 1.0, floor: float = 1e-6) -> None:
        super().__init__(dim, floor)
        self.log_variance = nn.Parameter(torch.full((dim,), math.log(self._excess(initial_variance))))

    @torch.no_grad()
    def set_variance(self, variance: Tensor) -> None:
        """Set the variances to those given, (dim,), or slightly above the floor where they are smaller than that."""
        self.log_variance.copy_((variance - self.floor).clamp_min(self.floor).log())

    def forward(self, context: NoiseContext | None = None) -> Tensor:
        """Return the variances (dim,); `context` is not used."""
        return self.floor + self.log_variance.exp()
