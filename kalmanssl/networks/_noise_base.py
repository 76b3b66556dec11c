"""The interface of noise heads, constant noise, and noise that varies around a constant within bounds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_condition, check_integer, check_positive

__all__ = ["BoundedNoise", "ConstantNoise", "NoiseContext", "NoiseHead"]


@dataclass(frozen=True)
class NoiseContext:
    """What a noise head may use to compute the variances of a step: its features, and results of the filter before it.

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
    information. It is then no longer a density given the past alone. If the encoder is trained together with such a
    head, it can put the latents where the head predicts a small variance. `kalmanssl.KalmanSSL` therefore fits noise
    that varies after the encoder, with the encoder fixed.

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

    Raises
    ------
    InputError
        If `dim` or `floor` is not positive.
    """

    uses_state: bool = False
    history: int = 0

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

    def observed(self, context: NoiseContext) -> Tensor | None:
        """Return which steps have an observation, (batch, time) bool, for features of a whole sequence.

        The filter treats the latents of other steps as missing. None, the default, stands for all steps. The method is
        called for the observation noise only.
        """
        return None

    @property
    def is_sequential(self) -> bool:
        """Whether the variances depend on results of the filter at earlier steps."""
        return self.uses_state or self.history > 0

    def network_parameters(self) -> list[nn.Parameter]:
        """Return the parameters in the learning-rate group "noise"; the others belong to the group "dynamics".

        See `kalmanssl.models.Trainable`.
        """
        return list(self.parameters())

    def _excess(self, initial_variance: float) -> float:
        """Return the difference between the initial variance and the floor."""
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

    def network_parameters(self) -> list[nn.Parameter]:
        """Return no parameters: the constant variance belongs to the dynamics."""
        return []


class BoundedNoise(ConstantNoise):
    """Base class of noise that varies around a constant variance, within bounds.

    The variances are ``floor + exp(log_variance + limit * tanh(u / limit))`` with ``limit = log(max_ratio)``, where u
    is the `log_factor` that a subclass computes from the context. A variance is therefore at most `max_ratio` times
    larger or smaller than the constant variance, for any input. The constant variance is learned like that of
    `ConstantNoise`, so that it follows the scale of the latents.

    Parameters
    ----------
    dim : int
        Number of channels.
    initial_variance, floor : float
        Constant variance before training, and smallest variance.
    max_ratio : float
        Largest ratio between a variance and the constant variance, above 1.

    Attributes
    ----------
    varies : bool
        Whether the variances depend on the context; True unless changed by `set_varying`. Otherwise the head is
        constant noise, and the filter is as fast as with `ConstantNoise`.
    needs_state, needs_history : bool, int
        What `uses_state` and `history` are while the variances depend on the context; set by the subclass.

    Raises
    ------
    InputError
        If a size, a variance or `max_ratio` is out of range.
    """

    needs_state: bool = False
    needs_history: int = 0

    def __init__(
        self, dim: int, *, initial_variance: float = 1.0, floor: float = 1e-6, max_ratio: float = 10.0
    ) -> None:
        super().__init__(dim, initial_variance=initial_variance, floor=floor)
        check_condition("max_ratio", max_ratio, 1 < max_ratio < math.inf, "above 1 and finite")
        self.max_ratio = max_ratio
        self.register_buffer("is_varying", torch.tensor(True))

    is_varying: Tensor

    @property
    def varies(self) -> bool:
        """Whether the variances depend on the context."""
        return bool(self.is_varying)

    def set_varying(self, varies: bool) -> None:
        """Let the variances depend on the context, or keep them constant."""
        self.is_varying.fill_(varies)

    @property
    def uses_state(self) -> bool:  # type: ignore[override]
        """Whether `forward` needs ``context.state``."""
        return self.needs_state and self.varies

    @property
    def history(self) -> int:  # type: ignore[override]
        """Number of earlier innovations that `forward` needs in ``context.innovations``."""
        return self.needs_history if self.varies else 0

    @abstractmethod
    def log_factor(self, context: NoiseContext) -> Tensor:
        """Compute the logarithm of the ratio to the constant variance before it is bounded, (..., dim)."""

    def fit_inputs(self, context: NoiseContext) -> None:
        """Set the location and scale of the inputs to those of a sample of the data; by default nothing is set.

        Parameters
        ----------
        context : NoiseContext
            Features (samples, features), states (samples, state) and innovations (samples, latent).
        """

    def forward(self, context: NoiseContext | None = None) -> Tensor:
        """Return the variances, (..., dim) as `log_factor` returns them, or (dim,) while they do not vary."""
        if not self.varies:
            return super().forward()
        if context is None:
            raise InputError("context is needed by noise that varies", parameter="context")
        limit = math.log(self.max_ratio)
        bounded = limit * (self.log_factor(context) / limit).tanh()
        return self.floor + (self.log_variance + bounded).exp()

    def network_parameters(self) -> list[nn.Parameter]:
        """Return the parameters other than the constant variance."""
        return [parameter for parameter in self.parameters() if parameter is not self.log_variance]
