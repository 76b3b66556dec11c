"""Agreement between the gradients of two terms of an objective."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from kalmanssl.errors import InputError

__all__ = ["gradient_cosine"]


def gradient_cosine(terms: Sequence[Tensor], parameters: Iterable[Tensor]) -> float:
    """Cosine of the angle between the gradients of two terms, over all parameters that receive a gradient from both.

    It is 1 if both terms change the weights in the same direction, 0 if their directions are orthogonal, and negative
    if they conflict. Both terms must have the same sign convention, for example two entropies. Source: LDM paper, Fig.
    4D and Fig. A2B.

    Parameters
    ----------
    terms : (Tensor, Tensor)
        Scalar tensors. Their graphs are retained, so they can be differentiated again.
    parameters : iterable of Tensor
        For example ``model.parameters()``. Parameters that do not require a gradient are ignored.

    Returns
    -------
    float
        From -1 to 1.

    Raises
    ------
    InputError
        If `terms` are not two scalars with a graph, no parameter receives a gradient from both, or a gradient is zero
        or not finite.
    """
    if len(terms) != 2:
        raise InputError(f"terms must be two scalars, got {len(terms)}", parameter="terms")
    weights = [p for p in parameters if p.requires_grad]
    if not weights:
        raise InputError("none of the parameters requires a gradient", parameter="parameters")
    for name, term in zip(("first", "second"), terms, strict=True):
        if not isinstance(term, Tensor) or term.numel() != 1:
            shape = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
            raise InputError(
                f"terms: the {name} must be a tensor of one number, got {shape}; take its mean", parameter="terms"
            )
        if not term.requires_grad:
            raise InputError(
                f"terms: the {name} has no graph; compute it outside torch.no_grad() and do not detach it",
                parameter="terms",
            )
    one, other = (torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True) for term in terms)
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if not both:
        raise InputError("no parameter receives a gradient from both terms, so they cannot be compared")
    # Double precision: sums over millions of weights and squares of small gradients.
    first, second = (torch.cat([pair[i].detach().double().flatten().cpu() for pair in both]) for i in (0, 1))
    for name, gradient in (("first", first), ("second", second)):
        if not bool(torch.isfinite(gradient).all()) or not bool(gradient.any()):
            raise InputError(f"terms: the gradient of the {name} is zero or not finite", parameter="terms")
    return float((first / first.norm()) @ (second / second.norm()))
