"""Recursions over time in about 2 log2(steps) operations on large stacks, instead of one small operation per step.

A GPU executes one operation on a stack of matrices about as fast as one on a single matrix, so that a loop over time
leaves it idle. Here each pair of successive steps is first composed to one, which gives a recursion of half the length,
and so on. The states after every second step then follow from it, and the others by one step each. The work is that of
about two loops (Blelloch, Prefix sums and their applications, 1990; Särkkä & García-Fernández, IEEE Trans. Automat.
Contr. 66, 2021, 299-306, for Kalman filters).

    affine_in_parallel        x[t] = M[t] x[t-1] + u[t]
    covariances_in_parallel   X[t] = M[t] X[t-1] M[t]' + D[t]

They have the conventions of `_affine_recursions.py`, whose loops they replace on GPUs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import matmul, symmetrize

__all__ = [
    "Elements",
    "affine_in_parallel",
    "covariances_in_parallel",
    "parallel_scan",
]

Elements = tuple[Tensor, ...]


def parallel_scan(
    elements: Elements,
    start: Tensor,
    steps: int,
    compose: Callable[[Elements, Elements], Elements],
    apply: Callable[[Elements, Tensor], Tensor],
) -> Tensor:
    """States x[t] = f[t](x[t-1]) for all steps, from x[-1] = `start`.

    Parameters
    ----------
    elements : tuple of tensors (steps|1, …)
        Parameters of the functions f. Those of a tensor with one entry are the same at all steps.
    start : (…)
        State before the first step.
    steps : int
        Number of steps, at least 1.
    compose : function
        Returns the parameters of "first `early`, then `late`", for stacks of both.
    apply : function
        Returns the states after one step from a stack of states.

    Returns
    -------
    (steps, …)
    """
    if steps == 1:
        return apply(elements, start[None])
    pairs = steps // 2
    early, late = _every_second(elements, 0, pairs), _every_second(elements, 1, pairs)
    after_pairs = parallel_scan(compose(early, late), start, pairs, compose, apply)
    before = torch.cat([start[None], after_pairs[: steps - pairs - 1]])
    between = apply(_every_second(elements, 0, steps - pairs), before)
    states = between.new_empty(steps, *between.shape[1:])
    states[0::2], states[1::2] = between, after_pairs
    return states


def _every_second(elements: Elements, first: int, count: int) -> Elements:
    return tuple(p if len(p) == 1 else p[first : first + 2 * count - 1 : 2] for p in elements)


def affine_in_parallel(offsets: Tensor, matrices: Tensor, *, reverse: bool = False) -> Tensor | None:
    """`affine_scan` in parallel; None if the result is not finite.

    Powers of an unstable matrix can overflow although the states do not, for example if these are all zero.
    """
    steps, batch, _ = offsets.shape
    models = matrices.shape[1]
    offsets = offsets.unflatten(1, (models, batch // models))
    offsets = offsets.flip(0) if reverse else offsets
    # Matrices of the steps between two states; the last one serves all that are missing.
    known = matrices[: steps - 1] if reverse or len(matrices) == 1 else matrices[1:steps]
    head, tail = (known, known[:0]) if len(known) >= steps - 1 else (known[:-1], known[-1:])
    parts = [(head.flip(0) if reverse else head, len(head)), (tail, steps - 1 - len(head))]
    states, done = [offsets[:1]], 1
    for part, count in reversed(parts) if reverse else parts:
        if count:
            elements = (part.mT, offsets[done : done + count])
            states.append(parallel_scan(elements, states[-1][-1], count, _compose_affine, _apply_affine))
            done += count
    x = torch.cat(states).flatten(1, 2)
    if not bool(torch.isfinite(x).all()):
        return None
    return x.flip(0) if reverse else x


def _compose_affine(early: Elements, late: Elements) -> Elements:
    """Matrices (entries, models, n, n) multiply row vectors from the right."""
    return matmul(early[0], late[0]), matmul(early[1], late[0]) + late[1]


def _apply_affine(elements: Elements, x: Tensor) -> Tensor:
    return matmul(x, elements[0]) + elements[1]


def covariances_in_parallel(offsets: Tensor, matrices: Tensor, *, reverse: bool = False) -> Tensor | None:
    """`covariance_recursion` in parallel; None if the result is not finite."""
    if reverse:
        offsets, matrices = offsets.flip(0), matrices.flip(0)
    X = offsets
    if len(offsets) > 1:
        elements = (matrices, offsets[1:])
        later = parallel_scan(elements, offsets[0], len(offsets) - 1, _compose_covariance, _apply_covariance)
        X = torch.cat([offsets[:1], later])
    if not bool(torch.isfinite(X).all()):
        return None
    return X.flip(0) if reverse else X


def _compose_covariance(early: Elements, late: Elements) -> Elements:
    return matmul(late[0], early[0]), _apply_covariance(late, early[1])


def _apply_covariance(elements: Elements, X: Tensor) -> Tensor:
    matrices, offsets = elements
    return symmetrize(matmul(matmul(matrices, X), matrices.mT)) + offsets
