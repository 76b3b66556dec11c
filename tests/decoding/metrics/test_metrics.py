"""Scores of decoded behavior."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from kalmanssl.decoding import DecodedPosition, score_decoding
from kalmanssl.errors import InputError

LEVELS = np.linspace(0.0005, 0.9995, 1999)


def decoded(mean, sd, periods=None):
    """Gaussian predictions around `mean` (time,) or (time, dims)."""
    mean = np.asarray(mean, dtype=float)
    points = mean.reshape(len(mean), -1)
    table = points[:, :, None] + np.asarray(sd) * norm.ppf(LEVELS)
    periods = (None,) * points.shape[1] if periods is None else periods
    time = 0.1 * np.arange(len(mean))
    return DecodedPosition(time, 0.95, table, LEVELS, points, periods, mean.ndim == 1)


@pytest.mark.parametrize("periods", [None, (2 * np.pi,)])
def test_r2_of_a_constant_truth_is_unknown(periods):
    """Not minus 1e33, from the rounding of its mean."""
    truth = np.full(1001, 0.1)
    assert np.isnan(score_decoding(decoded(truth + 0.2, 0.5, periods), truth)["r2"])


def test_scores_of_calibrated_gaussians():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20_000) * 2
    found = score_decoding(decoded(truth + 0.5 * rng.normal(size=20_000), 0.5), truth)
    assert found["bins"] == 20_000
    assert found["median_error"] == pytest.approx(0.5 * norm.ppf(0.75), rel=0.03)
    assert found["mean_error"] == pytest.approx(0.5 * np.sqrt(2 / np.pi), rel=0.03)
    assert found["r2"] == pytest.approx(1 - 0.25 / 4, abs=0.003)
    assert found["crps"] == pytest.approx(0.5 / np.sqrt(np.pi), rel=0.03)
    for name, level in (("50", 0.5), ("80", 0.8), ("95", 0.95)):
        assert found["coverage"][name] == pytest.approx(level, abs=0.01)
        assert found["width"][name] == pytest.approx(2 * 0.5 * norm.ppf((1 + level) / 2), rel=1e-3)
    curve = found["calibration"]
    np.testing.assert_allclose(curve["empirical"], curve["nominal"], atol=0.015)


def test_the_coverage_error_is_larger_if_errors_are_correlated_within_segments():
    rng = np.random.default_rng(1)
    truth = np.zeros(2400)
    independent = score_decoding(decoded(rng.normal(size=2400), 1.0), truth)
    correlated = score_decoding(decoded(np.repeat(rng.normal(size=24), 100), 1.0), truth)
    assert correlated["coverage_error"]["50"] > 4 * independent["coverage_error"]["50"]


def test_unknown_and_masked_bins_are_left_out():
    truth = np.array([0.0, 1.0, np.nan, 3.0, 4.0])
    mean = truth + np.array([0.1, 0.2, 9.0, 0.3, 9.0])
    found = score_decoding(decoded(mean, 1.0), truth, mask=np.array([True, True, True, True, False]))
    assert found["bins"] == 3
    assert found["mean_error"] == pytest.approx(0.2)


def test_scores_of_each_dimension_and_of_all_together():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(5000, 2)) * [1.0, 3.0]
    error = rng.normal(size=(5000, 2)) * [0.3, 0.4]
    found = score_decoding(decoded(truth + error, np.array([[[0.3], [0.4]]])), truth)
    first, second = found["dimensions"]
    assert first["mean_error"] == pytest.approx(np.abs(error[:, 0]).mean())
    assert found["mean_error"] == pytest.approx(np.linalg.norm(error, axis=1).mean())
    assert found["median_error"] == pytest.approx(np.median(np.linalg.norm(error, axis=1)))
    assert found["crps"] == pytest.approx((first["crps"] + second["crps"]) / 2)
    total = ((truth - truth.mean(axis=0)) ** 2).sum()
    assert found["r2"] == pytest.approx(1 - (error**2).sum() / total)
    assert found["coverage"]["80"] == pytest.approx((first["coverage"]["80"] + second["coverage"]["80"]) / 2)


def test_circular_errors_go_the_short_way_around():
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 360, size=5000)
    mean = (truth + 10 * rng.normal(size=5000)) % 360
    found = score_decoding(decoded(mean, 10.0, (360.0,)), truth)
    assert found["mean_error"] == pytest.approx(10 * np.sqrt(2 / np.pi), rel=0.05)
    assert found["coverage"]["95"] == pytest.approx(0.95, abs=0.01)
    assert found["crps"] == pytest.approx(10 / np.sqrt(np.pi), rel=0.05)
    assert found["r2"] > 0.95


def test_scores_can_be_written_as_json():
    scores = score_decoding(decoded(np.arange(5.0), 1.0), np.arange(5.0))
    assert json.loads(json.dumps(scores)) == scores


@pytest.mark.parametrize(
    ("truth", "mask", "message"),
    [
        (np.zeros(4), None, r"truth has shape \(4,\), the decoded behavior \(5,\)"),
        (np.zeros((5, 2)), None, r"truth has shape \(5, 2\)"),
        (np.full(5, np.nan), None, "no bin is left to score"),
        (np.zeros(5), np.zeros(5, dtype=bool), "no bin is left to score"),
        (np.zeros(5), np.zeros(5), "mask is float64"),
        (np.zeros(5), np.zeros(4, dtype=bool), r"must be bool of shape \(5,\)"),
    ],
)
def test_bad_input_raises_an_error_on_one_line(truth, mask, message):
    with pytest.raises(InputError, match=message) as caught:
        score_decoding(decoded(np.arange(5.0), 1.0), truth, mask)
    assert "\n" not in str(caught.value)
