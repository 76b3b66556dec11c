"""Loss and mean of histograms over a grid, as functions of tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kalmanssl.decoding.grids import Axis, Grid

__all__ = ["histogram_loss", "histogram_mean"]


def histogram_loss(logits: Tensor, place: Tensor, grid: Grid, log_score_weight: float) -> Tensor:
    """Return the ranked probability score of each dimension plus the weighted log-score of histograms.

    Labels have the log-score alone.

    `logits` is (networks, bins, cells); `place` (networks, bins, dims) is the behavior, in cells from the first edge.
    """
    shape = grid.shape
    cell = place.floor().long()
    flat = cell[..., 0] if len(shape) == 1 else cell[..., 0] * shape[1] + cell[..., 1]
    log_mass = torch.log_softmax(logits, dim=-1)
    log_score = -log_mass.gather(-1, flat[..., None]).mean()
    if any(axis.nominal for axis in grid.axes):
        return log_score
    loss = log_score_weight * log_score
    mass = log_mass.exp().view(*logits.shape[:-1], *shape)
    for number, axis in enumerate(grid.axes):
        part = mass if len(shape) == 1 else mass.sum(dim=-1 if number == 0 else -2)
        loss = loss + _ranked_probability_score(part, place[..., number], axis)
    return loss


def _ranked_probability_score(mass: Tensor, at: Tensor, axis: Axis) -> Tensor:
    """Return the mean score of histograms (..., cells) at `at` (...), scaled to the size of the log-score."""
    n_cells = axis.n_cells
    if axis.period is not None:
        # A circle has no first cell: start it opposite the truth, in every bin.
        cut = at.floor().long()[..., None] - n_cells // 2
        mass = mass.gather(-1, (torch.arange(n_cells) + cut) % n_cells)
        at = at - cut[..., 0]
    below = torch.cumsum(mass, dim=-1) - mass / 2
    right = torch.arange(n_cells) + 1.0
    return 20 / n_cells * ((below - (right - at[..., None]).clamp(0, 1)) ** 2).sum(dim=-1).mean()


def histogram_mean(mass: Tensor, grid: Grid, axis: int) -> Tensor:
    """Return the mean of histograms (rows, cells) along an axis, in cells; the circular mean on a circular one."""
    mass = mass.view(-1, *grid.shape)
    others = [1 + other for other in range(len(grid.axes)) if other != axis]
    mass = mass.sum(dim=others) if others else mass
    n_cells = grid.axes[axis].n_cells
    cell = torch.arange(n_cells) + 0.5
    if grid.axes[axis].period is None:
        return mass @ cell
    angle = 2 * math.pi * cell / n_cells
    return torch.atan2(mass @ torch.sin(angle), mass @ torch.cos(angle)) * n_cells / (2 * math.pi)
