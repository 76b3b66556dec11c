"""Base class of the entropy estimators, and input validation of samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from kalmanssl.errors import InputError, NotFiniteError
from kalmanssl.utils.distributed import all_gather
from kalmanssl.utils.precision import no_autocast, to_float32
from kalmanssl.utils.torch_ops import rows_not_finite
from kalmanssl.utils.validation import check_integer

__all__ = [
    "EntropyEstimator",
    "check_not_identical",
    "check_samples",
    "identical_error",
    "rescale",
    "split_latents",
]


@dataclass(frozen=True)
class EntropyEstimator(ABC):
    """Base class of the estimators from samples: it checks the samples, draws a subset, and calls `_entropy`.

    A subclass defines `_entropy`; see `kalmanssl.entropy._registry` for an example.

    Parameters
    ----------
    max_samples : int, optional
        Use at most this many of the samples, drawn without replacement. The cost of kNN and KDE grows with the square
        of their number.
    """

    max_samples: int | None = field(default=None, kw_only=True)

    conditional: ClassVar[bool] = False
    """True for an estimator that needs the model's predictive distribution, see `StopGradientEntropy`."""

    spaces: ClassVar[tuple[str, ...]] = ("euclidean",)
    """Supported spaces of the samples, see `kalmanssl.entropy.make_entropy`."""

    dim_setting: ClassVar[str | None] = None
    """Name of the setting for the number of coordinates of one latent, if the estimator has one."""

    joint: ClassVar[bool] = True
    """False if the estimate for pairs ignores the dependence between their latents."""

    shift_invariant: ClassVar[bool] = True
    """True if adding a constant vector to all samples does not change the result, so that they may be centered."""

    def __post_init__(self) -> None:
        if self.max_samples is not None:
            check_integer("max_samples", self.max_samples, 2)

    def __call__(self, v: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Estimate the entropy of the distribution that the rows of `v` were drawn from.

        Parameters
        ----------
        v : (samples, D)
            Samples; half precision is converted to float32. Pool sequences first: `z.flatten(0, 1)`. If several
            processes train together, the samples of all of them are used.
        generator : torch.Generator, optional
            Source of the subset if there are more than `max_samples` rows. Without one, the subset depends on the
            number of rows only, so that the same input gives the same estimate.

        Returns
        -------
        Tensor
            Scalar, nats, differentiable with respect to `v`.

        Raises
        ------
        InputError
            If `v` is not a matrix of finite floats, has too few rows, has rows outside the space, or all its rows are
            equal.
        """
        check_samples(v)
        v = self.subset(all_gather(v), generator=generator)
        with no_autocast(v.device):
            self._check_space(v)  # in the precision of the input
            v = to_float32(v)
            # A large common offset would cause cancellation in differences and products.
            return self._entropy(v - v.detach().mean(0) if self.shift_invariant else v)

    def subset(self, v: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return at most `max_samples` rows of `v`."""
        if self.max_samples is None or len(v) <= self.max_samples:
            return v
        generator = generator or torch.Generator().manual_seed(0)
        order = torch.randperm(len(v), generator=generator, device=generator.device)
        return v[order[: self.max_samples].to(v.device)]

    def _check_space(self, v: Tensor) -> None:  # noqa: B027 (nothing to check in Euclidean space)
        """Raise InputError if samples `v` (samples, D) are outside the space of the estimator."""

    @abstractmethod
    def _entropy(self, v: Tensor) -> Tensor:
        """Compute the entropy in nats of finite samples `v` (samples, D), which are centered if `shift_invariant`."""


def check_samples(v: Tensor, name: str = "v") -> None:
    """Raise InputError if `v` is not a matrix (samples, D) of finite floats."""
    if not isinstance(v, Tensor) or not v.is_floating_point():
        kind = v.dtype if isinstance(v, Tensor) else type(v).__name__
        message = f"{name} must be a tensor of floats, got {kind}: use torch.as_tensor({name}).float()"
        raise InputError(message, parameter=name)
    if v.ndim != 2 or v.shape[1] == 0:
        raise InputError(
            f"{name} must have shape (samples, D), got {tuple(v.shape)}: pool sequences by {name}.flatten(0, -2)",
            parameter=name,
        )
    bad = rows_not_finite(v)
    if bad:
        message = f"{name} has {bad} of {len(v)} rows with NaN or infinity: leave them out"
        raise NotFiniteError(message, parameter=name)


def check_not_identical(v: Tensor) -> None:
    """Raise InputError if the rows of `v` (samples, D) are all the same."""
    if not (v[:2] != v[0]).any() and not (v != v[0]).any():  # usually the first two rows differ: a fast check
        raise identical_error(len(v))


def identical_error(n: int) -> InputError:
    """Return the error for `n` samples that are all the same."""
    return InputError(
        f"the {n} samples of v lie on one point, so their entropy is minus infinity: "
        "the latents have collapsed, or too few of the samples are distinct",
        parameter="v",
    )


def split_latents(v: Tensor, dim: int, name: str) -> Tensor:
    """Split concatenated latents into (samples, latents, dim); errors call the setting `dim` by `name`."""
    if v.shape[1] % dim:
        raise InputError(f"v has {v.shape[1]} columns, not a multiple of {name}={dim}", parameter="v")
    return v.unflatten(1, (-1, dim))


def rescale(v: Tensor) -> tuple[Tensor, float]:
    """Divide samples by their largest entry if squares would overflow or underflow; also return log(divisor)."""
    largest, limits = max(abs(float(end)) for end in v.detach().aminmax()), torch.finfo(v.dtype)
    if limits.tiny**0.25 < largest < limits.max**0.25 or largest == 0:
        return v, 0.0
    return v / largest, math.log(largest)
