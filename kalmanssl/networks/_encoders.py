"""Encoders from data to latents: a multilayer perceptron on single bins, and one on a causal window of bins.

An encoder is any `torch.nn.Module` from (batch, time, features) to (batch, time, latent); `check_encoder` checks a
module. For spike counts, an encoder of single bins leaves temporal smoothing to the filter, which knows the uncertainty
of each bin. An encoder that smooths over time produces correlated noise, which the filter does not model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError, first_line
from kalmanssl.networks._mlp import mlp
from kalmanssl.utils.torch_ops import evaluating, seeded
from kalmanssl.utils.validation import check_choice, check_fraction, check_integer, check_positive

__all__ = ["MLPEncoder", "Normalize", "UnitDropout", "WindowEncoder", "check_encoder"]

_CHECKED_SHAPE = 2, 64  # batch and time of the input of `check_encoder`


class Normalize(nn.Module):
    """Normalize each bin: square root of the counts, then division by the norm over units.

    The square root makes the variance of Poisson counts nearly constant (about 1/4). Division by the Euclidean norm,
    x / (‖x‖ + c), removes the overall rate of the population and keeps the pattern of active units. A noise head that
    should depend on the spike count therefore needs the counts before normalization. A bin without spikes stays zero,
    with finite gradients.

    Parameters
    ----------
    transform : {"none", "sqrt"}
        Transformation of each entry; "sqrt" requires non-negative values.
    unit_norm : bool
        Whether to divide each bin by its norm.
    norm_offset : float
        Constant c in the division, in units of the transformed data. With a value close to the norm of a typical bin,
        bins with few spikes keep a small norm.

    Raises
    ------
    InputError
        If a setting is not valid; in `forward`, if "sqrt" is applied to negative values.
    """

    def __init__(self, transform: str = "none", unit_norm: bool = False, norm_offset: float = 1e-3) -> None:
        super().__init__()
        check_choice("transform", transform, ("none", "sqrt"))
        check_positive("norm_offset", norm_offset)  # bins without spikes have norm 0
        self.transform, self.unit_norm, self.norm_offset = transform, unit_norm, norm_offset

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x` (..., features) along its last axis."""
        if self.transform == "sqrt":
            lowest = x.min() if x.numel() else x.new_zeros(())  # faster than comparing all entries
            if bool(lowest < 0) or bool(lowest.isnan() and (x < 0).any()):
                raise InputError(
                    f"transform='sqrt' is for counts, but the input has a minimum of {float(x.min()):g}: "
                    "use transform='none' for signals that can be negative",
                    parameter="transform",
                )
            x = _sqrt(x)
        if self.unit_norm:
            x = x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + self.norm_offset)
        return x

    def extra_repr(self) -> str:
        """Return the settings for printing."""
        return f"transform={self.transform!r}, unit_norm={self.unit_norm}, norm_offset={self.norm_offset}"


def _sqrt(x: Tensor) -> Tensor:
    """Square root whose slope at 0, where most counts are, is 0 instead of infinite; that of NaN is 0."""
    if x.dtype in (torch.float32, torch.float64):
        try:
            return torch.from_numpy(np.sqrt(x.numpy())).nan_to_num_(0.0, math.inf)  # ten times as fast as in torch
        except (RuntimeError, TypeError):  # with a gradient, on other devices, and in transforms of torch.func
            pass
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


class UnitDropout(nn.Module):
    """Set whole units to zero for a whole sequence in training.

    The remaining units are multiplied by 1/(1 − p), as in ordinary dropout. In recordings, units disappear for long
    periods, which ordinary dropout of single entries does not simulate.

    Parameters
    ----------
    p : float
        Probability that a unit is set to zero, in [0, 1).
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        check_fraction("unit_dropout", p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop units of `x` (batch, time, units) in training mode."""
        if not self.training or self.p == 0:
            return x
        keep = torch.empty_like(x[..., :1, :]).bernoulli_(1 - self.p)
        return x * keep / (1 - self.p)

    def extra_repr(self) -> str:
        """Return the settings for printing."""
        return f"p={self.p}"


class WindowEncoder(nn.Module):
    """Multilayer perceptron on the current bin and the `window − 1` previous bins.

    Bins before the start of a sequence are zero, so the first `window − 1` outputs of each sequence have less
    information.

    Parameters
    ----------
    in_features : int
        Number of units or channels.
    latent_dim : int
        Dimension of the latents.
    window : int
        Number of bins per output, including the current one.
    hidden : sequence of int
        Widths of the hidden layers (ReLU); empty for a linear encoder.
    transform, unit_norm, norm_offset
        Normalization of each bin, see `Normalize`.
    dropout : float
        Probability that a single entry of the input is set to zero in training. This noise is independent between bins.
    unit_dropout : float
        Probability that a unit is set to zero for a whole sequence in training, see `UnitDropout`.
    random_state : int, optional
        Seed of the initial weights; by default torch's global generator is used. Dropout always uses the latter.

    Attributes
    ----------
    n_features : int
        Number of features that `features` returns per bin.

    Raises
    ------
    InputError
        If a setting is not valid.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        window: int = 5,
        hidden: Sequence[int] = (100,),
        *,
        transform: str = "none",
        unit_norm: bool = False,
        norm_offset: float = 1e-3,
        dropout: float = 0.0,
        unit_dropout: float = 0.0,
        random_state: int | None = None,
    ) -> None:
        super().__init__()
        check_integer("window", window, 1)
        check_fraction("dropout", dropout)
        self.in_features, self.latent_dim, self.window = in_features, latent_dim, window
        self.n_features = window * in_features
        self.network = mlp((self.n_features, *hidden, latent_dim), random_state=random_state)
        self.normalize = Normalize(transform, unit_norm, norm_offset)
        self.dropout = nn.Dropout(dropout)
        self.unit_dropout = UnitDropout(unit_dropout)

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the network, (batch, time, n_features), for data `x` (batch, time, in_features).

        It has the normalized bins of the window, the current bin first. Noise heads can use the same features.

        Raises
        ------
        InputError
            If the shape of `x` is wrong, or it has negative values and `transform` is "sqrt".
        """
        if x.ndim != 3 or x.shape[-1] != self.in_features:
            raise InputError(
                f"the encoder takes (batch, time, {self.in_features}), got {tuple(x.shape)}: "
                "use the units that it was built for, one row per bin"
            )
        x = self.normalize(self.dropout(self.unit_dropout(x)))
        padded = nn.functional.pad(x, (0, 0, self.window - 1, 0))
        last, time = self.window - 1, x.shape[1]
        return torch.cat([padded[:, last - lag : last - lag + time] for lag in range(self.window)], dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode `x` (batch, time, in_features) as latents (batch, time, latent_dim)."""
        return self.network(self.features(x))


class MLPEncoder(WindowEncoder):
    """Multilayer perceptron on single bins; by default with one hidden layer of 100 ReLU units, as in the LDM paper.

    Parameters
    ----------
    in_features, latent_dim, hidden, transform, unit_norm, norm_offset, dropout, unit_dropout, random_state
        As for `WindowEncoder`.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        hidden: Sequence[int] = (100,),
        *,
        transform: str = "none",
        unit_norm: bool = False,
        norm_offset: float = 1e-3,
        dropout: float = 0.0,
        unit_dropout: float = 0.0,
        random_state: int | None = None,
    ) -> None:
        super().__init__(
            in_features,
            latent_dim,
            1,
            hidden,
            transform=transform,
            unit_norm=unit_norm,
            norm_offset=norm_offset,
            dropout=dropout,
            unit_dropout=unit_dropout,
            random_state=random_state,
        )


def check_encoder(module: nn.Module, in_features: int, latent_dim: int) -> None:
    """Check an encoder by applying it to random counts.

    It is applied in evaluation mode without gradients. The mode of the module and torch's generator stay unchanged.

    Parameters
    ----------
    module : nn.Module
        Maps (batch, time, in_features) to (batch, time, latent_dim).
    in_features, latent_dim : int
        Numbers of input features and of latents.

    Raises
    ------
    InputError
        If it is not a module, raises an error, or returns a wrong shape, a wrong type, NaN or infinity.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"the encoder must be a torch.nn.Module instance, got {module!r}")
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    batch, time = _CHECKED_SHAPE
    x = torch.randint(0, 3, (batch, time, in_features), generator=generator).to(like)
    name = type(module).__name__
    try:
        with torch.no_grad(), seeded(0), evaluating(module):
            z = module(x)
    except Exception as error:
        reason = first_line(error)
        raise InputError(
            f"the encoder {name} fails on an input of shape (batch={batch}, time={time}, "
            f"features={in_features}): {reason}"
        ) from error
    if not isinstance(z, Tensor) or not z.is_floating_point():
        kind = z.dtype if isinstance(z, Tensor) else type(z).__name__
        raise InputError(f"the encoder {name} must return a tensor of floats, got {kind}")
    if z.shape != (batch, time, latent_dim):
        raise InputError(
            f"the encoder {name} must return (batch={batch}, time={time}, latent_dim={latent_dim}), "
            f"got {tuple(z.shape)}: return one latent vector per bin, or change latent_dim"
        )
    if not bool(torch.isfinite(z).all()):
        raise InputError(f"the encoder {name} returns NaN or infinity on small counts: check its weights and divisions")
