"""Entropy of a categorical latent, computed from its probabilities."""

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
    """Entropy of a category c, or of a pair c, c', from the category probabilities q of each sample.

    For one category, H = -sum_c m_c log m_c, with m the mean of q over the samples. For a pair, from concatenated
    probabilities [q, q'], H = -sum_cc' Q_cc' log Q_cc', with Q the mean of q_c q'_c' (LDM paper, Eq. 81). As an
    estimate of the entropy of the distribution that the samples were drawn from, it is too low: by about
    (n - 1) / 2N nats, or (n² - 1) / 2N for pairs, if all probabilities are close to 0 or 1.

    The paper's code adds 1e-6 inside the logarithm; this class does not. With ten categories that match with
    probability 0.992, 1e-6 would be 1 % of the probability of two different categories. If a probability is zero,
    p log p is zero and its infinite gradient is set to zero; the derivative of a softmax is zero there.

    Parameters
    ----------
    categories : int, optional
        Number of categories n. Samples with 2n columns are pairs. Without it, samples are single categories.
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
            message = f"v has {v.shape[1]} columns, but must have {n}, the number of categories, or twice that"
            raise InputError(message, parameter="v")
        check_probabilities(v.unflatten(1, (-1, n)), "v")

    def _entropy(self, v: Tensor) -> Tensor:
        n = self.categories or v.shape[1]
        probability = v.mean(0) if v.shape[1] == n else v[:, :n].T @ v[:, n:] / len(v)
        return torch.special.entr(probability.clamp_min(torch.finfo(v.dtype).tiny)).sum()
