"""The MLP readout, with its default settings unless a test says otherwise."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from kalmanssl.data import Covariances
from kalmanssl.decoding import FittedBins, MLPReadout, MLPReadoutSettings
from kalmanssl.decoding.grids._circular import wrap
from kalmanssl.decoding.readouts import _mlp
from kalmanssl.errors import InputError

INTERVAL = norm.cdf([-1.0, 0.0, 1.0])
QUICK = MLPReadoutSettings(n_steps=100)  # for behavior that does not depend on how well the networks are trained


def covariances(distinct, index):
    return Covariances(np.asarray(distinct), np.asarray(index))


def problem(rng, bins, noise=0.1):
    mean = rng.normal(size=(bins, 3))
    return mean, np.tanh(mean[:, :1]) + noise * rng.normal(size=(bins, 1))


@pytest.fixture(scope="module")
def readout():
    """A readout fitted on latents whose posterior is narrow at some bins and wide at others."""
    rng = np.random.default_rng(0)
    state, behavior = problem(rng, 3000)
    cov = covariances([1e-4 * np.eye(3), 0.1 * np.eye(3)], rng.integers(2, size=3000))
    mean = state + np.sqrt(cov.table[cov.index, 0, :1]) * rng.normal(size=state.shape)
    # The width is learned last, and half of the bins carry little information.
    settings = MLPReadoutSettings(n_epochs=80, dropout=0.1)
    return MLPReadout((None,), "quadrature", settings=settings).fit(FittedBins(mean, cov, behavior), rng)


@pytest.mark.parametrize("size", [0.02, 0.1])
def test_quadrature_agrees_with_samples(readout, size):
    rng = np.random.default_rng(1)
    mean, _ = problem(rng, 200)
    root = np.sqrt(size) * rng.normal(size=(200, 3, 3)) / np.sqrt(3)
    cov = covariances(root @ root.transpose(0, 2, 1), np.arange(200))
    sampled = MLPReadout.from_state(readout.to_state() | {"posterior": "samples", "n_samples": 1000})
    by_nodes, by_draws = (r.predict(mean, cov)[0].quantiles(INTERVAL) for r in (readout, sampled))
    width = by_draws[:, 2] - by_draws[:, 0]
    assert np.abs(by_nodes - by_draws).max() < 0.25 * width.max()
    assert np.abs(by_nodes - by_draws).mean() < 0.04 * width.mean()
    # Both are wider than the histogram at the posterior mean.
    at_mean = readout.predict(mean, None)[0].quantiles(INTERVAL)
    assert np.mean(at_mean[:, 2] - at_mean[:, 0]) < 0.97 * width.mean()


def test_a_covariance_shared_by_many_bins_gives_the_same_result_as_copies_of_it(readout):
    rng = np.random.default_rng(2)
    mean, _ = problem(rng, 100)
    root = rng.normal(size=(2, 3, 3)) / 5
    table, index = root @ root.transpose(0, 2, 1), rng.integers(2, size=100)
    shared, copied = covariances(table, index), covariances(table[index], np.arange(100))
    a, b = (readout.predict(mean, cov)[0].mass for cov in (shared, copied))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_wide_posterior_gives_a_wide_prediction(readout):
    mean = np.zeros((2, 3))
    cov = covariances([1e-4 * np.eye(3), 0.3 * np.eye(3)], [0, 1])
    low, _, high = readout.predict(mean, cov)[0].quantiles(INTERVAL).T
    assert (high - low)[1] > 1.5 * (high - low)[0]


def test_the_width_follows_noise_that_depends_on_the_latents():
    rng = np.random.default_rng(3)
    mean = rng.uniform(-1, 1, size=(4000, 2))
    noise = np.where(mean[:, :1] < 0, 0.05, 0.3)
    behavior = mean[:, 1:] + noise * rng.standard_t(3, size=(4000, 1))
    (predictive,) = (
        MLPReadout((None,)).fit(FittedBins(mean[:3000], None, behavior[:3000]), rng).predict(mean[3000:], None)
    )
    quiet = mean[3000:, 0] < -0.2
    loud = mean[3000:, 0] > 0.2
    inside = np.abs(2 * predictive.cdf(behavior[3000:, 0]) - 1) < 0.9
    width = np.diff(predictive.quantiles(np.array([0.05, 0.95])))[:, 0]
    assert width[loud].mean() > 2 * width[quiet].mean()
    assert inside[loud].mean() == pytest.approx(0.9, abs=0.06)
    assert inside[quiet].mean() > 0.86


def test_a_distribution_with_two_modes_has_no_mass_between_them():
    rng = np.random.default_rng(4)
    mean = rng.normal(size=(3000, 2))
    behavior = np.sign(rng.normal(size=(3000, 1))) + 0.05 * rng.normal(size=(3000, 1))
    (predictive,) = MLPReadout((None,)).fit(FittedBins(mean, None, behavior), rng).predict(mean[:50], None)
    half = np.full(50, 0.5)
    between = predictive.cdf(half) - predictive.cdf(-half)
    assert between.max() < 0.1


def test_a_circular_dimension_together_with_one_that_is_not():
    rng = np.random.default_rng(5)
    angle, place = rng.uniform(0, 360, size=3000), rng.normal(size=3000)
    radians = np.radians(angle)
    mean = np.stack([np.cos(radians), np.sin(radians), place], axis=1) + 0.05 * rng.normal(size=(3000, 3))
    behavior = np.stack([angle, place], axis=1)
    readout = MLPReadout((360.0, None)).fit(FittedBins(mean[:2500], None, behavior[:2500]), rng)
    circular, linear = readout.predict(mean[2500:], None)
    error = wrap(circular.mean() - angle[2500:], 360.0)
    assert np.median(np.abs(error)) < 5
    assert np.abs(error).max() < 40
    assert np.median(np.abs(linear.mean() - place[2500:])) < 0.1


def test_the_seed_determines_the_readout_and_a_saved_state_restores_it():
    mean, behavior = problem(np.random.default_rng(6), 300)
    cov = covariances([0.01 * np.eye(3)], np.zeros(300, dtype=int))
    first, second = (
        MLPReadout((None,), "samples", 5, QUICK).fit(FittedBins(mean, cov, behavior), np.random.default_rng(7))
        for _ in range(2)
    )
    other = MLPReadout((None,), "samples", 5, QUICK).fit(FittedBins(mean, cov, behavior), np.random.default_rng(8))
    mass = first.predict(mean, cov)[0].mass
    np.testing.assert_array_equal(mass, second.predict(mean, cov)[0].mass)
    assert not np.array_equal(mass, other.predict(mean, cov)[0].mass)
    loaded = MLPReadout.from_state(first.to_state())
    np.testing.assert_array_equal(mass, loaded.predict(mean, cov)[0].mass)


def test_the_posterior_mean_alone_is_used_by_default():
    rng = np.random.default_rng(11)
    mean, behavior = problem(rng, 300)
    wide = covariances([0.5 * np.eye(3)], np.zeros(300, dtype=int))
    with_cov, without = (
        MLPReadout((None,), settings=QUICK).fit(FittedBins(mean, cov, behavior), np.random.default_rng(12))
        for cov in (wide, None)
    )
    expected = without.predict(mean, None)[0].mass
    np.testing.assert_array_equal(with_cov.predict(mean, wide)[0].mass, expected)


def test_bins_are_drawn_in_proportion_to_their_weights():
    """Two kinds of bins differ in their behavior but not in their latents."""
    rng = np.random.default_rng(13)
    mean, kind = rng.normal(size=(2000, 2)), rng.random(2000) < 0.1
    behavior = np.where(kind, 1.0, -1.0)[:, None] + 0.01 * rng.normal(size=(2000, 1))
    for rare, expected in ((1.0, 0.1), (9.0, 0.5)):
        readout = MLPReadout((None,)).fit(FittedBins(mean, None, behavior, np.where(kind, rare, 1.0)), rng)
        (predictive,) = readout.predict(mean, None)
        assert 1 - predictive.cdf(np.zeros(2000)).mean() == pytest.approx(expected, abs=0.06)


def test_every_second_network_receives_the_context():
    rng = np.random.default_rng(14)
    mean, behavior = problem(rng, 300)
    features = np.concatenate([mean, rng.normal(size=(300, 6))], axis=1)
    readout = MLPReadout((None,), settings=QUICK).fit(FittedBins(features, None, behavior, n_present=3), rng)
    other_context = np.concatenate([mean, 5 + rng.normal(size=(300, 6))], axis=1)
    without, with_context = (
        [readout._logits(readout._standardize(x)[None])[network] for x in (features, other_context)]
        for network in (0, 1)
    )
    assert (without[0] == without[1]).all()
    assert (with_context[0] != with_context[1]).any()
    restored = MLPReadout.from_state(readout.to_state()).predict(features, None)[0]
    np.testing.assert_array_equal(restored.mass, readout.predict(features, None)[0].mass)


def test_settings_are_used_and_saved():
    mean, behavior = problem(np.random.default_rng(9), 300)
    settings = MLPReadoutSettings(n_cells=40, n_networks=3, hidden=16, n_steps=30, uniform_fraction=0.2)
    readout = MLPReadout((None,), settings=settings).fit(FittedBins(mean, None, behavior), np.random.default_rng(10))
    (predictive,) = readout.predict(mean, None)
    assert predictive.mass.shape == (300, 40)
    assert predictive.mass.min() >= 0.2 / 40
    assert readout.weights[0].shape == (3, 3, 16)
    assert MLPReadout.from_state(readout.to_state()).settings == settings


@pytest.mark.parametrize(
    ("setting", "value"), [("n_steps", 0), ("dropout", 1.0), ("learning_rate", -1), ("n_cells", 1), ("margin", "0.1")]
)
def test_settings_out_of_range_raise_an_error_that_names_them(setting, value):
    with pytest.raises(InputError, match=f"{setting} must be") as caught:
        MLPReadoutSettings(**{setting: value})
    assert caught.value.parameter == setting


def test_networks_trained_on_wider_cells_interpolate_their_logits(monkeypatch):
    rng = np.random.default_rng(17)
    mean, behavior = rng.normal(size=(300, 3)), rng.random((300, 4))
    periods = (None, 1.0, None, None)
    settings = MLPReadoutSettings(n_cells_joint=12, max_training_cells_joint=4, n_steps=20, min_steps=20)
    trained = []
    train = _mlp.train_networks
    monkeypatch.setattr(_mlp, "train_networks", lambda *given: trained.append(train(*given)) or trained[-1])
    readout = MLPReadout(periods, settings=settings).fit(FittedBins(mean, None, behavior), rng)
    (layers,) = trained
    assert layers.weights[-1].shape[-1] == 2 * 4**2
    assert [mass.shape for mass in readout.predict_mass(mean, None)] == [(300, 12, 12), (300, 12, 12)]
    hidden = torch.relu(torch.randn(2, 5, settings.hidden))
    wide = torch.baddbmm(layers.biases[-1], hidden, layers.weights[-1]).numpy().reshape(2, 5, 2, 4, 4)
    fine = torch.baddbmm(readout.biases[-1], hidden, readout.weights[-1]).numpy().reshape(2, 5, 2, 12, 12)
    for number, grid in enumerate(readout.grids):
        at_rows, at_columns = (axis.interpolation(3) for axis in grid.axes)
        expected = np.einsum("nbij,ik,jl->nbkl", wide[:, :, number], at_rows, at_columns)
        np.testing.assert_allclose(fine[:, :, number], expected, atol=1e-5)
