"""The baselines of the decoding benchmark: smoothing, grids, filters and the choice of settings."""

import numpy as np
import pytest
from decoding.baselines.features import smoothed_counts
from decoding.baselines.grids import Grid
from decoding.baselines.kalman_decoder import KalmanDecoder
from decoding.baselines.movement_prior import MovementPrior
from decoding.baselines.neighbors import Features, NeighborDecoder, nearest
from decoding.baselines.place_fields import GridStateSpace, PlaceFieldBayes, moving_up
from decoding.baselines.ridge import lagged_ridge
from decoding.baselines.smoothing import causal_gaussian, centered_gaussian, lagged_sums, sliding_sum
from decoding.baselines.state_space import filter_grid, segment_starts, smooth_grid
from decoding.methods import QUICK, select_and_decode
from decoding.selection import blocks, choose
from decoding.tasks import Data, Target, Task

from kalmanssl.data import Recording

PERIOD = 2 * np.pi


def track(seconds=200.0, units=30, seed=0):
    """Runs of 2 s between 0 and 1 m without rest, Poisson place cells; split at 60 %."""
    rng = np.random.default_rng(seed)
    time = np.arange(0.0, seconds, 0.025) + 0.0125
    position = np.abs((time / 2.0) % 2.0 - 1.0)
    centers = np.linspace(0, 1, units)
    rate = 25.0 * np.exp(-0.5 * ((position[:, None] - centers) / 0.08) ** 2) + 0.2
    rec = Recording.from_arrays(rng.poisson(0.025 * rate), time=time, bin_size=0.025, behavior=position)
    train, test = rec.split(at=0.6 * seconds)
    masks = [(part.behavior["position"] > 0.05) & (part.behavior["position"] < 0.95) for part in (train, test)]
    return Task(Data("track", train, test, *masks), Target("track", "position", "cm", 100.0))


def counts(kind):
    return Features(kind, lambda data, part: smoothed_counts(data, part, kind))


# --- smoothing -------------------------------------------------------------------------------------------------------


def test_causal_smoothing_ignores_the_future_and_other_segments():
    signal = np.random.default_rng(0).normal(size=(60, 3))
    changed = signal.copy()
    changed[40:] += 1.0
    segments = [slice(0, 30), slice(30, 60)]
    for smooth in (
        lambda s: causal_gaussian(s, 4.0, segments),
        lambda s: sliding_sum(s, 10, segments),
        lambda s: lagged_sums(s, 4, 3, 0, segments),
    ):
        before, after = smooth(signal), smooth(changed)
        np.testing.assert_allclose(before[:40], after[:40])
        assert np.any(np.abs(before[40] - after[40]) > 0)
        np.testing.assert_allclose(smooth(signal)[30:], smooth(np.concatenate([0 * signal[:30], signal[30:]]))[30:])
    assert sliding_sum(signal, 10, segments)[25] == pytest.approx(signal[16:26].sum(axis=0))


def test_lagged_sums_are_successive_windows():
    signal = np.arange(40.0)[:, None]
    found = lagged_sums(signal, 4, 3, 0, [slice(0, 40)])
    np.testing.assert_allclose(found[20], [17 + 18 + 19 + 20, 13 + 14 + 15 + 16, 9 + 10 + 11 + 12])
    shifted = lagged_sums(signal, 4, 3, 6, [slice(0, 40)])
    np.testing.assert_allclose(shifted[14], found[20])


def test_centered_smoothing_leaves_a_constant_unchanged():
    np.testing.assert_allclose(centered_gaussian(np.full((50, 2), 3.0), 5.0, [slice(0, 20), slice(20, 50)]), 3.0)


# --- neighbors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbors_equal_those_of_scikit_learn(metric):
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    stored, wanted = (rng.normal(size=(count, 4)) * [0.1, 1, 2, 5] for count in (300, 40))
    found = nearest(stored.astype(np.float32), wanted.astype(np.float32), 7, metric)
    index = NearestNeighbors(n_neighbors=7, metric=metric).fit(stored)
    np.testing.assert_array_equal(found, index.kneighbors(wanted, return_distance=False))


def test_bins_without_activity_have_random_neighbors():
    stored = np.random.default_rng(0).random((500, 3)).astype(np.float32)
    found = nearest(stored, np.zeros((1, 3), dtype=np.float32), 100, "cosine")
    assert 150 < found.mean() < 350


# --- grids and filters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [None, PERIOD])
def test_steps_are_stochastic_symmetric_and_wrap_on_circles(period):
    grid = Grid.around(np.linspace(0.01, 6.2, 500)[:, None], period)
    step, other = grid.steps(0.05)
    np.testing.assert_allclose(step.sum(axis=1), 1.0)
    np.testing.assert_allclose(step, step.T, atol=1e-6)  # a walk with reflecting ends keeps the uniform distribution
    np.testing.assert_allclose(other, [[1.0]])
    assert (step[0, -1] > 0.01) == (period is not None)


def test_cells_contain_their_values():
    values = np.random.default_rng(0).random((200, 2))
    grid = Grid.around(values, None)
    x, y = np.unravel_index(grid.cell(values), grid.shape)
    for edges, index, value in zip(grid.edges, (x, y), values.T, strict=True):
        assert np.all(edges[index] <= value)
        assert np.all(value <= edges[index + 1])
    assert grid.cell(np.array([9.0, -9.0])) == np.ravel_multi_index((grid.shape[0] - 1, 0), grid.shape)


def test_filter_and_smoother_agree_with_enumeration_of_all_sequences():
    rng = np.random.default_rng(0)
    bins, shape, jump = 5, (2, 3), 0.1
    likelihood = rng.random((bins, *shape)).astype(np.float32) + 0.1
    starts = np.array([True, False, False, True, False])
    step_x, step_y = (rng.random((n, n)) + 0.1 for n in shape)
    step_x, step_y = (step / step.sum(axis=1, keepdims=True) for step in (step_x, step_y))
    prior = rng.random(shape)
    prior /= prior.sum()
    flat = (1 - jump) * np.kron(step_x, step_y) + jump * prior.ravel()
    cells = prior.size
    paths = np.stack(np.meshgrid(*[np.arange(cells)] * bins, indexing="ij"), axis=-1).reshape(-1, bins)

    def marginal(t, last):
        weight = np.ones(len(paths))
        for s in range(bins):
            weight = weight * (prior.ravel()[paths[:, s]] if starts[s] else flat[paths[:, s - 1], paths[:, s]])
            if s <= last:
                weight = weight * likelihood[s].ravel()[paths[:, s]]
        found = np.bincount(paths[:, t], weight, minlength=cells)
        return (found / found.sum()).reshape(shape)

    arguments = (likelihood, starts, step_x, step_y, prior, jump)
    np.testing.assert_allclose(filter_grid(*arguments), [marginal(t, t) for t in range(bins)], atol=1e-6)
    np.testing.assert_allclose(smooth_grid(*arguments), [marginal(t, bins - 1) for t in range(bins)], atol=1e-6)


def test_segments_start_after_gaps():
    time = np.array([0.0, 0.1, 0.2, 1.0, 1.1])
    assert segment_starts(time, 0.1).tolist() == [True, False, False, True, False]


def test_movement_prior_without_movement_is_plain_neighbors():
    task = track()
    plain, prior = NeighborDecoder(task, counts("causal")), MovementPrior(task, counts("causal"), smoother=False)
    block, found = slice(0, 1000), {}
    for name, decoder, settings in (
        ("plain", plain, {}),
        ("prior", prior, {"walk": 50.0, "power": 1.0, "divide": 0.0, "jump": 0.0}),
    ):
        decoder.fit(np.arange(len(task.train)))
        found[name] = decoder.decode(decoder.prepare("test", block), neighbors=40, **settings)
    np.testing.assert_allclose(found["prior"].mean, found["plain"].mean, atol=0.02)


@pytest.mark.parametrize("smoother", [False, True])
def test_movement_prior_reduces_the_error_of_neighbors_on_a_random_walk(smoother):
    rng = np.random.default_rng(0)
    bins = 6000
    position = np.abs((np.cumsum(0.01 * rng.normal(size=bins)) + 0.5) % 2 - 1)  # reflected at 0 and 1
    rate = 15.0 * np.exp(-0.5 * ((position[:, None] - np.linspace(0, 1, 12)) / 0.1) ** 2) + 1.0
    rec = Recording.from_arrays(rng.poisson(0.025 * rate), bin_size=0.025, behavior=position)
    train, test = rec.split(at=100.0)
    everywhere = [np.ones(len(part.time), dtype=bool) for part in (train, test)]
    task = Task(Data("walk", train, test, *everywhere), Target("walk", "position", "cm", 100.0))

    def brief(data, part):  # noise breaks the ties between bins with the same spikes
        smooth = causal_gaussian(np.sqrt(data.part(part).activity), 2.0, data.part(part).segments())
        return smooth + 0.01 * np.random.default_rng(1).random(smooth.shape)

    features = Features("brief", brief)
    walk = {"neighbors": (40,), "walk": (0.01,), "power": (0.2, 0.4)}
    look = {"neighbors": (40,)}
    plain = select_and_decode(lambda t: NeighborDecoder(t, features), look, task, QUICK)
    prior = select_and_decode(lambda t: MovementPrior(t, features, smoother), walk, task, QUICK)
    truth = task.truth("test")
    assert prior.prediction.crps(truth).mean() < 0.7 * plain.prediction.crps(truth).mean()


# --- decoders --------------------------------------------------------------------------------------------------------


def decoders():
    return {
        "neighbors": (lambda t: NeighborDecoder(t, counts("causal")), {"neighbors": (20,)}),
        "bayes": (PlaceFieldBayes, {"window": (0.1,)}),
        "filter": (lambda t: GridStateSpace(t, False), {"power": (0.3,)}),
        "smoother": (lambda t: GridStateSpace(t, True), {"power": (0.3,)}),
        "ridge": (lambda t: lagged_ridge(t, "centered"), {"penalty": (1e-2,)}),
        "kalman": (KalmanDecoder, {"lag": (0,), "noise": (3.0,)}),
    }


@pytest.mark.parametrize("name", list(decoders()))
def test_decoders_recover_the_position_from_place_cells(name):
    task = track()
    make, candidates = decoders()[name]
    outcome = select_and_decode(make, candidates, task, QUICK)
    truth = task.truth("test")
    error = np.abs(outcome.prediction.quantile(0.5) - truth)
    assert np.median(error) < 0.1  # of 1 m; chance is about 0.25
    lower, upper = (outcome.prediction.quantile(q) for q in (0.025, 0.975))
    assert 0.65 < np.mean((lower <= truth) & (truth <= upper)) <= 1.0
    assert outcome.chosen["held_out_crps"] == pytest.approx(100 * outcome.prediction.crps(truth).mean(), rel=0.5)


@pytest.mark.parametrize("name", list(decoders()))
def test_causal_decoders_do_not_depend_on_later_bins(name):
    if name in ("smoother", "ridge"):
        pytest.skip("uses later bins")
    task = track(seconds=60.0)
    make, _ = decoders()[name]
    changed = track(seconds=60.0)
    changed.data.test.activity[500:] = changed.data.test.activity[500:][::-1]
    means = []
    for one in (task, changed):
        decoder = make(one)
        decoder.fit(np.arange(len(one.train)))
        means.append(decoder.decode(decoder.prepare("test", slice(0, len(one.data.test.time)))).mean)
    np.testing.assert_allclose(means[0][:500], means[1][:500], atol=1e-6)
    assert np.any(means[0][500:] != means[1][500:])


def test_direction_is_that_of_the_smoothed_movement():
    position = np.concatenate([np.linspace(0, 1, 100), np.linspace(1, 0, 100)])
    found = moving_up(position, 0.025, [slice(0, 200)])
    assert found[10:90].all()
    assert not found[110:190].any()


# --- choice of settings ----------------------------------------------------------------------------------------------


def test_blocks_cover_the_bins_to_fit_on_and_leave_a_margin():
    task = track(seconds=60.0)
    running = Task(task.data, task.target, "running")
    covered = np.zeros(len(task.train), dtype=int)
    for block, rows in blocks(running, 4):
        covered[block] += 1
        time = task.data.train.time
        assert running.fit_mask[rows].all()
        distance = np.abs(time[rows][:, None] - time[block]).min()
        assert distance >= 1.0 - 1e-9
    assert np.all(covered[running.fit_mask] == 1)
    assert all(block.stop - block.start <= 50 for block, _ in blocks(task, 4, max_bins=50))


def test_choose_finds_the_settings_with_the_best_held_out_score():
    task = track()
    selection = choose(PlaceFieldBayes, {"window": (0.1, 3.0), "field_sd": (0.05, 0.5)}, task, folds=3)
    assert selection.best == {"window": 0.1, "field_sd": 0.05}
    assert 0 < selection.crps < 0.1
    together = choose(PlaceFieldBayes, {"window field_sd": ((0.1, 0.05), (3.0, 0.5))}, task, folds=3)
    assert together.best == selection.best
    assert together.crps == selection.crps
