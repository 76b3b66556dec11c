"""Noise heads: models of the noise variances, constant or dependent on the input, the state or earlier innovations.

A head returns the diagonal of a noise covariance. `kalmanssl.models.KalmanPredictor` has one head for the observation
noise (Σ_D of the LDM paper) and one for the process noise (Σ_A). To add a head, derive from `NoiseHead` (see there). An
entry in `NOISE_HEADS` makes it available by name.

Source: Mikulasch & Zenke (2026), arXiv 2605.03517, section on noise-aware filtering and Fig. A4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kalmanssl.errors import InputError
from kalmanssl.networks._encoders import Normalize
from kalmanssl.networks._mlp import mlp
from kalmanssl.networks._noise_base import ConstantNoise, NoiseContext, NoiseHead
from kalmanssl.utils.validation import check_integer, check_positive, unknown_name_error

__all__ = ["NOISE_HEADS", "ErrorNoise", "InputNoise", "StateNoise", "VarianceNetwork", "make_noise"]

_SHARPNESS = 10.0  # of the softplus: nearly linear for variances above 0.1, exponential well below


class InputNoise(NoiseHead):
    """Variances from the features of the same step: a multilayer perceptron with softplus output, plus the floor.

    The perceptron has two hidden layers of ReLU units. Its last layer is initialized with zero weights, so the variance
    is `initial_variance` for every input before training.

    Parameters
    ----------
    in_features : int
        Number of features of a step. Features that are divided by their norm do not contain the spike count, which
        largely determines the noise of a population.
    dim : int
        Number of variances.
    hidden : int
        Width of both hidden layers.
    initial_variance, floor : float
        Variance before training, and smallest variance.
    transform : {"none", "sqrt"}
        Transformation of the features, see `Normalize`.
    random_state : int, optional
        Seed of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        dim: int,
        hidden: int = 100,
        *,
        initial_variance: float = 1.0,
        floor: float = 1e-6,
        transform: str = "none",
        random_state: int | None = None,
    ) -> None:
        super().__init__(dim, floor)
        self.in_features = in_features
        self.normalize = Normalize(transform)
        self.network = mlp((in_features, hidden, hidden, dim), random_state=random_state)
        _initialize_constant(self.network, _inverse_softplus(self._excess(initial_variance)))

    def forward(self, context: NoiseContext) -> Tensor:
        """Return the variances (..., dim) for features (..., in_features)."""
        x = _check_width("features", context.features, self.in_features)
        return self.floor + functional.softplus(self.network(self.normalize(x)), beta=_SHARPNESS)


class VarianceNetwork(NoiseHead):
    """The variance network of the LDM paper: it estimates the noise from the variance of the input over its channels.

    With u = w ⊙ x: y = ReLU(W₁ (u − ū)² + b₁), v = W₂ y + b₂ + floor, where ū is the mean over the channels of one
    step. It is designed for pixels that share one noise level. Before training, v(x) is the population variance over
    the channels plus twice the floor. W₁, W₂ and b₂ are the softplus of free parameters and therefore positive. (The
    paper's code uses absolute values and an unconstrained b₂, with which the output can be zero or negative.) b₁ is
    free, so that the variance of the signal itself can be subtracted.

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


class StateNoise(NoiseHead):
    """Variances from the filtered mean of the state at the step before.

    A perceptron with one hidden layer of ReLU units and softplus output, plus the floor. (The paper uses an
    exponential, which overflows for large states.) The last layer is initialized as in `InputNoise`.

    Parameters
    ----------
    state_dim : int
        Dimension of the state.
    dim : int
        Number of variances.
    hidden : int
        Width of the hidden layer.
    initial_variance, floor : float
        Variance before training, and smallest variance.
    random_state : int, optional
        Seed of the initial weights.
    """

    uses_state = True

    def __init__(
        self,
        state_dim: int,
        dim: int,
        hidden: int = 100,
        *,
        initial_variance: float = 1.0,
        floor: float = 1e-6,
        random_state: int | None = None,
    ) -> None:
        super().__init__(dim, floor)
        self.state_dim = state_dim
        self.network = mlp((state_dim, hidden, dim), random_state=random_state)
        _initialize_constant(self.network, _inverse_softplus(self._excess(initial_variance)))

    def forward(self, context: NoiseContext) -> Tensor:
        """Return the variances (..., dim) for a state (..., state_dim)."""
        state = _check_width("state", context.state, self.state_dim)
        return self.floor + functional.softplus(self.network(state), beta=_SHARPNESS)


class ErrorNoise(NoiseHead):
    """Variances from the innovations of the last steps: floor + maximum · sigmoid(multilayer perceptron).

    It is intended as process noise that increases after large prediction errors. The innovations are detached and end
    one step before the present one. (The paper's code includes the present innovation, so its prediction depends on the
    value that it predicts.) The last layer is initialized with zero weights, so the variance is `initial_variance`
    before training.

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
    initial_variance, floor : float
        Variance before training, and smallest variance.
    maximum : float
        The variance stays below floor + maximum.
    random_state : int, optional
        Seed of the initial weights.
    """

    def __init__(
        self,
        latent_dim: int,
        dim: int,
        window: int = 10,
        hidden: int = 20,
        *,
        initial_variance: float = 1.0,
        floor: float = 1e-6,
        maximum: float = 10.0,
        random_state: int | None = None,
    ) -> None:
        super().__init__(dim, floor)
        check_integer("window", window, 1)
        check_positive("maximum", maximum)
        fraction = self._excess(initial_variance) / maximum
        if not fraction < 1:
            raise InputError(
                f"initial_variance {initial_variance:g} must be below maximum, got maximum={maximum:g}",
                parameter="initial_variance",
            )
        self.latent_dim, self.history, self.maximum = latent_dim, window, maximum
        self.network = mlp((window * latent_dim, hidden, dim), random_state=random_state)
        _initialize_constant(self.network, math.log(fraction / (1 - fraction)))

    def forward(self, context: NoiseContext) -> Tensor:
        """Return the variances (batch, dim) for innovations (batch, window, latent_dim)."""
        innovations = _check_width("innovations", context.innovations, self.latent_dim)
        if innovations.ndim != 3 or innovations.shape[1] != self.history:
            raise InputError(
                f"innovations must have shape (batch, {self.history}, {self.latent_dim}), got "
                f"{tuple(innovations.shape)}",
                parameter="innovations",
            )
        return self.floor + self.maximum * self.network(innovations.detach().flatten(-2)).sigmoid()


NOISE_HEADS: dict[str, Callable[..., NoiseHead]] = {
    "constant": ConstantNoise,
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


def _inverse_softplus(y: float) -> float:
    """Solve softplus(u) = y for the sharpness of the heads, without overflow of exp(y) or cancellation near 1."""
    scaled = _SHARPNESS * y
    return (scaled + math.log(-math.expm1(-scaled))) / _SHARPNESS


def _initialize_constant(network: nn.Sequential, output: float) -> None:
    """Initialize the last layer so that the network returns `output` for every input."""
    last = network[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, output)


def _check_width(name: str, x: Tensor | None, width: int) -> Tensor:
    """Return a field of the context after checking that it is there and has `width` columns."""
    if x is None:
        raise InputError(f"{name} is missing in the context, but this noise head needs it", parameter=name)
    if x.shape[-1] != width:
        raise InputError(
            f"{name} must have {width} columns, as the noise head was built, got shape {tuple(x.shape)}", parameter=name
        )
    return x
