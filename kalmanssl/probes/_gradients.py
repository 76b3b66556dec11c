"""Whether two terms of an objective pull the weights the same way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from kalmanssl.errors import InputError

__all__ = ["gradient_cosine"]


def gradient_cosine(terms: Sequence[Tensor], parameters: Iterable[Tensor]) -> float:
    """Cosine between the gradients of two terms, over all parameters that receive a gradient from both.

    1 says that both ask for the same change of the weights, 0 that neither minds the other, below 0 that they are in
    conflict. Give both terms with the same sign, such as two entropies. Source: LDM paper, Fig. 4D and Fig. A2B.

    Parameters
    ----------
    terms : (Tensor, Tensor)
        Scalars; their graphs are kept, so that a loss of them can be differentiated afterward.
    parameters : iterable of Tensor
        Such as ``model.parameters()``; those without gradients are left out.

    Returns
    -------
    float
        From -1 to 1.

    Raises
    ------
    InputError
        If there are not two scalars with a graph, no parameter receives a gradient from both, or one of the gradients
        is zero or not finite.
    """
    if len(terms) != 2:
        raise InputError(f"terms must be two scalars, got {len(terms)}")
    weights = [p for p in parameters if p.requires_grad]
    if not weights:
        raise InputError("parameters holds none that requires a gradient")
    for name, term in zip(("first", "second"), terms, strict=True):
        if not isinstance(term, Tensor) or term.numel() != 1:
            shape = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
            raise InputError(f"terms: the {name} must be a tensor of one number, got {shape}; take its mean")
        if not term.requires_grad:
            raise InputError(f"terms: the {name} has no graph; compute it outside torch.no_grad() and do not detach it")
    one, other = (torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True) for term in terms)
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if not both:
        raise InputError("none of the parameters receives a gradient from both terms, so they cannot be compared")
    # Sums over millions of weights, and squares of small gradients, are safe in double precision.
    first, second = (torch.cat([pair[i].detach().double().flatten().cpu() for pair in both]) for i in (0, 1))
    for name, gradient in (("first", first), ("second", second)):
        if not bool(torch.isfinite(gradient).all()) or not bool(gradient.any()):
            raise InputError(f"terms: the gradient of the {name} is zero or not finite, so it has no direction")
    return float((first / first.norm()) @ (second / second.norm()))
