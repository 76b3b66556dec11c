"""The linear readout, and the readout that wraps a regressor of scikit-learn."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR

from kalmanssl.data import Covariances
from kalmanssl.decoding import FittedBins, LinearReadout, LinearReadoutSettings, SklearnReadout, SklearnReadoutSettings
from kalmanssl.decoding.grids._circular import embed_circular, unembed_circular, wrap
from kalmanssl.errors import InputError


def covariances(rng, bins, state, distinct=7):
    root = rng.normal(size=(distinct, state, state)) / np.sqrt(state)
    return Covariances(root @ root.transpose(0, 2, 1) + 0.1 * np.eye(state), rng.integers(distinct, size=bins))


def test_the_linear_interval_matches_draws_from_the_posterior_and_the_residual_noise():
    rng = np.random.default_rng(1)
    weight, noise = rng.normal(size=(2, 3)), np.array([0.3, 0.8])
    true = rng.normal(size=(20_000, 3))
    cov = covariances(rng, 20_000, 3)
    root = np.linalg.cholesky(cov.table)[cov.index]
    behavior = true @ weight.T + [5.0, -1.0] + noise * rng.normal(size=(20_000, 2))
    # The state is distributed around its posterior mean with the posterior covariance.
    mean = true
    moved = np.einsum("tij,tj->ti", root, rng.normal(size=true.shape)) @ weight.T
    readout = LinearReadout((None, None)).fit(FittedBins(mean, cov, behavior + moved), rng)
    draws = np.einsum("ij,sj->si", np.linalg.cholesky(cov.table[2]), rng.normal(size=(40_000, 3)))
    samples = draws @ weight.T + noise * rng.normal(size=(40_000, 2))
    here = Covariances(cov.table, np.array([2]))
    for dim, predictive in enumerate(readout.predict(np.zeros((1, 3)), here)):
        low, middle, high = predictive.quantiles(norm.cdf([-1.0, 0.0, 1.0]))[0]
        assert middle == pytest.approx([5.0, -1.0][dim], abs=0.05)
        assert (high - low) / 2 == pytest.approx(samples[:, dim].std(), rel=0.05)


def test_the_linear_interval_without_covariance_is_the_residual_noise():
    rng = np.random.default_rng(2)
    mean = rng.normal(size=(5000, 4))
    behavior = mean[:, :1] * 2 + 0.7 * rng.normal(size=(5000, 1))
    (predictive,) = LinearReadout((None,)).fit(FittedBins(mean, None, behavior), rng).predict(mean, None)
    np.testing.assert_allclose(predictive.scale, 0.7, rtol=0.05)


def test_the_linear_residual_stays_positive_definite_if_the_posterior_is_too_wide():
    rng = np.random.default_rng(3)
    mean = rng.normal(size=(500, 2))
    behavior = mean + 0.1 * rng.normal(size=(500, 2))
    cov = Covariances(np.array([100 * np.eye(2)]), np.zeros(500, dtype=int))
    readout = LinearReadout((None, None)).fit(FittedBins(mean, cov, behavior), rng)
    assert np.linalg.eigvalsh(readout.residual).min() > 0


@pytest.mark.parametrize("period", [360.0, 2 * np.pi])
def test_unembedding_inverts_the_embedding(period):
    rng = np.random.default_rng(4)
    values = np.stack([rng.uniform(0, period, 50), rng.normal(size=50)], axis=1)
    columns = embed_circular(values, (period, None))
    covariance = np.tile(np.diag([0.01, 0.01, 4.0]), (50, 1, 1))
    back, variance = unembed_circular(columns, covariance, (period, None))
    np.testing.assert_allclose(back, values, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(variance), [[0.1 * period / (2 * np.pi), 2.0]] * 50)


@pytest.mark.parametrize("make", [LinearReadout, lambda periods: SklearnReadout(KNeighborsRegressor(15), periods)])
def test_circular_behavior_is_decoded_across_the_period(make):
    rng = np.random.default_rng(5)
    angle = rng.uniform(0, 360, size=(3000, 1))
    mean = np.hstack([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) + 0.05 * rng.normal(size=(3000, 2))
    readout = make((360.0,)).fit(FittedBins(mean[:2000], None, angle[:2000]), rng)
    (predictive,) = readout.predict(mean[2000:], None)
    error = wrap(predictive.center - angle[2000:, 0], 360.0)
    assert np.abs(error).max() < 20
    inside = np.abs(2 * predictive.cdf(angle[2000:, 0]) - 1) < 0.8
    assert inside.mean() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("regressor", [KNeighborsRegressor(30), SVR(C=10), LinearRegression()])
def test_the_noise_of_any_regressor_follows_its_error(regressor):
    rng = np.random.default_rng(6)
    mean = rng.uniform(-2, 2, size=(4000, 1))
    noise = np.where(mean < 0, 0.1, 0.6)
    behavior = mean + noise * rng.normal(size=(4000, 1))
    readout = SklearnReadout(regressor, (None,)).fit(FittedBins(mean[:3000], None, behavior[:3000]), rng)
    (predictive,) = readout.predict(mean[3000:], None)
    quiet = mean[3000:, 0] < 0
    assert predictive.scale[~quiet].mean() > 4 * predictive.scale[quiet].mean()
    inside = np.abs(2 * predictive.cdf(behavior[3000:, 0]) - 1) < 0.9
    assert inside[quiet].mean() == pytest.approx(0.9, abs=0.05)
    assert inside[~quiet].mean() == pytest.approx(0.9, abs=0.05)


def test_the_noise_of_any_regressor_is_larger_where_the_posterior_is_wide():
    rng = np.random.default_rng(7)
    mean = rng.normal(size=(1000, 2))
    behavior = mean[:, :1] + 0.1 * rng.normal(size=(1000, 1))
    cov = Covariances(np.array([1e-6, 1.0])[:, None, None] * np.eye(2), rng.integers(2, size=1000))
    readout = SklearnReadout(LinearRegression(), (None,)).fit(FittedBins(mean, cov, behavior), rng)
    (predictive,) = readout.predict(mean, cov)
    assert np.median(predictive.scale[cov.index == 1]) > 5 * np.median(predictive.scale[cov.index == 0])


def test_the_given_regressor_is_not_fitted():
    regressor = KNeighborsRegressor()
    rng = np.random.default_rng(8)
    SklearnReadout(regressor, (None,)).fit(FittedBins(rng.normal(size=(50, 2)), None, rng.normal(size=(50, 1))), rng)
    assert not hasattr(regressor, "n_features_in_")


def test_a_regressor_of_one_column_raises_an_error_for_two():
    rng = np.random.default_rng(9)
    with pytest.raises(InputError, match=r"SVR predicts one column and the behavior needs 2.*MultiOutputRegressor"):
        SklearnReadout(SVR(), (None, None)).fit(
            FittedBins(rng.normal(size=(50, 2)), None, rng.normal(size=(50, 2))), rng
        )


def test_settings_change_the_readouts():
    rng = np.random.default_rng(10)
    mean = rng.normal(size=(400, 2))
    behavior = mean[:, :1] + 0.1 * rng.normal(size=(400, 1))
    shrunk = LinearReadout((None,), LinearReadoutSettings(ridge_alphas=(1e6,))).fit(
        FittedBins(mean, None, behavior), rng
    )
    assert np.abs(shrunk.weight).max() < 0.01
    loaded = LinearReadout.from_state(shrunk.to_state())
    assert loaded.settings == shrunk.settings
    settings = SklearnReadoutSettings(min_scale_fraction=0.9, n_neighbors=1, max_reference_bins=100)
    readout = SklearnReadout(LinearRegression(), (None,), settings).fit(FittedBins(mean, None, behavior), rng)
    (predictive,) = readout.predict(mean, None)
    assert len(readout.size) == 100
    assert predictive.scale.min() == pytest.approx(0.9 * np.median(readout.size))


@pytest.mark.parametrize(
    ("make", "setting", "value"),
    [
        (LinearReadoutSettings, "ridge_alphas", ()),
        (LinearReadoutSettings, "max_posterior_fraction", 1.0),
        (SklearnReadoutSettings, "n_folds", 1),
        (SklearnReadoutSettings, "min_scale_fraction", -0.1),
    ],
)
def test_settings_out_of_range_raise_an_error_that_names_them(make, setting, value):
    with pytest.raises(InputError, match=f"{setting} must be") as caught:
        make(**{setting: value})
    assert caught.value.parameter == setting
