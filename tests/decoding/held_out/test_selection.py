"""The search for the settings of a movement prior, and the bins by which it is judged."""

from dataclasses import dataclass

import numpy as np
import pytest

from kalmanssl.decoding.held_out import Fold, Samples, choice_weights
from kalmanssl.decoding.held_out._selection import vary_one_at_a_time

POWERS = (0.1, 0.2, 0.4, 0.8)
WIDTHS = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Pair:
    power: float
    width: float


def ridge(pair: Pair) -> np.ndarray:
    """A score in four blocks with its lowest value at (.8, 8), along a ridge that neither setting can follow alone."""
    power, width = np.log2(pair.power / 0.8), np.log2(pair.width / 8)
    value = 1 + 4 * (power - width) ** 2 + 0.1 * (power + width) ** 2
    return value / 4 + 1e-6 * np.arange(4)


def search(start: Pair, together: tuple[str, str] | None, n_rounds: int = 5) -> Pair:
    return vary_one_at_a_time(start, {"power": POWERS, "width": WIDTHS}, ridge, n_rounds, 0.5, together)[0]


@pytest.mark.parametrize("start", [Pair(0.1, 1.0), Pair(0.2, 2.0), Pair(0.4, 4.0)])
def test_two_settings_that_make_up_for_each_other_are_changed_together(start):
    assert search(start, None) == start
    assert search(start, ("power", "width")) == Pair(0.8, 8.0)


def test_pairs_end_at_the_last_candidates():
    assert search(Pair(0.8, 8.0), ("power", "width")) == Pair(0.8, 8.0)


def samples(bins: int, block_length: int) -> Samples:
    rng = np.random.default_rng(0)
    zeros = np.zeros(bins, dtype=int)
    usable = np.arange(bins) % 7 > 0
    block = np.where(usable, np.arange(bins) // block_length, 0)
    return Samples(
        mean=rng.normal(size=(bins, 2)),
        cov=None,
        behavior=rng.random((bins, 1)),
        time=np.arange(bins, dtype=float),
        segment=zeros,
        usable=usable,
        block=block,
        weight=usable.astype(float),
        moving=usable,
        session=zeros,
    )


@pytest.mark.parametrize("order", [(0.6, 0.8), (0.8, 0.6)])
def test_bins_that_a_larger_fold_scores_do_not_count_in_smaller_ones(order):
    s = samples(200, 10)
    bins = np.arange(200)
    folds = [Fold(s, s.usable & (bins < 200 * share), bins >= 200 * share) for share in order]
    for fold, weight, share in zip(folds, choice_weights(folds), order, strict=True):
        expected = np.where(fold.scored_bins < 160, 1.0, 0.0) if share == 0.6 else np.ones(len(fold.scored_bins))
        np.testing.assert_array_equal(weight, expected)


def test_bins_that_one_fold_scores_all_count():
    s = samples(120, 10)
    bins = np.arange(120)
    left_out = [Fold(s, s.usable & (bins // 40 != number), bins // 40 == number) for number in range(3)]
    assert all(weight.all() for weight in choice_weights(left_out))
