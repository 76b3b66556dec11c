"""Entropy of categories, known exactly from their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kalmanssl.distributions import check_probabilities
from kalmanssl.entropy._base import EntropyEstimator
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_integer

__all__ = ["CategoricalEntropy"]


@dataclass(frozen=True)
class CategoricalEntropy(EntropyEstimator):
    """Entropy of a category c that is drawn from the probabilities q of a random sample, or of the pair c, c'.

    One category: H = -sum_c m_c log m_c with m the mean of q over the samples. A pair, from [q, q'] side by side:
    H = -sum_cc' Q_cc' log Q_cc' with Q the mean of q_c q'_c' (LDM paper, Eq. 81). Given the samples it is exact; as an
    estimate of the entropy behind them it is too low, for sharp probabilities by about (cells - 1) / 2N nats.

    Where the paper's code adds 1e-6 inside the log, this takes the log as it is: on an empty cell p log p is zero, and
    the gradient there is left out (it would be infinite, and a softmax passes nothing of it on). The offset would count
    for 1 % of a cell of the joint distribution with ten categories that match with probability 0.992.

    Parameters
    ----------
    categories : int, optional
        Their number n: samples with twice as many columns are pairs. Without it samples are single categories.
    """

    categories: int | None = None

    spaces: ClassVar[tuple[str, ...]] = ("categories",)
    dim_setting: ClassVar[str | None] = "categories"
    shift_invariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.categories is not None:
            check_integer("categories", self.categories, 2)

    def _check_space(self, v: Tensor) -> None:
        n = self.categories or v.shape[1]
        if v.shape[1] not in (n, 2 * n):
            raise InputError(f"v has {v.shape[1]} columns, but must have {n}, the number of categories, or twice that")
        check_probabilities(v.unflatten(1, (-1, n)), "v")

    def _entropy(self, v: Tensor) -> Tensor:
        n = self.categories or v.shape[1]
        probability = v.mean(0) if v.shape[1] == n else v[:, :n].T @ v[:, n:] / len(v)
        return torch.special.entr(probability.clamp_min(torch.finfo(v.dtype).tiny)).sum()
