"""Scores and predictive distributions of the decoding benchmark, against closed forms and the library."""

from pathlib import Path

import numpy as np
import pytest
from decoding.methods import QUICK
from decoding.ours import decode_ours
from decoding.predictions import GridPrediction, SamplePrediction, circular_mean, wrap
from decoding.recordings import load, targets_of
from decoding.scores import score
from decoding.tasks import Data, Target, Task
from scipy import stats

from kalmanssl.data import Recording
from kalmanssl.decoding import score_decoding

PERIOD = 2 * np.pi


def column(*values):
    return np.array(values, dtype=float)[:, None]


def test_grid_prediction_agrees_with_a_gaussian():
    edges = np.linspace(-6, 8, 1401)
    mass = np.diff(stats.norm(1.0, 0.7).cdf(edges))[None]
    prediction = GridPrediction((edges,), mass / mass.sum())
    z = (0.3 - 1.0) / 0.7
    crps = 0.7 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert prediction.mean[0, 0] == pytest.approx(1.0, abs=1e-4)
    for q in (0.1, 0.5, 0.9):
        assert prediction.quantile(q)[0, 0] == pytest.approx(stats.norm(1.0, 0.7).ppf(q), abs=1e-3)
    assert prediction.crps(column(0.3))[0, 0] == pytest.approx(crps, abs=1e-4)


@pytest.mark.parametrize("truth", [-0.5, 0.25, 1.7])
def test_crps_of_a_single_cell_equals_that_of_a_uniform_distribution(truth):
    prediction = GridPrediction((np.array([0.0, 1.0]),), np.array([[1.0]]))
    inside = np.clip(truth, 0, 1)
    expected = inside**3 / 3 + (1 - inside) ** 3 / 3 + abs(truth - inside)
    assert prediction.crps(column(truth))[0, 0] == pytest.approx(expected)


def test_crps_of_samples_equals_the_integral_of_its_definition():
    samples = np.array([0.2, -1.0, 0.7, 0.7, 3.0])
    grid = np.linspace(-5, 5, 200_001)
    step = (samples[:, None] <= grid).mean(axis=0)
    expected = np.trapezoid((step - (grid >= 0.4)) ** 2, grid)
    found = SamplePrediction(samples[None, :, None]).crps(column(0.4))
    assert found[0, 0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0, 5.5])
def test_predictions_on_a_circle_do_not_depend_on_its_origin(shift):
    rng = np.random.default_rng(0)
    samples = 0.4 * rng.normal(size=(1, 400, 1))
    truth = column(0.3)
    edges = np.linspace(0, PERIOD, 121)
    for turned, at in ((0.0, 0.0), (shift, shift)):
        histogram = np.histogram((samples[0, :, 0] + turned) % PERIOD, edges)[0][None] / 400
        for prediction, tolerance in (
            (SamplePrediction((samples + turned) % PERIOD, PERIOD), 1e-9),
            (GridPrediction((edges,), histogram, PERIOD), 0.03),
        ):
            found = [prediction.quantile(q)[0, 0] - at for q in (0.1, 0.5, 0.9)]
            expected = [np.quantile(samples, q) for q in (0.1, 0.5, 0.9)]
            np.testing.assert_allclose(wrap(np.array(found) - expected, PERIOD), 0, atol=tolerance)
            crps = prediction.crps((truth + at) % PERIOD)[0, 0]
            assert crps == pytest.approx(SamplePrediction(samples).crps(truth)[0, 0], abs=tolerance)


def test_circular_mean_of_values_around_the_origin():
    assert wrap(circular_mean(np.array([0.1, PERIOD - 0.1]), PERIOD), PERIOD) == pytest.approx(0, abs=1e-12)


def test_samples_of_a_grid_have_its_mean_and_its_correlation():
    edges = (np.linspace(0, 1, 21), np.linspace(0, 2, 21))
    mass = np.zeros((1, 20, 20))
    mass[0, np.arange(20), np.arange(20)] = 1 / 20
    drawn = GridPrediction(edges, mass).draw(4000, np.random.default_rng(0), np.array([0]))[0]
    np.testing.assert_allclose(drawn.mean(axis=0), [0.5, 1.0], atol=0.03)
    assert np.corrcoef(drawn.T)[0, 1] > 0.99


def task_of(truth, period=None, gap=None):
    """A task whose test part has this behavior."""
    count = len(truth)
    time = np.arange(2 * count) * 0.1
    behavior = np.concatenate([truth, truth])
    rec = Recording.from_arrays(np.ones((2 * count, 2)), time=time, bin_size=0.1, behavior={"position": behavior})
    train, test = rec.split(at=time[count] - 0.05)
    running = np.arange(count) % 2 == 0
    return Task(Data("made up", train, test, running, running), Target("x", "position", "cm", 100.0, period))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["simulated track", "simulated ring", "simulated arm"])
def test_scores_of_our_decoder_equal_those_of_the_library(name):
    data = load(name, Path())
    task = Task(data, targets_of(name)[0])
    prediction, fit_cpu_s, decode_cpu_s = decode_ours(task, 0, False, QUICK.model, QUICK.decoder)
    assert fit_cpu_s > 0
    assert decode_cpu_s > 0
    found = score(prediction, task)
    for bins, mask in (("all", None), ("running", data.running_test)):
        expected = score_decoding(prediction.decoded, data.test.behavior[task.target.behavior], mask)
        assert found[bins]["bins"] == expected["bins"]
        assert found[bins]["crps"] == pytest.approx(task.target.factor * expected["crps"], rel=1e-4)
        assert found[bins]["r2"] == pytest.approx(expected["r2"], abs=1e-4)
        for level in ("50", "80", "95"):
            width = task.target.factor * expected["width"][level]
            assert found[bins]["coverage"][level] == pytest.approx(expected["coverage"][level], abs=0.01)
            assert found[bins]["width"][level] == pytest.approx(width, rel=1e-4)


def test_energy_score_and_area_of_a_known_distribution():
    count = 400
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(count, 2))
    samples = rng.normal(size=(count, 500, 2))
    scores = score(SamplePrediction(samples), task_of(truth))["all"]
    # for a correct forecast the expectation is E|X - X'| / 2 = sqrt(pi) / 2 in two dimensions
    assert scores["energy"] == pytest.approx(100 * np.sqrt(np.pi) / 2, rel=0.05)
    assert scores["area"]["95"] == pytest.approx(100**2 * (2 * 1.96) ** 2, rel=0.03)
    assert scores["coverage"]["95"] == pytest.approx(0.95, abs=0.02)
    assert len(scores["r2_dimensions"]) == 2


def test_errors_on_a_circle_go_the_short_way_around():
    truth = np.full(40, 0.1)
    samples = np.full((40, 5, 1), PERIOD - 0.1)
    scores = score(SamplePrediction(samples, PERIOD), task_of(truth, PERIOD))["all"]
    assert scores["median_error"] == pytest.approx(20.0)
    assert scores["crps"] == pytest.approx(20.0)


def test_bins_with_unknown_behavior_are_left_out():
    truth = np.arange(40.0)
    truth[10:20] = np.nan
    scores = score(SamplePrediction(np.zeros((40, 3, 1))), task_of(truth))
    assert scores["all"]["bins"] == 30
    assert np.isfinite(scores["all"]["crps"])


def test_standard_error_of_coverage_counts_blocks_of_time():
    inside = np.repeat(np.arange(20) % 2 == 0, 50)  # blocks of 50 bins are inside or outside together
    truth = np.where(inside, 0.0, 5.0)
    samples = np.tile(np.linspace(-1, 1, 101), (1000, 1))[:, :, None]
    scores = score(SamplePrediction(samples), task_of(truth))["all"]
    assert scores["coverage"]["95"] == pytest.approx(0.5)
    assert scores["coverage_error"]["95"] == pytest.approx(0.5 / np.sqrt(20), rel=0.1)


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.5])
def test_width_ratio_is_how_much_too_wide_the_predictions_are(scale):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(8000, 1))
    edges = np.linspace(-12, 12, 801)
    mass = np.diff(stats.norm(0.0, scale).cdf(edges))
    scores = score(GridPrediction((edges,), np.tile(mass / mass.sum(), (8000, 1))), task_of(truth))["all"]
    for level in ("50", "80", "95"):
        assert scores["width_ratio"][level] == pytest.approx(scale, rel=0.04)


def test_width_ratio_is_none_if_no_level_covers_often_enough():
    truth = np.random.default_rng(0).normal(size=(500, 1))
    ratio = score(SamplePrediction(np.zeros((500, 20, 1))), task_of(truth))["all"]["width_ratio"]
    assert ratio == {"50": None, "80": None, "95": None}
