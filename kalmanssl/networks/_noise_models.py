"""Noise heads: models of the noise variances, constant or dependent on the input, the state or earlier innovations.

A head returns the diagonal of a noise covariance. `kalmanssl.models.KalmanPredictor` has one head for the observation
noise (Σ_D of the LDM paper) and one for the process noise (Σ_A). To add a head, derive from `NoiseHead` or
`BoundedNoise` (see there). An entry in `NOISE_HEADS` makes it available by name.

Source: Mikulasch & Zenke (2026), arXiv 2605.03517, section on noise-aware filtering and Fig. A4. In the paper the
variances have no upper bound and start at one. Here they vary within a factor around a constant that is learned.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kalmanssl.errors import InputError
from kalmanssl.networks._encoders import Normalize
from kalmanssl.networks._mlp import mlp
from kalmanssl.networks._noise_base import BoundedNoise, ConstantNoise, NoiseContext, NoiseHead
from kalmanssl.utils.validation import check_integer, unknown_name_error

__all__ = [
    "NOISE_HEADS", "ActivityNoise", "ErrorNoise", "InputNoise", "StateNoise", "VarianceNetwork", "make_noise",
]  # fmt: skip

_LARGEST_INPUT = 3.0  # standardized inputs of a network are limited to this size, so that it does not extrapolate


class _NetworkNoise(BoundedNoise):
    """Bounded noise whose logarithm is a network of standardized inputs; the last layer starts at zero."""

    def __init__(self, dim: int, n_inputs: int, network: nn.Sequential, **settings: Any) -> None:
        super().__init__(dim, **settings)
        self.network = network
        last = network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
        self.register_buffer("input_mean", torch.zeros(n_inputs))
        self.register_buffer("input_scale", torch.ones(n_inputs))

    input_mean: Tensor
    input_scale: Tensor

    @abstractmethod
    def inputs(self, context: NoiseContext) -> Tensor:
        """Return the inputs of the network, (..., n_inputs)."""

    @torch.no_grad()
    def fit_inputs(self, context: NoiseContext) -> None:
        """Set the mean and the standard deviation of the inputs to those of a sample of the data."""
        self._standardize(self.inputs(context))

    def _standardize(self, inputs: Tensor) -> None:
        inputs = inputs.flatten(0, -2)
        self.input_mean.copy_(inputs.mean(0))
        self.input_scale.copy_(inputs.std(0))
        self.input_scale[self.input_scale < 1e-6] = 1.0

    def log_factor(self, context: NoiseContext) -> Tensor:
        """Return the output of the network, (..., dim)."""
        x = (self.inputs(context) - self.input_mean) / self.input_scale
        return self.network(x.clamp(-_LARGEST_INPUT, _LARGEST_INPUT))


class ActivityNoise(_NetworkNoise):
    """Variances from the total activity of the same step: a quadratic function of its logarithm, within bounds.

    The total activity of counts is their sum N; that of any other signal is the sum of squares. u is the standardized
    ``log(1 + N)``. The logarithm of the variance is a quadratic function of u for each channel. A pattern of activity
    that is divided by its norm is noisier the fewer spikes it consists of (the variance is about proportional to 1/N),
    and the state often changes faster while the population is active.

    The total activity says nothing about the direction of the pattern. Conditional on it, the predictive distribution
    is therefore still a proper density of the latent, unlike with a network of all features (`InputNoise`). Only the
    latent of a step without any activity is known from its total; the filter treats such a step as missing.

    Parameters
    ----------
    dim : int
        Number of variances.
    counts : bool
        Whether the features are counts or other non-negative activity.
    initial_variance, floor, max_ratio : float
        See `BoundedNoise`.
    """

    def __init__(self, dim: int, *, counts: bool = True, **settings: float) -> None:
        check_integer("dim", dim, 1)
        super().__init__(dim, 1, nn.Sequential(_Quadratic(), nn.Linear(2, dim, bias=False)), **settings)
        self.counts = counts

    def network_parameters(self) -> list[nn.Parameter]:
        """Return no parameters: there are two for each channel, which are learned as fast as the constant variance."""
        return []

    def inputs(self, context: NoiseContext) -> Tensor:
        """Return the logarithm of one plus the total activity, (..., 1)."""
        return self._total(context).log1p()

    def observed(self, context: NoiseContext) -> Tensor | None:
        """Return which steps have any activity, (batch, time) bool; None if all have, or the noise does not vary."""
        if not self.varies:
            return None
        active = self._total(context).squeeze(-1) > 0
        return None if bool(active.all()) else active

    def _total(self, context: NoiseContext) -> Tensor:
        x = _require("features", context.features)
        return (x if self.counts else x.square()).sum(-1, keepdim=True)


class _Quadratic(nn.Module):
    """Map u (..., 1) to (u, u² - 1)."""

    def forward(self, u: Tensor) -> Tensor:
        return torch.cat([u, u.square() - 1], -1)


class InputNoise(_NetworkNoise):
    """Variances from all features of the same step: a multilayer perceptron, within bounds.

    The perceptron has two hidden layers of ReLU units. Before training, the variance is `initial_variance` for every
    input.

    Parameters
    ----------
    in_features : int
        Number of features of a step. Features that are divided by their norm do not contain the spike count, which
        largely determines the noise of a population.
    dim : int
        Number of variances.
    hidden : int
        Width of both hidden layers.
    transform : {"none", "sqrt"}
        Transformation of the features, see `Normalize`.
    random_state : int, optional
        Seed of the initial weights.
    initial_variance, floor, max_ratio : float
        See `BoundedNoise`.
    """

    def __init__(
        self,
        in_features: int,
        dim: int,
        hidden: int = 100,
        *,
        transform: str = "none",
        random_state: int | None = None,
        **settings: float,
    ) -> None:
        network = mlp((in_features, hidden, hidden, dim), random_state=random_state)
        super().__init__(dim, in_features, network, **settings)
        self.in_features = in_features
        self.normalize = Normalize(transform)

    def inputs(self, context: NoiseContext) -> Tensor:
        """Return the transformed features (..., in_features)."""
        return self.normalize(_check_width("features", context.features, self.in_features))


class VarianceNetwork(NoiseHead):
    """The variance network of the LDM paper: it estimates the noise from the variance of the input over its channels.

    With u = w ⊙ x: y = ReLU(W₁ (u − ū)² + b₁), v = W₂ y + b₂ + floor, where ū is the mean over the channels of one
    step. It is designed for pixels that share one noise level; the variance has no upper bound. Before training, v(x)
    is the population variance over the channels plus twice the floor. W₁, W₂ and b₂ are the softplus of free parameters
    and therefore positive. (The paper's code uses absolute values and an unconstrained b₂, with which the output can be
    zero or negative.) b₁ is free, so that the variance of the signal itself can be subtracted.

    Parameters
    ----------
    in_features : int
        Number of channels, and width of the hidden layer.
    dim : int
        Number of variances.
    floor : float
        Smallest variance.
    """

    def __init__(self, in_features: int, dim: int, *, floor: float = 1e-5) -> None:
        super().__init__(dim, floor)
        check_integer("in_features", in_features, 2)
        self.in_features = in_features
        start = math.log(math.expm1(1 / in_features))
        self.gain = nn.Parameter(torch.ones(in_features))
        self.raw_hidden_weight = nn.Parameter(torch.full((in_features, in_features), start))
        self.hidden_bias = nn.Parameter(torch.zeros(in_features))
        self.raw_weight = nn.Parameter(torch.full((dim, in_features), start))
        self.raw_bias = nn.Parameter(torch.full((dim,), math.log(math.expm1(floor))))

    def forward(self, context: NoiseContext) -> Tensor:
        """Return the variances (..., dim) for features (..., in_features)."""
        scaled = _check_width("features", context.features, self.in_features) * self.gain
        squared = (scaled - scaled.mean(-1, keepdim=True)).square()
        hidden = functional.linear(squared, functional.softplus(self.raw_hidden_weight), self.hidden_bias).relu()
        return self.floor + functional.linear(
            hidden, functional.softplus(self.raw_weight), functional.softplus(self.raw_bias)
        )


class StateNoise(_NetworkNoise):
    """Variances from the filtered mean of the state at the step before, within bounds.

    A perceptron with one hidden layer of ReLU units. (The paper uses an exponential without bounds, which overflows for
    large states.) Before training, the variance is `initial_variance` for every state.

    Parameters
    ----------
    state_dim : int
        Dimension of the state.
    dim : int
        Number of variances.
    hidden : int
        Width of the hidden layer.
    random_state : int, optional
        Seed of the initial weights.
    initial_variance, floor, max_ratio : float
        See `BoundedNoise`.
    """

    needs_state = True

    def __init__(
        self, state_dim: int, dim: int, hidden: int = 100, *, random_state: int | None = None, **settings: float
    ) -> None:
        super().__init__(dim, state_dim, mlp((state_dim, hidden, dim), random_state=random_state), **settings)
        self.state_dim = state_dim

    def inputs(self, context: NoiseContext) -> Tensor:
        """Return the state (..., state_dim)."""
        return _check_width("state", context.state, self.state_dim)


class ErrorNoise(_NetworkNoise):
    """Variances from the innovations of the last steps: a multilayer perceptron, within bounds.

    It is intended as process noise that increases after large prediction errors. The innovations are detached and end
    one step before the present one. (The paper's code includes the present innovation, so its prediction depends on the
    value that it predicts.) Before training, the variance is `initial_variance` for all innovations.

    Parameters
    ----------
    latent_dim : int
        Dimension of the innovations.
    dim : int
        Number of variances.
    window : int
        Number of earlier innovations.
    hidden : int
        Width of the hidden layer.
    random_state : int, optional
        Seed of the initial weights.
    initial_variance, floor, max_ratio : float
        See `BoundedNoise`.
    """

    def __init__(
        self,
        latent_dim: int,
        dim: int,
        window: int = 10,
        hidden: int = 20,
        *,
        random_state: int | None = None,
        **settings: float,
    ) -> None:
        check_integer("window", window, 1)
        network = mlp((window * latent_dim, hidden, dim), random_state=random_state)
        super().__init__(dim, window * latent_dim, network, **settings)
        self.latent_dim, self.needs_history = latent_dim, window

    @torch.no_grad()
    def fit_inputs(self, context: NoiseContext) -> None:
        """Set the scale of each channel to that of innovations (samples, latent); their mean stays zero."""
        scale = _check_width("innovations", context.innovations, self.latent_dim).square().mean(0).sqrt()
        self.input_scale.copy_(scale.clamp_min(1e-6).repeat(self.needs_history))

    def inputs(self, context: NoiseContext) -> Tensor:
        """Return innovations (batch, window, latent_dim) as (batch, window * latent_dim)."""
        innovations = _check_width("innovations", context.innovations, self.latent_dim)
        if innovations.ndim != 3 or innovations.shape[1] != self.needs_history:
            raise InputError(
                f"innovations must have shape (batch, {self.needs_history}, {self.latent_dim}), got "
                f"{tuple(innovations.shape)}",
                parameter="innovations",
            )
        return innovations.detach().flatten(-2)


NOISE_HEADS: dict[str, Callable[..., NoiseHead]] = {
    "constant": ConstantNoise,
    "activity": ActivityNoise,
    "input": InputNoise,
    "variance-network": VarianceNetwork,
    "state": StateNoise,
    "errors": ErrorNoise,
}
"""The noise heads by name."""


def make_noise(name: str, **settings: Any) -> NoiseHead:
    """Return the noise head of that name, constructed with `settings`.

    Raises
    ------
    InputError
        If there is no head of that name, or it does not accept these settings.
    """
    if name not in NOISE_HEADS:
        raise unknown_name_error("noise", name, NOISE_HEADS)
    try:
        return NOISE_HEADS[name](**settings)
    except TypeError as error:
        raise InputError(f"noise {name!r}: {error}") from error


def _require(name: str, x: Tensor | None) -> Tensor:
    """Return a field of the context after checking that it is there."""
    if x is None:
        raise InputError(f"{name} is missing in the context, but this noise head needs it", parameter=name)
    return x


def _check_width(name: str, x: Tensor | None, width: int) -> Tensor:
    """Return a field of the context after checking that it is there and has `width` columns."""
    x = _require(name, x)
    if x.shape[-1] != width:
        raise InputError(
            f"{name} must have {width} columns, as the noise head was built, got shape {tuple(x.shape)}", parameter=name
        )
    return x
