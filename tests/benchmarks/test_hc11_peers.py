"""The peers of the decoding benchmark: scores against closed forms, decoders on simulated place cells."""

import numpy as np
import pytest
from hc11 import peers
from hc11.peers import GridPrediction, GridStateSpace, PlaceFieldBayes, SamplePrediction, choose
from hc11.peers.grid import run_direction
from hc11.peers.selection import blocks
from hc11.peers.smoothing import causal_gaussian, centered_gaussian, sliding_sum
from scipy import stats

from kalmanssl.data import Recording


def track(seconds=200.0, units=30, seed=0):
    """Runs of 2 s between 0 and 1 m without rest, Poisson place cells; position and running mask."""
    rng = np.random.default_rng(seed)
    time = np.arange(0.0, seconds, 0.025) + 0.0125
    position = np.abs((time / 2.0) % 2.0 - 1.0)
    centers = np.linspace(0, 1, units)
    rate = 25.0 * np.exp(-0.5 * ((position[:, None] - centers) / 0.08) ** 2) + 0.2
    counts = rng.poisson(0.025 * rate)
    rec = Recording.from_arrays(counts, time=time, bin_size=0.025, behavior=position)
    running = (position > 0.05) & (position < 0.95)
    return rec, running


def test_grid_prediction_agrees_with_a_gaussian():
    edges = np.linspace(-6, 8, 1401)
    mass = np.diff(stats.norm(1.0, 0.7).cdf(edges))[None]
    prediction = GridPrediction(edges, mass / mass.sum())
    truth = np.array([0.3])
    z = (truth - 1.0) / 0.7
    crps = 0.7 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert prediction.mean == pytest.approx(1.0, abs=1e-4)
    assert prediction.median == pytest.approx(1.0, abs=1e-4)
    assert np.concatenate(prediction.interval(0.8)) == pytest.approx(stats.norm(1.0, 0.7).interval(0.8), abs=1e-3)
    assert prediction.crps(truth) == pytest.approx(crps, abs=1e-4)


@pytest.mark.parametrize("truth", [-0.5, 0.25, 1.7])
def test_crps_of_a_single_cell_equals_that_of_a_uniform_distribution(truth):
    prediction = GridPrediction(np.array([0.0, 1.0]), np.array([[1.0]]))
    inside = np.clip(truth, 0, 1)
    expected = inside**3 / 3 + (1 - inside) ** 3 / 3 + abs(truth - inside)
    assert prediction.crps(np.array([truth])) == pytest.approx(expected)


def test_crps_of_samples_equals_the_integral_of_its_definition():
    samples = np.array([[0.2, -1.0, 0.7, 0.7, 3.0]])
    grid = np.linspace(-5, 5, 200_001)
    step = (samples[0][:, None] <= grid).mean(axis=0)
    expected = np.trapezoid((step - (grid >= 0.4)) ** 2, grid)
    assert SamplePrediction(samples).crps(np.array([0.4])) == pytest.approx(expected, abs=1e-3)


def test_causal_smoothing_ignores_the_future_and_other_segments():
    signal = np.random.default_rng(0).normal(size=(60, 3))
    changed = signal.copy()
    changed[40:] += 1.0
    segments = [slice(0, 30), slice(30, 60)]
    for smooth in (lambda s: causal_gaussian(s, 4.0, segments), lambda s: sliding_sum(s, 10, segments)):
        before, after = smooth(signal), smooth(changed)
        np.testing.assert_allclose(before[:40], after[:40])
        assert np.all(np.abs(before[40] - after[40]) > 0)
        np.testing.assert_allclose(smooth(signal)[30:], smooth(np.concatenate([0 * signal[:30], signal[30:]]))[30:])
    assert sliding_sum(signal, 10, segments)[25] == pytest.approx(signal[16:26].sum(axis=0))


def test_centered_smoothing_leaves_a_constant_unchanged():
    np.testing.assert_allclose(centered_gaussian(np.full((50, 2), 3.0), 5.0, [slice(0, 20), slice(20, 50)]), 3.0)


def test_grid_filter_and_smoother_agree_with_enumeration_of_all_paths():
    rec, running = track(seconds=40.0, units=4)
    bins = 4
    short = rec.restrict(10.0, 10.0 + bins * rec.bin_size)
    settings = {"direction": True, "cell": 0.4, "walk_sd": 0.2, "switch_probability": 0.1, "temper": 0.6}
    decoder = GridStateSpace(**settings).fit(rec, running)
    fields, transition = decoder.fields_, decoder.transition_
    likelihood = np.exp(0.6 * fields.log_likelihood(short.activity))
    states = len(fields.rate)
    paths = np.stack(np.meshgrid(*[np.arange(states)] * bins, indexing="ij"), axis=-1).reshape(-1, bins)

    def weights(upto):
        w = fields.occupancy[paths[:, 0]] * likelihood[0, paths[:, 0]]
        for t in range(1, bins):
            w = w * transition[paths[:, t - 1], paths[:, t]] * (likelihood[t, paths[:, t]] if t <= upto else 1.0)
        return w / w.sum()

    def marginal(t, w):
        whole = np.bincount(paths[:, t], w, minlength=states)
        return whole.reshape(2, -1).sum(axis=0)

    filtered = np.stack([marginal(t, weights(t)) for t in range(bins)])
    smoothed = np.stack([marginal(t, weights(bins - 1)) for t in range(bins)])
    np.testing.assert_allclose(decoder.predict(short).mass, filtered, atol=1e-12)
    decoder = GridStateSpace(**settings, smooth=True).fit(rec, running)
    np.testing.assert_allclose(decoder.predict(short).mass, smoothed, atol=1e-12)


def peers_under_test():
    return {
        "bayes": lambda m: m.PlaceFieldBayes(window=0.1),
        "filter": lambda m: m.GridStateSpace(),
        "smoother": lambda m: m.GridStateSpace(smooth=True),
        "knn": lambda m: m.NeighborDecoder(m.Smoothed("causal", 0.1)),
        "pca": lambda m: m.NeighborDecoder(m.PCAEmbedding("centered", 0.1)),
    }


@pytest.mark.parametrize("name", list(peers_under_test()))
def test_peers_decode_the_position_from_place_cells(name):
    rec, running = track()
    train, test = rec.split(at=120.0)
    decoder = peers_under_test()[name](peers).fit(train, running[: len(train.time)])
    prediction = decoder.predict(test)
    mask, truth = running[len(train.time) :], test.behavior["position"]
    assert np.median(np.abs(prediction.median - truth)[mask]) < 0.08  # of 1 m; chance is about 0.25
    lower, upper = prediction.interval(0.95)
    assert 0.7 < np.mean(((lower <= truth) & (truth <= upper))[mask]) <= 1.0
    assert np.all(lower <= prediction.median)
    assert np.all(prediction.median <= upper)


def test_direction_is_that_of_the_run_and_minus_one_at_rest():
    position = np.array([0.0, 0.1, 0.5, 0.9, 1.0, 0.8, 0.4, 0.0])
    running = np.array([0, 1, 1, 1, 0, 1, 1, 0], dtype=bool)
    assert run_direction(position, running).tolist() == [-1, 1, 1, 1, -1, 0, 0, -1]


def test_blocks_start_with_a_run_and_exclude_their_own_running_bins():
    rec, running = track(seconds=60.0)
    covered = np.zeros(len(running), dtype=int)
    for block, outside in blocks(rec, running, 4):
        covered[block] += 1
        assert not outside[block].any()
        assert block.start == 0 or (running[block.start] and not running[block.start - 1])
        np.testing.assert_array_equal(np.delete(outside, np.r_[block]), np.delete(running, np.r_[block]))
    assert np.all(covered == 1)


def test_choose_returns_the_settings_with_the_best_held_out_score():
    rec, running = track()
    selection = choose(PlaceFieldBayes, {"window": (0.1, 3.0), "field_sd": (0.05, 0.5)}, rec, running, folds=3)
    assert selection.best == {"window": 0.1, "field_sd": 0.05}
    assert selection.tried == 4
    assert 0 < selection.crps < 0.1
