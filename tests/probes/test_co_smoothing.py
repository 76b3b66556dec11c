"""Bits per spike and co-smoothing: formulas, simulations with known rates, input validation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson
from sklearn.linear_model import PoissonRegressor

from kalmanssl.datasets import ring_cells
from kalmanssl.errors import InputError
from kalmanssl.probes import bits_per_spike, co_smoothing
from kalmanssl.utils.poisson import poisson_regression


@pytest.fixture(scope="module")
def ring():
    """Latents of the simulated ring (angle and gain), counts and rates per bin, of a training and a test part."""
    recording = ring_cells(n_units=12, duration=300, random_state=0)
    angle, gain = recording.behavior["head_direction"], recording.behavior["gain"]
    latents = np.stack([np.cos(angle), np.sin(angle), np.log(gain)], axis=1)
    rate = recording.behavior["rate"] * recording.bin_size
    parts = slice(0, 8000), slice(8000, None)
    return [(latents[part], recording.activity[part], rate[part]) for part in parts]


def test_score_is_the_difference_of_poisson_log_likelihoods():
    rng = np.random.default_rng(0)
    rate, counts = rng.uniform(0.1, 2, (50, 3)), rng.poisson(1.0, (50, 3))
    gain = poisson.logpmf(counts, rate) - poisson.logpmf(counts, counts.mean(0))
    found = bits_per_spike(rate, counts)
    np.testing.assert_allclose(found.score, gain.sum() / np.log(2) / counts.sum())
    np.testing.assert_allclose(found.unit_score, gain.sum(0) / np.log(2) / counts.sum(0))
    np.testing.assert_array_equal(found.n_spikes, counts.sum(0))


def test_mean_rates_have_a_score_of_zero():
    counts = np.random.default_rng(1).poisson(0.5, (40, 4))
    assert abs(bits_per_spike(np.tile(counts.mean(0), (40, 1)), counts).score) < 1e-12


def test_a_unit_without_spikes_has_no_score_and_costs_its_rate():
    counts = np.array([[0, 1], [0, 1]])
    found = bits_per_spike([[0.0, 1.0], [0.5, 1.0]], counts)
    assert np.isnan(found.unit_score[0])
    np.testing.assert_allclose(found.score, -0.5 / np.log(2) / 2)


def test_standard_error_agrees_with_the_standard_deviation_over_simulations():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(300):
        rate = np.exp(np.repeat(0.5 * rng.standard_normal((40, 1)), 20, axis=0)) * [0.3, 0.6]  # constant for 20 bins
        found.append(bits_per_spike(rate, rng.poisson(rate)))
    sd = np.std([one.score for one in found])
    np.testing.assert_allclose(np.mean([one.standard_error for one in found]), sd, rtol=0.2)


def test_regression_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((400, 3))
    y = rng.poisson(np.exp(x @ [0.5, -0.3, 0.0] - 1))
    expected = PoissonRegressor(alpha=0.01, tol=1e-10, max_iter=1000).fit(x, y)
    found = poisson_regression(np.column_stack([x, np.ones(400)]), y[:, None].astype(float), 0.01, 1e-6)[:, 0]
    np.testing.assert_allclose(found, [*expected.coef_, expected.intercept_], atol=1e-5)


def test_score_of_true_latents_is_near_that_of_the_true_rates_and_below_it(ring):
    (train, counts, _), (test, test_counts, rate) = ring
    found, best = co_smoothing(train, counts, test, test_counts), bits_per_spike(rate, test_counts)
    assert 0.8 * best.score < found.score < best.score
    assert (found.unit_score > 0).all()


def test_noise_in_the_latents_reduces_the_score(ring):
    (train, counts, _), (test, test_counts, _) = ring
    rng = np.random.default_rng(4)
    scores = [
        co_smoothing(
            train + sd * rng.standard_normal(train.shape),
            counts,
            test + sd * rng.standard_normal(test.shape),
            test_counts,
        ).score
        for sd in (0.0, 0.5, 2.0)
    ]
    assert scores[0] > scores[1] > scores[2] > 0


@pytest.mark.parametrize("seed", range(4))
def test_score_of_shuffled_latents_is_zero_within_its_standard_error(ring, seed):
    (train, counts, _), (test, test_counts, _) = ring
    rng = np.random.default_rng(seed)
    found = co_smoothing(rng.permutation(train), counts, rng.permutation(test), test_counts)
    assert abs(found.score) < 3 * found.standard_error


def test_units_without_training_spikes_and_constant_latents_are_scored():
    rng = np.random.default_rng(5)
    x, y = np.column_stack([rng.standard_normal(200), np.ones(200)]), rng.poisson(0.5, (200, 2))
    y[:, 1] = 0
    found = co_smoothing(x, y, x, y)
    assert np.isfinite(found.score)
    assert np.isnan(found.unit_score[1])


def test_table_has_one_row_per_unit():
    pandas = pytest.importorskip("pandas")
    table = bits_per_spike([[0.5, 1.0], [0.5, 1.0]], [[0, 1], [1, 1]]).to_dataframe(["a", "b"])
    expected = pandas.DataFrame({"bits_per_spike": [0.0, 0.0], "n_spikes": [1, 2]}, index=["a", "b"])
    pandas.testing.assert_frame_equal(table, expected.rename_axis("unit"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_counts": np.ones((19, 2))}, "train has 20 bins and train_counts 19: give the same bins"),
        ({"test": np.ones((20, 3))}, "train has 2 latents and 2 units, test 3 and 2: use the same ones"),
        ({"train_counts": np.full((20, 2), 0.5)}, "train_counts must be whole numbers of at least zero"),
        ({"train_counts": np.zeros((20, 2))}, "train_counts has no spikes"),
        ({"test_counts": np.zeros((20, 2))}, "counts has no spikes"),
        ({"train": np.full((20, 2), np.nan)}, "train has 20 of 20 rows with NaN"),
        ({"penalty": 0}, "penalty must be positive and finite"),
    ],
)
def test_unusable_input_is_named(changes, message):
    x = np.random.default_rng(0).standard_normal((20, 2))
    given = {"train": x, "train_counts": np.ones((20, 2)), "test": x, "test_counts": np.ones((20, 2))}
    with pytest.raises(InputError, match=message):
        co_smoothing(**(given | changes))


@pytest.mark.parametrize(
    ("rate", "message"), [([[1.0]], "give one rate per count"), ([[-1.0], [1.0]], "rate has negative values")]
)
def test_unusable_rates_are_named(rate, message):
    with pytest.raises(InputError, match=message):
        bits_per_spike(rate, [[1], [0]])
