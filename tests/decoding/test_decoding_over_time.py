"""PositionDecoder with times: movement prior, causality, segments, missing bins, rest and movement, saving."""

from dataclasses import replace

import numpy as np
import pytest

from kalmanssl.data import Covariances, Latents
from kalmanssl.decoding import CalibrationSettings, MLPReadoutSettings, MovementSettings, PositionDecoder
from kalmanssl.decoding.grids._circular import wrap

QUICK_MLP = MLPReadoutSettings(n_cells=48, n_cells_joint=16, n_networks=2, hidden=32, n_steps=150)
QUICK_CALIBRATION = CalibrationSettings(n_folds=2, max_bins=400, noise_grid=(0.0, 1.0), refinement_grid=(1.0,))
BIN = 0.05


def as_latents(mean, segment=None, smoothed=False):
    bins, features = mean.shape
    segment = np.zeros(bins, dtype=int) if segment is None else segment
    return Latents(
        mean=mean,
        covariances=Covariances(0.01 * np.eye(features)[None], np.zeros(bins, dtype=int)),
        time=500.0 + BIN * np.arange(bins) + 10.0 * segment,
        latent=mean,
        noise=np.ones_like(mean),
        log_likelihood=np.zeros(bins),
        segment=segment,
        smoothed=smoothed,
    )


def decoder(regressor="linear", **settings):
    defaults = {"calibration_settings": QUICK_CALIBRATION, "random_state": 0}
    if regressor == "mlp":
        defaults["readout_settings"] = QUICK_MLP
    return PositionDecoder(regressor=regressor, **(defaults | settings))


def kinds(*names):
    return MovementSettings(kinds=names, width_factors=(1.0, 2.0), powers=(0.4, 0.8), jumps=(1e-3,))


def reflecting_walk(rng, bins, step=0.03):
    """A random walk between 0 and 1."""
    folded = np.cumsum(step * rng.normal(size=bins)) % 2
    return np.minimum(folded, 2 - folded)


def autoregressive(rng, bins, coefficient):
    """A stationary autoregressive process with unit variance."""
    noise = np.sqrt(1 - coefficient**2) * rng.normal(size=bins)
    values = np.empty(bins)
    values[0] = rng.normal()
    for time in range(1, bins):
        values[time] = coefficient * values[time - 1] + noise[time]
    return values


def kalman(observed, coefficient):
    """Filtered and smoothed means of an autoregressive process that is observed with unit noise."""
    bins = len(observed)
    mean, variance, predicted = np.zeros(bins), np.zeros(bins), np.ones(bins)
    before = 0.0
    for time in range(bins):
        if time:
            before = coefficient * mean[time - 1]
            predicted[time] = coefficient**2 * variance[time - 1] + 1 - coefficient**2
        gain = predicted[time] / (predicted[time] + 1)
        mean[time], variance[time] = before + gain * (observed[time] - before), (1 - gain) * predicted[time]
    smoothed = mean.copy()
    for time in range(bins - 2, -1, -1):
        back = variance[time] * coefficient / predicted[time + 1]
        smoothed[time] += back * (smoothed[time + 1] - coefficient * mean[time])
    return mean, smoothed


def root_mean_square(values):
    return np.sqrt(np.mean(values**2))


def test_decoding_is_nearly_as_accurate_as_a_kalman_filter_and_smoother_that_know_the_process():
    rng = np.random.default_rng(0)
    truth = autoregressive(rng, 6000, 0.95)
    observed = truth + rng.normal(size=6000)
    train, test = slice(0, 3000), slice(3000, 6000)
    filtered = as_latents(observed[:, None])
    smoothed = replace(filtered, smoothed=True)
    fitted = decoder().fit(filtered[train], truth[train], smoothed=smoothed[train])
    error = [root_mean_square(fitted.predict(part[test]).mean - truth[test]) for part in (filtered, smoothed)]
    best = [root_mean_square(mean - truth[test]) for mean in kalman(observed[test], 0.95)]
    alone = root_mean_square(observed[test] / 2 - truth[test])  # the best decoder of every bin by itself
    assert best[1] < 0.85 * best[0] < 0.85**2 * alone
    assert error[0] < 1.1 * best[0]
    assert error[1] < 1.1 * best[1]


@pytest.mark.parametrize("period", [None, 1.0])
def test_a_movement_prior_is_chosen_for_a_random_walk_and_lowers_the_error_by_two_fifths(period):
    rng = np.random.default_rng(1)
    if period is None:
        truth = reflecting_walk(rng, 4000)
        mean = truth[:, None] + 0.15 * rng.normal(size=(4000, 1))
    else:
        truth = np.cumsum(0.03 * rng.normal(size=4000)) % 1.0
        angle = 2 * np.pi * truth
        mean = np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(size=(4000, 2))
    latents, train, test = as_latents(mean), slice(0, 2000), slice(2000, 4000)
    errors = []
    for settings in (MovementSettings(kinds=("none",)), None):
        fitted = decoder(movement_settings=settings, period=period).fit(latents[train], truth[train])
        errors.append(np.abs(wrap(fitted.predict(latents[test]).mean - truth[test], period)).mean())
    weights = fitted.decoders_["filtered"].movement_weights[0]
    assert weights.keys() <= {"walk", "states"}
    assert errors[1] < 0.6 * errors[0]


def test_no_movement_prior_is_chosen_for_independent_bins():
    rng = np.random.default_rng(2)
    truth = rng.uniform(size=2000)
    fitted = decoder().fit(as_latents(truth[:, None] + 0.3 * rng.normal(size=(2000, 1))), truth)
    part = fitted.decoders_["filtered"]
    assert part.movement_weights == [{"none": pytest.approx(1.0)}]
    assert part.movement_scores[0].keys() == {"none", "walk", "states"}


def test_velocities_that_return_to_zero_are_decoded_at_least_as_well_with_a_walk():
    rng = np.random.default_rng(3)
    truth = np.stack([autoregressive(rng, 4000, 0.8) for _ in range(2)], axis=1)
    latents = as_latents(truth + 0.5 * rng.normal(size=truth.shape))
    train, test = slice(0, 2000), slice(2000, 4000)
    error = {}
    for names in (("none",), ("none", "walk"), ("walk",)):
        fitted = decoder(movement_settings=MovementSettings(kinds=names)).fit(latents[train], truth[train])
        error[names] = root_mean_square(fitted.predict(latents[test]).mean - truth[test])
    assert error["none", "walk"] < 1.01 * error[("none",)]
    assert error[("walk",)] < 1.01 * error[("none",)]


def test_filtered_latents_are_decoded_causally_and_smoothed_ones_are_not():
    rng = np.random.default_rng(4)
    truth = reflecting_walk(rng, 800)
    mean = np.stack([truth, 1 - truth], axis=1) + 0.3 * rng.normal(size=(800, 2))
    filtered, smoothed = as_latents(mean), as_latents(mean, smoothed=True)
    changed = mean.copy()
    changed[600:] = rng.normal(size=(200, 2))
    for regressor in ("linear", "mlp"):
        for kind in ("none", "walk", "states"):
            one = MovementSettings(kinds=(kind,), width_factors=(1.0,), powers=(0.4,), jumps=(1e-3,))
            fitted = decoder(regressor, movement_settings=one).fit(filtered, truth, smoothed=smoothed)
            before, after = (fitted.predict(as_latents(m)) for m in (mean, changed))
            np.testing.assert_array_equal(before.table[:600], after.table[:600])
            np.testing.assert_array_equal(before.mean[:600], after.mean[:600])
            assert (before.mean[600:] != after.mean[600:]).any()
            if kind != "none":
                before, after = (fitted.predict(as_latents(m, smoothed=True)) for m in (mean, changed))
                assert np.abs(before.mean[590:600] - after.mean[590:600]).max() > 1e-3
                assert np.abs(before.mean[:100] - after.mean[:100]).max() < 1e-6


@pytest.fixture(scope="module")
def walk():
    """A walk in segments, some of one bin, its latents, and a decoder with several motion states."""
    rng = np.random.default_rng(5)
    segment = np.repeat(np.arange(8), [300, 1, 1, 400, 98, 1, 300, 99])
    truth = reflecting_walk(rng, 1200)
    mean = truth[:, None] + 0.2 * rng.normal(size=(1200, 3))
    latents = as_latents(mean, segment)
    # A narrow walk, so that the belief still widens after many missing bins.
    settings = replace(kinds("states"), width_factors=(1.0,))
    return latents, truth, decoder("mlp", movement_settings=settings).fit(latents, truth)


def test_segments_are_decoded_independently_of_each_other(walk):
    latents, _, fitted = walk
    together = fitted.predict(latents)
    assert np.isfinite(together.table).all()
    for number in range(8):
        rows = latents.segment == number
        np.testing.assert_allclose(fitted.predict(latents[rows]).mean, together.mean[rows], atol=1e-5)
    assert len(fitted.predict(latents[:0])) == 0


def test_a_segment_starts_from_the_occupancy(walk):
    """The first bin is decoded by Bayes' rule from the readout's likelihood and the occupancy."""
    latents, _, fitted = walk
    part = fitted.decoders_["filtered"]
    first = latents[latents.segment == 5]
    (mass,) = part.readout.predict_mass(np.tile(first.mean, (1, 3)), None)
    expected = np.zeros(mass.shape[1])
    for component in part.movements[0].components:
        occupancy = component.movement.statistics.occupancy.sum(axis=0)
        posterior = occupancy * (mass[0] / occupancy) ** component.movement.power
        expected += component.weight * posterior / posterior.sum()
    np.testing.assert_allclose(fitted.predict(first).grids[0].mass[0], expected, atol=1e-5)


def test_missing_bins_are_predicted_from_the_bins_around_them(walk):
    latents, truth, fitted = walk
    mean = latents.mean.copy()
    mean[600:640] = np.nan
    complete, holes = fitted.predict(latents), fitted.predict(replace(latents, mean=mean))
    assert np.isfinite(holes.table).all()
    np.testing.assert_array_equal(holes.table[:600], complete.table[:600])
    width = holes.upper - holes.lower
    assert width[639] > width[605] > width[599]
    assert np.abs(holes.mean[600:605] - complete.mean[599]).max() < 0.1
    refitted = decoder("mlp", movement_settings=kinds("states")).fit(replace(latents, mean=mean), truth)
    seen = np.isfinite(mean).all(axis=1)
    error, usual = (np.abs(d.predict(latents).mean - truth)[seen].mean() for d in (refitted, fitted))
    assert error < 1.2 * usual


@pytest.mark.parametrize("regressor", ["linear", "mlp"])
def test_missing_bins_that_are_decoded_by_themselves_get_the_occupancy(regressor):
    rng = np.random.default_rng(6)
    truth = rng.beta(2, 5, size=1500)
    mean = 50.0 + truth[:, None] + 0.1 * rng.normal(size=(1500, 2))
    fitted = decoder(regressor).fit(mean, truth)
    holes = mean[:300].copy()
    holes[::3, 1] = np.nan
    decoded, complete = fitted.predict(holes), fitted.predict(mean[:300])
    missing = np.isnan(holes).any(axis=1)
    np.testing.assert_array_equal(decoded.table[~missing], complete.table[~missing])
    np.testing.assert_allclose(decoded.mean[missing], truth.mean(), atol=0.03)
    histogram, _ = np.histogram(truth, bins=5, range=(0, 1), density=True)
    posterior = decoded.grids[0]
    places = posterior.grid.axes[0].centers
    found, _ = np.histogram(places, bins=5, range=(0, 1), weights=posterior.mass[0])
    np.testing.assert_allclose(5 * found, histogram, atol=0.25)


def test_unknown_behavior_is_left_out():
    rng = np.random.default_rng(7)
    truth = reflecting_walk(rng, 3000)
    latents = as_latents(truth[:, None] + 0.2 * rng.normal(size=(3000, 2)), np.repeat([0, 1, 2], 1000))
    known = truth.copy()
    known[rng.random(3000) < 0.2] = np.nan
    known[1200:1700] = np.nan
    full, partial = (decoder(movement_settings=kinds("none", "states")).fit(latents, part) for part in (truth, known))
    error = [np.abs(d.predict(latents).mean - truth).mean() for d in (full, partial)]
    assert error[1] < 1.1 * error[0]
    assert np.isfinite(partial.predict(latents).table).all()


@pytest.mark.parametrize("regressor", ["linear", "mlp"])
def test_constant_latents_give_the_occupancy(regressor):
    rng = np.random.default_rng(8)
    truth = reflecting_walk(rng, 3000, step=0.2)
    latents = as_latents(np.full((3000, 2), 7.0))
    decoded = decoder(regressor, movement_settings=kinds("none", "walk")).fit(latents, truth).predict(latents)
    assert np.isfinite(decoded.table).all()
    for level in (0.5, 0.95):
        lower, upper = decoded.interval(level)
        assert ((lower <= truth) & (truth <= upper)).mean() == pytest.approx(level, abs=0.08)
    assert np.abs(decoded.mean - truth.mean()).mean() < 0.1


def test_the_joint_posterior_of_two_dimensions_is_correlated_where_the_latents_leave_a_line():
    """The latents determine x + y but hardly x - y."""
    rng = np.random.default_rng(9)
    truth = rng.uniform(size=(3000, 2))
    total, apart = truth.sum(axis=1), truth[:, 0] - truth[:, 1]
    latents = as_latents(np.stack([total + 0.05 * rng.normal(size=3000), apart + rng.normal(size=3000)], axis=1))
    settings = replace(QUICK_MLP, n_steps=500, n_epochs=60, dropout=0.1, log_score_weight=1.0)
    decoded = decoder("mlp", calibrate=False, readout_settings=settings).fit(latents, truth).predict(latents)
    (posterior,) = decoded.grids
    x, y = (axis.centers for axis in posterior.grid.axes)
    middle = (total > 0.7) & (total < 1.3)
    mass = posterior.mass[middle]
    mean_x, mean_y = mass.sum(axis=2) @ x, mass.sum(axis=1) @ y
    covariance = np.einsum("txy,x,y->t", mass, x, y) - mean_x * mean_y
    variances = (mass.sum(axis=2) @ x**2 - mean_x**2) * (mass.sum(axis=1) @ y**2 - mean_y**2)
    assert np.median(covariance / np.sqrt(variances)) < -0.7
    np.testing.assert_allclose(decoded.mean[middle], np.stack([mean_x, mean_y], axis=1), atol=1e-5)


def test_two_dimensions_are_decoded_better_with_a_movement_prior():
    rng = np.random.default_rng(10)
    truth = np.stack([reflecting_walk(rng, 3000), np.cumsum(0.03 * rng.normal(size=3000)) % 1.0], axis=1)
    angle = 2 * np.pi * truth[:, 1]
    mean = np.stack([truth[:, 0], 0.5 * np.cos(angle), 0.5 * np.sin(angle)], axis=1) + 0.3 * rng.normal(size=(3000, 3))
    latents, train, test = as_latents(mean), slice(0, 2000), slice(2000, 3000)
    errors = []
    for names in (("none",), ("none", "walk", "states")):
        fitted = decoder(period=(None, 1.0), movement_settings=kinds(*names)).fit(latents[train], truth[train])
        error = fitted.predict(latents[test]).error(truth[test])
        errors.append(np.abs(error).mean(axis=0))
    assert (errors[1] < 0.7 * errors[0]).all()


def laps(rng, n_laps):
    """Runs of 4 s over a track and rests of 36 s at its ends; at rest the latents say little about the position."""
    run, rest = round(4 / BIN), round(36 / BIN)
    position, moving = [], []
    for lap in range(n_laps):
        along = np.linspace(0.02, 0.98, run)
        position.append(along if lap % 2 == 0 else 1 - along)
        position.append(np.full(rest, position[-1][-1]) + 1e-4 * rng.normal(size=rest))
        moving.append(np.repeat([True, False], [run, rest]))
    position, moving = np.concatenate(position), np.concatenate(moving)
    fields = np.exp(-((position[:, None] - np.linspace(0, 1, 8)) ** 2) / 0.02)
    fields = np.where(moving[:, None], fields, 0.2 * fields) + 0.25 * rng.normal(size=fields.shape)
    return as_latents(fields), position, moving


def test_running_is_decoded_as_well_from_all_bins_as_from_running_bins_although_rest_is_nine_tenths():
    rng = np.random.default_rng(11)
    latents, position, moving = laps(rng, 20)
    test_latents, test_position, test_moving = laps(rng, 20)
    assert moving.mean() == pytest.approx(0.1)
    error = []
    for where in (None, moving):
        fitted = decoder("mlp", readout_settings=replace(QUICK_MLP, n_steps=500)).fit(latents, position, where)
        decoded = fitted.predict(test_latents).mean
        error.append(np.abs(decoded - test_position)[test_moving].mean())
    assert error[0] < 1.1 * error[1]
    assert error[0] < 0.05


@pytest.mark.parametrize("regressor", ["linear", "mlp"])
@pytest.mark.parametrize("period", [1.0, (None, 1.0)])
def test_a_saved_state_decodes_filtered_and_smoothed_latents_identically(regressor, period):
    rng = np.random.default_rng(12)
    truth = np.cumsum(0.03 * rng.normal(size=800)) % 1.0
    angle = 2 * np.pi * truth
    mean = np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.3 * rng.normal(size=(800, 2))
    behavior = truth if period == 1.0 else np.stack([np.cos(angle), truth], axis=1)
    filtered, smoothed = as_latents(mean), as_latents(mean[::-1], smoothed=True)
    fitted = decoder(regressor, period=period, movement_settings=kinds("states"))
    fitted.fit(filtered, behavior, smoothed=smoothed)
    again = PositionDecoder.from_state(fitted.to_state())
    holes = replace(filtered, mean=np.where(np.arange(800)[:, None] % 50 == 0, np.nan, mean))
    for latents in (filtered, smoothed, holes):
        before, after = (d.predict(latents) for d in (fitted, again))
        np.testing.assert_array_equal(before.table, after.table)
        np.testing.assert_array_equal(before.mean, after.mean)
        np.testing.assert_array_equal(before.grids[0].mass, after.grids[0].mass)
        np.testing.assert_array_equal(before.grids[0].mass.ndim, 2 if period == 1.0 else 3)
