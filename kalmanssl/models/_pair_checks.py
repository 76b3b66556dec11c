"""Checks of the parts and the inputs of a pair model."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from kalmanssl.entropy import EntropyEstimator, StopGradientEntropy
from kalmanssl.errors import InputError, NotFiniteError
from kalmanssl.models._objective import LDM
from kalmanssl.models._pair_spaces import PairLatentModel
from kalmanssl.utils.precision import is_half
from kalmanssl.utils.torch_ops import rows_not_finite
from kalmanssl.utils.validation import check_choice, check_fraction

__all__ = ["PriorKind", "check_fits", "check_latents", "check_views", "check_width"]

PriorKind = Literal["model", "empirical"]
"""Whether P(z) is that of the latent model, or the distribution of the latents themselves."""


def check_views(x: Tensor, other: Tensor) -> None:
    """Check that both views of a batch of pairs have the same shape."""
    if len(x) != len(other):
        raise InputError(f"the number of first and second views must be the same, got {len(x)} and {len(other)}")
    if x.shape != other.shape:
        raise InputError(f"both views must have the same shape, got {tuple(x.shape)} and {tuple(other.shape)}")
    if len(x) == 0:
        raise InputError(f"the batch has no pairs: its views have shape {tuple(x.shape)}")


def check_latents(raw: Tensor, count: int) -> None:
    """Check that the networks return one finite latent per view, and not the same one for all views."""
    if raw.ndim != 2 or len(raw) != count:
        raise InputError(f"the networks must return ({count}, dim) for {count} views, got {tuple(raw.shape)}")
    bad = rows_not_finite(raw)
    if bad:
        raise NotFiniteError(
            f"{bad} of {len(raw)} latents are NaN or infinite: check the data, or lower the learning rate"
        )
    # Equal inputs give latents that differ by rounding only; their entropy would be that of the rounding errors.
    if _are_equal(raw[:2]) and _are_equal(raw):
        raise InputError(
            f"the latents of all {len(raw)} views are the same: check that the views differ; if they do, the latents "
            "have collapsed"
        )


def _are_equal(rows: Tensor) -> bool:
    """Return whether the rows differ by no more than rounding errors."""
    # In half precision only the final sum is rounded, and latents that differ can be 100 roundings apart.
    roundings = 2 if is_half(rows) else 100
    return bool((rows - rows[0]).abs().max() <= roundings * torch.finfo(rows.dtype).eps * rows.abs().max())


def check_width(latent: Tensor, entropy: EntropyEstimator | StopGradientEntropy) -> None:
    """Check that the entropy was constructed for latents of this dimension."""
    name = entropy.dim_setting
    if name and getattr(entropy, name) not in (None, latent.shape[1]):
        raise InputError(
            f"the latents have {latent.shape[1]} coordinates, but the entropy is {entropy!r}: set {name} to that number"
        )


def check_fits(
    latent_model: PairLatentModel, objective: LDM, predictor: nn.Module | None, prior: PriorKind, momentum: float | None
) -> None:
    """Check that the parts of a pair model can be combined."""
    check_choice("prior", prior, get_args(PriorKind))
    entropy = objective.entropy
    if isinstance(entropy, EntropyEstimator) and latent_model.space not in entropy.spaces:
        raise InputError(
            f"{type(entropy).__name__} supports the space {' or '.join(map(repr, entropy.spaces))}, but the latent "
            f"model has the space {latent_model.space!r}: kalmanssl.entropy.make_entropy makes an estimator for a space"
        )
    if latent_model.space != "euclidean" and entropy.dim_setting and getattr(entropy, entropy.dim_setting) is None:
        raise InputError(
            f"{entropy!r} for the space {latent_model.space!r} needs {entropy.dim_setting}, the number of coordinates "
            f"of a latent: kalmanssl.entropy.make_entropy(name, {latent_model.space!r}, dim) sets it"
        )
    if predictor is not None and prior == "model":
        raise InputError("a predictor learns P(z' | z): use prior='empirical' with it", parameter="prior")
    if isinstance(entropy, StopGradientEntropy) and (predictor is None or prior == "model"):
        raise InputError(
            "the stop-gradient entropy needs a predictor and prior='empirical': without a predictor, the conditional "
            "has no parameters and the latents collapse"
        )
    if momentum is not None and not isinstance(entropy, StopGradientEntropy):
        raise InputError(
            "a moving-average target has no gradient, so an entropy of samples cannot act on it: use momentum only "
            "with StopGradientEntropy()",
            parameter="momentum",
        )
    if momentum is not None:
        check_fraction("momentum", momentum)
