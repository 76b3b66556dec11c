"""Settings of the readout that is an ensemble of networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kalmanssl.decoding.grids import Grid, Periods, group_dimensions
from kalmanssl.utils.validation import (
    check_fraction,
    check_integer,
    check_not_negative,
    check_positive,
)

__all__ = ["MLPReadoutSettings"]


@dataclass(frozen=True)
class MLPReadoutSettings:
    """Settings of `MLPReadout`.

    Attributes
    ----------
    n_cells, n_cells_joint : int
        Cells of the histogram along a dimension that has its own histogram, and along each dimension of two that share
        one.
    max_training_cells_joint : int
        Networks are trained with histograms over wider cells, at most this many along each of two dimensions that share
        one. In a histogram over all cells, logits are interpolated linearly between the centers of the wider ones.
    margin : float
        Added at both ends of the histogram, as a fraction of the range of the behavior, for errors beyond it.
    n_networks : int
        Networks in the ensemble.
    hidden : int
        Units in each of the two hidden layers.
    n_steps, batch_size : int
        Largest number of training steps (AdamW), and bins per step and network.
    n_epochs, min_steps : int
        With few bins training takes as many steps as draw each bin this often, but at least `min_steps`.
    learning_rate, learning_rate_joint, weight_decay : float
        Peak learning rate of the one-cycle schedule, the same if two dimensions share a histogram, and decoupled weight
        decay.
    warmup_fraction : float
        Fraction of the steps in which the learning rate rises.
    dropout : float
        Probability that a hidden unit is set to zero in training, 0 to below 1.
    log_score_weight : float
        Weight of the log-score beside the ranked probability score; it keeps some mass in the tails. Labels have no
        order and are trained with the log-score alone.
    uniform_fraction : float
        Fraction of the predictive mass that is distributed over all cells, 0 to below 1.
    """

    n_cells: int = 96
    n_cells_joint: int = 40
    max_training_cells_joint: int = 20
    margin: float = 0.08
    n_networks: int = 2
    hidden: int = 96
    n_steps: int = 500
    batch_size: int = 256
    n_epochs: int = 25
    min_steps: int = 100
    learning_rate: float = 3e-3
    learning_rate_joint: float = 5e-3
    weight_decay: float = 1e-2
    warmup_fraction: float = 0.15
    dropout: float = 0.3
    log_score_weight: float = 0.3
    uniform_fraction: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("n_cells", "n_cells_joint"):
            check_integer(name, getattr(self, name), 2)
        for name in (
            "max_training_cells_joint",
            "n_networks",
            "hidden",
            "n_steps",
            "batch_size",
            "n_epochs",
            "min_steps",
        ):
            check_integer(name, getattr(self, name), 1)
        for name in ("learning_rate", "learning_rate_joint"):
            check_positive(name, getattr(self, name))
        for name in ("margin", "weight_decay", "log_score_weight"):
            check_not_negative(name, getattr(self, name))
        for name in ("warmup_fraction", "dropout", "uniform_fraction"):
            check_fraction(name, getattr(self, name))

    def make_grids(self, behavior: np.ndarray, periods: Periods) -> list[Grid]:
        """Choose the grid of each group of dimensions from behavior (time, dims)."""
        grids = []
        for dims in group_dimensions(len(periods)):
            n_cells = [self.n_cells if len(dims) == 1 else self.n_cells_joint] * len(dims)
            grids.append(
                Grid.from_behavior(behavior[:, dims], tuple(periods[dim] for dim in dims), n_cells, self.margin)
            )
        return grids

    def training_factor(self, grid: Grid) -> int:
        """Return how many cells along each axis of a grid are one cell in training."""
        return 1 if len(grid.axes) == 1 else grid.coarsening(self.max_training_cells_joint)
