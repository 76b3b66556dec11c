"""Comparisons of scores over blocks of time."""

import numpy as np
from scipy.stats import norm

from kalmanssl.decoding.held_out._paired_comparison import is_lower, probability_of_lowest


def test_an_improvement_in_every_block_counts_and_one_in_a_single_block_does_not():
    old = np.full(20, 1.0)
    everywhere, once = old - 0.1 + 0.01 * np.arange(20) / 20, old + 0.01
    once[7] -= 0.95
    assert is_lower(everywhere, old, 1.0)
    assert once.sum() < old.sum()
    assert not is_lower(once, old, 1.0)
    assert is_lower(once, old, 0.0)


def test_equal_and_higher_scores_are_not_lower():
    old = np.arange(1.0, 9.0)
    assert not is_lower(old, old, 0.0)
    assert not is_lower(old + 0.1, old, 0.0)
    assert not is_lower(np.zeros(0), np.zeros(0), 0.0)


def test_blocks_without_bins_do_not_change_the_result():
    rng = np.random.default_rng(0)
    old = rng.uniform(1, 2, size=10)
    new = old - rng.normal(0.3, 1.0, size=10)
    for errors in np.linspace(0, 3, 13):
        padded = [np.concatenate([values, np.zeros(90)]) for values in (new, old)]
        assert is_lower(new, old, errors) == is_lower(*padded, errors)


def test_about_one_in_six_changes_without_effect_passes_one_standard_error():
    rng = np.random.default_rng(1)
    passed = [is_lower(*rng.uniform(1, 2, size=(2, 30)), 1.0) for _ in range(2000)]
    assert abs(np.mean(passed) - 0.16) < 0.03


def test_the_probability_of_the_lowest_score_is_that_of_a_normal_difference():
    """With many blocks, the bootstrapped total of a difference is normal with the standard error over blocks."""
    rng = np.random.default_rng(0)
    first = rng.uniform(1, 2, size=400)
    for z in (0.0, 0.5, 1.0, 3.0):
        difference = rng.normal(size=400)
        difference += z * difference.std(ddof=1) / 20 - difference.mean()  # 20 is the root of 400
        second = first + 0.1 * difference
        lower, higher = probability_of_lowest(np.stack([first, second]))
        assert lower + higher == 1.0
        assert abs(lower - norm.cdf(z)) < 0.05


def test_the_same_scores_give_the_same_probabilities_and_blocks_without_bins_change_little():
    scores = np.random.default_rng(1).uniform(1, 2, size=(5, 40))
    probability = probability_of_lowest(scores)
    assert np.array_equal(probability, probability_of_lowest(scores))
    padded = probability_of_lowest(np.concatenate([scores, np.zeros((5, 60))], axis=1))
    assert np.abs(padded - probability).max() < 0.06
    assert np.array_equal(probability_of_lowest(scores[:1]), [1.0])
