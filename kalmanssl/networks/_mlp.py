"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from kalmanssl.errors import InputError
from kalmanssl.utils.torch_ops import seeded

__all__ = ["mlp"]


def mlp(sizes: Sequence[int], *, batch_norm: bool = False, random_state: int | None = None) -> nn.Sequential:
    """Build a multilayer perceptron with ReLU hidden layers and a linear output layer.

    Parameters
    ----------
    sizes : sequence of int
        Widths of all layers, from the input to the output.
    batch_norm : bool
        Batch normalization in every hidden layer, before the ReLU.
    random_state : int, optional
        Seed of the initial weights; by default they are drawn from torch's global generator.

    Returns
    -------
    nn.Sequential
        Maps (..., sizes[0]) to (..., sizes[-1]). With batch normalization, it maps (batch, sizes[0]) only.

    Raises
    ------
    InputError
        If there are fewer than two widths, or a width is below 1.
    """
    if len(sizes) < 2:
        raise InputError(f"a network needs an input and an output width, got {tuple(sizes)}", parameter="sizes")
    if any(size < 1 for size in sizes):
        raise InputError(f"every layer needs at least one unit, got widths {tuple(sizes)}", parameter="sizes")
    layers: list[nn.Module] = []
    with seeded(random_state):
        for fan_in, fan_out in pairwise(sizes[:-1]):
            layers.append(nn.Linear(fan_in, fan_out))
            if batch_norm:
                layers.append(nn.BatchNorm1d(fan_out))
            layers.append(nn.ReLU())
        layers.append(nn.Linear(sizes[-2], sizes[-1]))
    return nn.Sequential(*layers)
