"""Networks from data to latents: a perceptron on single bins, and one on a causal window of bins.

An encoder is any `torch.nn.Module` from (batch, time, features) to (batch, time, latent); `check_encoder`
tells whether one fits. For spike counts, single bins leave the smoothing over time to the filter, which knows
how uncertain each bin is; an encoder that smooths hides its noise from the filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError, first_line
from kalmanssl.networks._mlp import mlp
from kalmanssl.utils.torch_ops import evaluating, seeded

__all__ = ["MLPEncoder", "Normalize", "UnitDropout", "WindowEncoder", "check_encoder"]


class Normalize(nn.Module):
    """Normalize counts for a network: square root, then division by the norm over the units.

    The square root makes the variance of Poisson counts nearly constant (about 1/4). Dividing by the
    Euclidean norm, x / (‖x‖ + c), leaves only *which* units fired, a cosine geometry, and takes the
    population's overall rate out; a noise head that should follow the spike count must be given the counts
    themselves. A bin without spikes stays the zero vector, with finite gradients.

    Parameters
    ----------
    transform : {"none", "sqrt"}
        What is done to each entry; "sqrt" refuses negative ones.
    unit_norm : bool
        Divide each bin's vector by its norm.
    norm_offset : float
        The c above, in units of the transformed data. With a value near the norm of a typical bin, bins
        with few spikes keep a small norm instead of being scaled to norm one.
    """

    def __init__(self, transform: str = "none", unit_norm: bool = False, norm_offset: float = 1e-3) -> None:
        super().__init__()
        if transform not in ("none", "sqrt"):
            raise InputError(f"transform must be 'none' or 'sqrt', got {transform!r}")
        if not norm_offset > 0:
            raise InputError(f"norm_offset must be positive (bins without spikes have norm 0), got {norm_offset}")
        self.transform, self.unit_norm, self.norm_offset = transform, unit_norm, norm_offset

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x` (..., features) along its last axis."""
        if self.transform == "sqrt":
            if bool((x < 0).any()):
                raise InputError(
                    f"transform='sqrt' is for counts, but the input goes down to {float(x.min()):g}: "
                    "use transform='none' for signals that can be negative"
                )
            # The slope of the square root is infinite at 0, where most counts are; take it as 0 there.
            positive = x > 0
            x = torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)
        if self.unit_norm:
            x = x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + self.norm_offset)
        return x

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"transform={self.transform!r}, unit_norm={self.unit_norm}, norm_offset={self.norm_offset}"


class UnitDropout(nn.Module):
    """Set whole units to zero for a whole sequence in training, so that no latent depends on a single unit.

    What is left is scaled up by 1/(1 − p), as in ordinary dropout. Units drop out and drift away over a
    recording, which dropout of single entries does not resemble.

    Parameters
    ----------
    p : float
        Probability that a unit is silent, in [0, 1).
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise InputError(f"the dropout of units must lie in [0, 1), got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop units of `x` (batch, time, units); unchanged in evaluation mode."""
        if not self.training or self.p == 0:
            return x
        keep = torch.empty_like(x[..., :1, :]).bernoulli_(1 - self.p)
        return x * keep / (1 - self.p)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"p={self.p}"


class WindowEncoder(nn.Module):
    """Perceptron on the present bin and the `window − 1` bins before it.

    Before the start of a sequence the window holds zeros (bins without spikes), so the first `window − 1`
    outputs of every sequence are less informed than the rest.

    Parameters
    ----------
    in_features : int
        Units or channels of a bin.
    latent_dim : int
        Dimension of the latents.
    window : int
        Bins that each output sees, itself included.
    hidden : sequence of int
        Widths of the hidden layers (ReLU); empty for a linear encoder.
    transform, unit_norm, norm_offset
        Normalization of each bin, see `Normalize`.
    dropout : float
        Probability that a single entry of the input is dropped in training: like thinned spikes, noise that
        is independent between bins and which the filter sees.
    unit_dropout : float
        Probability that a unit is silent for a whole sequence in training, see `UnitDropout`.
    random_state : int, optional
        Seed of the initial weights; without one they come from torch's generator. Dropout always does.

    Attributes
    ----------
    n_features : int
        Width of what `features` returns.
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
        if window < 1:
            raise InputError(f"window must be at least 1 bin, got {window}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), got {dropout}")
        self.in_features, self.latent_dim, self.window = in_features, latent_dim, window
        self.n_features = window * in_features
        self.network = mlp((self.n_features, *hidden, latent_dim), random_state=random_state)
        self.normalize = Normalize(transform, unit_norm, norm_offset)
        self.dropout = nn.Dropout(dropout)
        self.unit_dropout = UnitDropout(unit_dropout)

    def features(self, x: Tensor) -> Tensor:
        """Return what the network sees of `x` (batch, time, in_features): (batch, time, n_features).

        The newest bin comes first. A noise head can be given the same.

        Raises
        ------
        InputError
            If `x` has another shape, or negative entries under a square root.
        """
        if x.ndim != 3 or x.shape[-1] != self.in_features:
            raise InputError(
                f"the encoder takes (batch, time, {self.in_features}), got {tuple(x.shape)}: "
                "give the units that it was built for, one row for each bin"
            )
        x = self.normalize(self.dropout(self.unit_dropout(x)))
        padded = nn.functional.pad(x, (0, 0, self.window - 1, 0))
        last, time = self.window - 1, x.shape[1]
        return torch.cat([padded[:, last - lag : last - lag + time] for lag in range(self.window)], dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode `x` (batch, time, in_features) as latents (batch, time, latent_dim)."""
        return self.network(self.features(x))


class MLPEncoder(WindowEncoder):
    """Perceptron on single bins, the encoder of the LDM paper: one hidden layer of 100 ReLU units.

    Parameters as for `WindowEncoder`, without the window.
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


def check_encoder(module: nn.Module, in_features: int, latent_dim: int, *, batch: int = 2, time: int = 64) -> None:
    """Run random counts through an encoder and complain if it is not one.

    It runs in evaluation mode without gradients; the modes of the module and torch's generator are left as
    they were.

    Parameters
    ----------
    module : nn.Module
        Takes (batch, time, in_features), returns (batch, time, latent_dim).
    in_features, latent_dim : int
        What goes in and what should come out.
    batch, time : int
        Size of the trial.

    Raises
    ------
    InputError
        If it is no module, fails on the trial, or returns another shape, another type or values that are not
        finite.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"the encoder must be a torch.nn.Module instance, got {module!r}")
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
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
            f"got {tuple(z.shape)}: one latent for each bin, or another latent_dim"
        )
    if not bool(torch.isfinite(z).all()):
        raise InputError(f"the encoder {name} returns NaN or infinity on small counts: check its weights and divisions")
