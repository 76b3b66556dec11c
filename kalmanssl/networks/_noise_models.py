"""Covariance heads: how noisy a channel is, constant or told by the input, the state or recent errors.

A head returns variances (the diagonal of a covariance), always at least `floor` > 0, and says in `needs` what
it is called with. They serve as observation noise of the filter (Σ_D of the LDM paper) or as process noise
(Σ_A); a common scale e^s, if wanted, is the caller's. To add one: write a `NoiseHead` below and give it a
line in `NOISES`.

Noise from the *input of the same bin* makes N(z_t; ẑ_t, Σ_t) a model given side information, not a density
predicted from the past alone. `StateNoise` and `ErrorNoise` use the past alone.

Source: Mikulasch & Zenke (2026), arXiv 2605.03517, section on noise-aware filtering and Fig. A4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from kalmanssl.errors import InputError
from kalmanssl.networks._encoders import Normalize, mlp
from kalmanssl.utils.validation import unknown_name

__all__ = [
    "NOISES",
    "ConstantNoise",
    "ErrorNoise",
    "InputNoise",
    "NoiseHead",
    "StateNoise",
    "VarianceNetwork",
    "make_noise",
]

_SHARPNESS = 10.0  # of the softplus: nearly linear for variances above 0.1, exponential well below


class NoiseHead(nn.Module):
    """Base of the heads.

    Attributes
    ----------
    dim : int
        Number of variances.
    floor : float
        Smallest variance that the head returns.
    needs : {"nothing", "input", "state", "errors"}
        What `forward` is called with: no argument, the features (batch, time, features), the previous
        posterior mean (batch, state), or the errors before the present step (batch, window, latent).
    """

    needs: ClassVar[str]

    def __init__(self, dim: int, floor: float) -> None:
        super().__init__()
        if dim < 1:
            raise InputError(f"dim must be at least 1, got {dim}")
        if not (floor > 0 and math.isfinite(floor)):
            raise InputError(f"floor must be a positive variance, got {floor}")
        self.dim, self.floor = dim, floor

    def _above_floor(self, initial_variance: float) -> float:
        """How far the initial variance lies above the floor."""
        if not (initial_variance > self.floor and math.isfinite(initial_variance)):
            raise InputError(f"initial_variance must be above the floor {self.floor:g}, got {initial_variance}")
        return initial_variance - self.floor


class ConstantNoise(NoiseHead):
    """One variance for each channel, the same at all times: floor + exp(log_variance).

    Parameters
    ----------
    dim : int
        Number of channels.
    initial_variance : float
        Variance at the start.
    floor : float
        Smallest variance.
    """

    needs: ClassVar[str] = "nothing"

    def __init__(self, dim: int, *, initial_variance: float = 1.0, floor: float = 1e-6) -> None:
        super().__init__(dim, floor)
        self.log_variance = nn.Parameter(torch.full((dim,), math.log(self._above_floor(initial_variance))))

    def forward(self) -> Tensor:
        """Return the variances (dim,)."""
        return self.floor + self.log_variance.exp()


class InputNoise(NoiseHead):
    """Perceptron from the input of each bin to its variances: two hidden ReLU layers, softplus, floor.

    The last layer starts with zero weights and the bias that gives `initial_variance`, so every input has the
    same noise until training finds a reason for another.

    Parameters
    ----------
    in_features : int
        Features of a bin; an encoder's `features` will do (then `n_features`), but features divided by their
        norm no longer tell the spike count, which is what the noise of a population mostly follows.
    dim : int
        Number of variances.
    hidden : int
        Width of both hidden layers.
    initial_variance, floor : float
        Variance at the start, and the smallest.
    transform : {"none", "sqrt"}
        What is done to the features first, see `Normalize`.
    random_state : int, optional
        Seed of the initial weights.
    """

    needs: ClassVar[str] = "input"

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
        _start_constant(self.network, _inverse_softplus(self._above_floor(initial_variance)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the variances (..., dim) for features `x` (..., in_features)."""
        _check_width("x", x, self.in_features)
        return self.floor + functional.softplus(self.network(self.normalize(x)), beta=_SHARPNESS)


class VarianceNetwork(NoiseHead):
    """The paper's variance network: reads the noise off the spread of the input over its own channels.

    With u = w ⊙ x: y = ReLU(W₁ (u − ū)² + b₁), v = W₂ y + b₂ + floor, where ū is the mean over the channels
    of one bin. It is made for pixels that share one noise level. At the start v(x) is the population variance
    of the channels plus twice the floor. W₁, W₂ and b₂ are softplus of free parameters and so positive, where
    the paper's code takes absolute values and an unconstrained b₂, with which outputs reach zero or less; b₁
    is free, so that the variance of the signal itself can be taken off.

    Parameters
    ----------
    in_features : int
        Channels of a bin, also the width of the hidden layer.
    dim : int
        Number of variances.
    floor : float
        Smallest variance.
    """

    needs: ClassVar[str] = "input"

    def __init__(self, in_features: int, dim: int, *, floor: float = 1e-5) -> None:
        super().__init__(dim, floor)
        if in_features < 2:
            raise InputError(f"the variance over the channels needs at least 2 in_features, got {in_features}")
        self.in_features = in_features
        start = math.log(math.expm1(1 / in_features))
        self.gain = nn.Parameter(torch.ones(in_features))
        self.raw_hidden_weight = nn.Parameter(torch.full((in_features, in_features), start))
        self.hidden_bias = nn.Parameter(torch.zeros(in_features))
        self.raw_weight = nn.Parameter(torch.full((dim, in_features), start))
        self.raw_bias = nn.Parameter(torch.full((dim,), math.log(math.expm1(floor))))

    def forward(self, x: Tensor) -> Tensor:
        """Return the variances (..., dim) for inputs `x` (..., in_features)."""
        _check_width("x", x, self.in_features)
        scaled = x * self.gain
        squared = (scaled - scaled.mean(-1, keepdim=True)).square()
        hidden = functional.linear(squared, functional.softplus(self.raw_hidden_weight), self.hidden_bias).relu()
        return self.floor + functional.linear(
            hidden, functional.softplus(self.raw_weight), functional.softplus(self.raw_bias)
        )


class StateNoise(NoiseHead):
    """Variances from where the filter believed itself to be one step before.

    One hidden ReLU layer, softplus, floor. The paper's exponential is replaced by the softplus, which a state
    far out cannot overflow. The last layer starts as in `InputNoise`.

    Parameters
    ----------
    state_dim : int
        Dimension of the state.
    dim : int
        Number of variances.
    hidden : int
        Width of the hidden layer.
    initial_variance, floor : float
        Variance at the start, and the smallest.
    random_state : int, optional
        Seed of the initial weights.
    """

    needs: ClassVar[str] = "state"

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
        _start_constant(self.network, _inverse_softplus(self._above_floor(initial_variance)))

    def forward(self, previous_mean: Tensor) -> Tensor:
        """Return the variances (batch, dim) for the previous step's posterior mean (batch, state_dim)."""
        _check_width("previous_mean", previous_mean, self.state_dim)
        return self.floor + functional.softplus(self.network(previous_mean), beta=_SHARPNESS)


class ErrorNoise(NoiseHead):
    """Variances from the prediction errors of the last steps: floor + maximum · sigmoid(perceptron).

    Meant as process noise that opens up after a surprise. The errors are detached and end one step before the
    present (the paper's code includes the present one, so that its prediction has seen what it predicts). The
    last layer starts with zero weights and the bias that gives `initial_variance`.

    Parameters
    ----------
    latent_dim : int
        Dimension of the errors.
    dim : int
        Number of variances.
    window : int
        Steps looked back.
    hidden : int
        Width of the hidden layer.
    initial_variance, floor : float
        Variance at the start, and the smallest.
    maximum : float
        The variance stays below floor + maximum.
    random_state : int, optional
        Seed of the initial weights.
    """

    needs: ClassVar[str] = "errors"

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
        if window < 1:
            raise InputError(f"window must be at least 1 step, got {window}")
        share = self._above_floor(initial_variance) / maximum if maximum > 0 else math.inf
        if not share < 1:
            raise InputError(f"initial_variance {initial_variance:g} must be below maximum, got maximum={maximum:g}")
        self.latent_dim, self.window, self.maximum = latent_dim, window, maximum
        self.network = mlp((window * latent_dim, hidden, dim), random_state=random_state)
        _start_constant(self.network, math.log(share / (1 - share)))

    def before(self, errors: Tensor, t: int) -> Tensor:
        """Return the window before step `t` of errors (batch, time, latent): (batch, window, latent).

        Steps before the first hold zeros. Only `errors[:, :t]` is read, so later ones need not exist yet.
        """
        recent = errors[:, max(t - self.window, 0) : t]
        return functional.pad(recent, (0, 0, self.window - recent.shape[1], 0))

    def forward(self, errors: Tensor) -> Tensor:
        """Return the variances (batch, dim) for `errors` (batch, window, latent) before the present step."""
        if errors.shape[-2:] != (self.window, self.latent_dim):
            raise InputError(
                f"errors must have shape (batch, {self.window}, {self.latent_dim}), got "
                f"{tuple(errors.shape)}: cut them with before(errors, t)"
            )
        return self.floor + self.maximum * self.network(errors.detach().flatten(-2)).sigmoid()


NOISES: dict[str, Callable[..., NoiseHead]] = {
    "constant": ConstantNoise,
    "input": InputNoise,
    "variance-network": VarianceNetwork,
    "state": StateNoise,
    "errors": ErrorNoise,
}
"""Name of each head and how to make it."""


def make_noise(name: str, **settings: Any) -> NoiseHead:
    """Return the head of that name, made with `settings`.

    Raises
    ------
    InputError
        If there is no head of that name, or the settings are not its own.
    """
    if name not in NOISES:
        raise unknown_name("noise", name, NOISES)
    try:
        return NOISES[name](**settings)
    except TypeError as error:
        raise InputError(f"noise {name!r}: {error}") from error


def _inverse_softplus(y: float) -> float:
    """Solve softplus(u) = y at the sharpness of the heads, also where exp(y) overflows or is nearly 1."""
    scaled = _SHARPNESS * y
    return (scaled + math.log(-math.expm1(-scaled))) / _SHARPNESS


def _start_constant(network: nn.Sequential, output: float) -> None:
    last = network[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, output)


def _check_width(name: str, x: Tensor, width: int) -> None:
    if x.shape[-1] != width:
        raise InputError(f"{name} of shape {tuple(x.shape)} has {x.shape[-1]} features, the head was built for {width}")
