import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsRegressor

import kalmanssl.decoding._mlp_readout
from kalmanssl.data import Latents
from kalmanssl.decoding import HeldOutFit, PositionDecoder, score_decoding
from kalmanssl.errors import InputError

LEVELS = (0.5, 0.8, 0.95)


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(kalmanssl.decoding._mlp_readout, "_STEPS", 120)


def as_path(mean, var=0.01, start=1000.0, bin_size=0.025):
    bins, state = mean.shape
    return Latents(
        mean=mean,
        covs=var * np.eye(state)[None],
        cov_index=np.zeros(bins, dtype=int),
        time=start + bin_size * np.arange(bins),
        latent=mean,
        noise=np.ones_like(mean),
        log_likelihood=np.zeros(bins),
        segment=np.zeros(bins, dtype=int),
    )


def walk(rng, bins, noise=0.3, state=4):
    """Latents, a position that is linear in them, and noise of its own."""
    mean = rng.normal(size=(bins, state))
    return mean, mean[:, 0] - 0.5 * mean[:, 1] + noise * rng.normal(size=bins)


def coverages(decoder, mean, position, time=None):
    scores = score_decoding(decoder.predict(mean, time), position)
    return np.array(list(scores["coverage"].values())), scores


# Intervals that hold. The calibration is learned from 60 % of 3000 bins: coverage has a standard error of about one
# point from that and of half a point from the 5000 bins that are scored.


@pytest.mark.parametrize("regressor", ["linear", "mlp", KNeighborsRegressor(20)])
def test_coverage_of_well_specified_noise(regressor):
    rng = np.random.default_rng(0)
    mean, position = walk(rng, 8000)
    decoder = PositionDecoder(regressor=regressor, random_state=0).fit(mean[:3000], position[:3000])
    found, scores = coverages(decoder, mean[3000:], position[3000:])
    np.testing.assert_allclose(found, LEVELS, atol=0.04)
    if regressor == "linear":  # as narrow as if the noise had been known, up to the caution of calibration
        assert scores["width"]["95"] < 1.1 * 2 * 1.96 * 0.3


@pytest.mark.parametrize("regressor", ["linear", "mlp"])
def test_coverage_of_heavy_tailed_noise(regressor):
    rng = np.random.default_rng(1)
    mean, _ = walk(rng, 8000)
    position = mean[:, 0] + 0.2 * rng.standard_t(2, size=8000)
    decoder = PositionDecoder(regressor=regressor, random_state=0).fit(mean[:3000], position[:3000])
    found, _ = coverages(decoder, mean[3000:], position[3000:])
    # The wide tails go into the calibration, which then errs on the side of caution in the middle.
    assert (found > np.array(LEVELS) - 0.04).all()
    assert (found < np.array(LEVELS) + 0.07).all()


def test_intervals_follow_noise_that_depends_on_the_latents(monkeypatch):
    monkeypatch.setattr(kalmanssl.decoding._mlp_readout, "_STEPS", 500)
    rng = np.random.default_rng(2)
    mean, _ = walk(rng, 6000)
    loud = mean[:, 1] > 0
    position = mean[:, 0] + np.where(loud, 0.8, 0.1) * rng.normal(size=6000)
    decoder = PositionDecoder(random_state=0, calibrate=False).fit(mean[:3000], position[:3000])
    lower, upper = decoder.predict(mean[3000:]).interval(0.8)
    inside = (lower <= position[3000:]) & (position[3000:] <= upper)
    assert inside.mean() == pytest.approx(0.8, abs=0.06)
    assert np.median((upper - lower)[loud[3000:]]) > 1.4 * np.median((upper - lower)[~loud[3000:]])


def test_intervals_widen_for_a_code_that_wanders():
    """The offset of the code is a random walk: later is worse, in no direction that could be known before."""
    rng = np.random.default_rng(3)
    found, growth, unwarned = [], [], []
    for _ in range(8):
        mean, position = walk(rng, 6000, noise=0.1)
        position += 0.02 * np.cumsum(rng.normal(size=6000))
        time = 0.1 * np.arange(6000)
        decoder = PositionDecoder(regressor="linear").fit(mean[:4000], position[:4000], time=time[:4000])
        share, _ = coverages(decoder, mean[4000:], position[4000:], time[4000:])
        found.append(share)
        lower, upper = decoder.predict(mean[4000:], time[4000:]).interval(0.8)
        growth.append((upper - lower)[-1] / (upper - lower)[0])
        naive = PositionDecoder(regressor="linear", calibrate=False).fit(mean[:4000], position[:4000])
        unwarned.append(score_decoding(naive.predict(mean[4000:]), position[4000:])["coverage"]["80"])
    assert np.mean(growth) > 1.1
    # One walk says little about how far the next one goes, so the promise is not kept; but better than without.
    assert np.mean(found, axis=0)[1] > np.mean(unwarned) + 0.02


def test_posterior_covariance_counts():
    rng = np.random.default_rng(4)
    mean, position = walk(rng, 2000)
    path = as_path(mean)
    for regressor in ("linear", "mlp"):
        decoder = PositionDecoder(regressor=regressor, calibrate=False, random_state=0).fit(path, position)
        sure, unsure = decoder.predict(path[:200]), decoder.predict(replace(path[:200], covs=100 * path.covs))
        assert np.mean(unsure.upper - unsure.lower) > 1.5 * np.mean(sure.upper - sure.lower)


def test_samples_agree_with_quadrature():
    rng = np.random.default_rng(5)
    mean, position = walk(rng, 1000)
    path = as_path(mean, var=0.05)
    settings = {"calibrate": False, "random_state": 0}
    fast = PositionDecoder(**settings).fit(path, position).predict(path[:100])
    slow = PositionDecoder(posterior="samples", **settings).fit(path, position).predict(path[:100])
    width = np.mean(slow.upper - slow.lower)
    for a, b in ((fast.mean, slow.mean), (fast.lower, slow.lower), (fast.upper, slow.upper)):
        assert np.abs(a - b).mean() < 0.03 * width
        assert np.abs(a - b).max() < 0.2 * width


# What goes in and comes out.


def test_one_dimension_stays_flat_and_columns_stay_columns():
    rng = np.random.default_rng(6)
    mean, position = walk(rng, 400)
    for given, shape in ((position, (50,)), (position[:, None], (50, 1)), (np.stack([position] * 2, 1), (50, 2))):
        decoded = PositionDecoder(regressor="linear").fit(mean, given).predict(mean[:50])
        for values in (decoded.mean, decoded.lower, decoded.upper, decoded.median, decoded.crps(given[:50])):
            assert values.shape == shape
        assert decoded.time.shape == (50,)
        assert (decoded.lower <= decoded.upper).all()
        assert len(decoded[:7]) == 7


def test_levels_are_nested_and_the_default_is_the_one_asked_for():
    rng = np.random.default_rng(7)
    mean, position = walk(rng, 600)
    decoded = PositionDecoder(level=0.8, regressor="linear").fit(mean, position).predict(mean)
    assert decoded.level == 0.8
    np.testing.assert_array_equal(decoded.interval(0.8)[0], decoded.lower)
    np.testing.assert_array_equal(decoded.quantile(0.5), decoded.median)
    widths = [np.subtract(*decoded.interval(level)[::-1]) for level in (0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.995)]
    assert all((wider >= narrower).all() for narrower, wider in pairwise(widths))


def test_ranks_and_scores_of_the_truth():
    rng = np.random.default_rng(8)
    mean, position = walk(rng, 600)
    decoded = PositionDecoder(regressor="linear").fit(mean, position).predict(mean)
    for level in (0.025, 0.3, 0.9):
        np.testing.assert_allclose(decoded.pit(decoded.quantile(level)), level, atol=1e-3)
    assert decoded.pit(np.full(600, -1e9)).max() == 0
    assert decoded.pit(np.full(600, 1e9)).min() == 1
    unknown = position.copy()
    unknown[3] = np.nan
    for values in (decoded.pit(unknown), decoded.crps(unknown), decoded.error(unknown)):
        np.testing.assert_array_equal(np.isnan(values), np.isnan(unknown))


@pytest.mark.parametrize("regressor", ["linear", "mlp", KNeighborsRegressor(15)])
def test_circular_behavior(regressor):
    rng = np.random.default_rng(9)
    angle = rng.uniform(0, 360, size=2500)
    mean = np.stack([np.cos(np.radians(angle)), np.sin(np.radians(angle))], 1) + 0.1 * rng.normal(size=(2500, 2))
    decoder = PositionDecoder(regressor=regressor, period=360.0, random_state=0).fit(mean[:1500], angle[:1500])
    decoded = decoder.predict(mean[1500:])
    assert ((decoded.mean >= 0) & (decoded.mean < 360)).all()
    assert (decoded.upper - decoded.lower <= 360).all()
    scores = score_decoding(decoded, angle[1500:])
    assert scores["mean_error"] < 8
    np.testing.assert_allclose(list(scores["coverage"].values()), LEVELS, atol=0.06)
    named_otherwise = decoder.fit(mean[:1500], angle[:1500] - 720).predict(mean[1500:])
    np.testing.assert_allclose(named_otherwise.lower, decoded.lower)


def test_bins_without_position_or_outside_where_are_not_learned_from():
    rng = np.random.default_rng(10)
    mean, position = walk(rng, 600)
    where = rng.random(600) < 0.7
    unknown = np.flatnonzero(where)[::5]
    spoiled = np.where(where, position, 99.0)
    spoiled[unknown] = np.nan
    kept = where.copy()
    kept[unknown] = False
    time = 0.1 * np.arange(600)
    masked = PositionDecoder(regressor="linear").fit(mean, spoiled, where, time=time)
    chosen = PositionDecoder(regressor="linear").fit(mean[kept], position[kept], time=time[kept])
    np.testing.assert_array_equal(masked.predict(mean, time).table, chosen.predict(mean, time).table)


def test_readout_may_learn_from_the_smoothed_path():
    rng = np.random.default_rng(11)
    mean, position = walk(rng, 1500, noise=0.05)
    late = mean + 0.5 * np.roll(mean, 1, axis=0)  # filtered: the past hangs on
    filtered, smoothed = as_path(late), replace(as_path(mean), smoothed=True)
    decoder = PositionDecoder(regressor="linear").fit(filtered, position, smoothed=smoothed)
    alone = PositionDecoder(regressor="linear").fit(smoothed, position)
    np.testing.assert_allclose(decoder.predict(smoothed).mean, alone.predict(smoothed).mean, atol=1e-6)
    # What it will be used on is what it is calibrated on.
    found, _ = coverages(decoder, filtered, position)
    np.testing.assert_allclose(found, LEVELS, atol=0.06)


def test_rehearsals_teach_the_calibration():
    """Latents of bins that a model was fitted on are better than those of others; only a held_out_fit shows that."""
    rng = np.random.default_rng(12)
    mean, position = walk(rng, 2000, noise=0.1)
    unseen = mean + 0.5 * rng.normal(size=mean.shape)
    path = as_path(mean)
    half = as_path(np.where(np.arange(2000)[:, None] < 1000, mean, unseen))
    held_out_fit = HeldOutFit(half, half, (path.time[0], path.time[999]))
    test = as_path(unseen, start=path.time[-1] + 0.025)
    plain = PositionDecoder(regressor="linear").fit(path, position)
    rehearsed = PositionDecoder(regressor="linear").fit(path, position, held_out_fits=[held_out_fit])
    assert coverages(plain, test, position)[0][1] < 0.6
    assert coverages(rehearsed, test, position)[0][1] == pytest.approx(0.8, abs=0.06)


def test_same_seed_same_intervals():
    rng = np.random.default_rng(13)
    mean, position = walk(rng, 300)
    first, second, other = (
        PositionDecoder(random_state=seed, calibrate=False).fit(mean, position).predict(mean).table
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_fit_changes_nothing_of_the_callers():
    rng = np.random.default_rng(14)
    mean, position = walk(rng, 300)
    kept = mean.copy(), position.copy()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    PositionDecoder(regressor="linear", period=2.0).fit(mean, position, time=np.arange(300.0))
    np.testing.assert_array_equal(mean, kept[0])
    np.testing.assert_array_equal(position, kept[1])
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("regressor", ["linear", "mlp"])
def test_state_brings_the_decoder_back(regressor):
    rng = np.random.default_rng(15)
    mean, position = walk(rng, 500)
    path = as_path(mean, bin_size=0.1)
    decoder = PositionDecoder(0.9, regressor, period=(None, 3.0), random_state=3)
    decoder.fit(path, np.stack([position, position], axis=1))
    again = PositionDecoder.from_state(decoder.state())
    assert again.get_params()["level"] == 0.9
    before, after = (d.predict(path) for d in (decoder, again))
    np.testing.assert_array_equal(before.table, after.table)
    np.testing.assert_array_equal(before.mean, after.mean)
    assert before.periods == after.periods == (None, 3.0)


def test_parameters_follow_scikit_learn():
    decoder = PositionDecoder(0.9, "linear", period=[None, 2.0])
    assert clone(decoder).get_params() == decoder.get_params()


def test_decoder_of_any_regressor_says_why_it_cannot_be_saved():
    rng = np.random.default_rng(16)
    mean, position = walk(rng, 300)
    decoder = PositionDecoder(regressor=KNeighborsRegressor()).fit(mean, position)
    with pytest.raises(InputError, match="KNeighborsRegressor cannot be saved without pickle"):
        decoder.state()


def test_before_fit():
    for call in (lambda d: d.predict(np.zeros((3, 2))), lambda d: d.state()):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call(PositionDecoder())


def fit(**settings):
    position = settings.pop("position", np.arange(40.0))
    path = settings.pop("path", np.random.default_rng(0).normal(size=(40, 3)))
    keywords = {name: settings.pop(name) for name in ("where", "time") if name in settings}
    return PositionDecoder(**({"regressor": "linear"} | settings)).fit(path, position, **keywords)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 1.0}, "level=1.0 must be a number between 0 and 1"),
        ({"level": 95}, "level=95 must be"),
        ({"position": np.arange(39.0)}, "position has 39 bins and path 40"),
        ({"position": np.zeros((40, 2, 2))}, r"position has shape \(40, 2, 2\)"),
        ({"position": np.full(40, 2.5)}, r"position is constant \(2.5\) in dimension 0"),
        ({"position": np.full(40, np.nan)}, "only 0 of 40 bins have a known position"),
        ({"path": np.zeros(40)}, r"path has shape \(40,\)"),
        ({"where": np.zeros(40)}, "where is float64"),
        ({"where": np.zeros(40, dtype=bool)}, "only 0 of 40 bins"),
        ({"time": np.zeros(40)}, "time must increase"),
        ({"time": np.arange(39.0)}, r"time has shape \(39,\)"),
        ({"regressor": "forest"}, "regressor='forest' is not known"),
        ({"regressor": KNeighborsRegressor}, None),
        ({"regressor": 3}, "regressor is a int without fit and predict"),
        ({"regressor": "mlp", "posterior": "exact"}, "posterior='exact' is neither"),
        ({"period": (1.0, None)}, "period has 2 entries and position 1 dimensions"),
        ({"period": -1.0}, "period=-1.0 must be positive"),
    ],
)
def test_messages_of_fit(settings, message):
    warnings.simplefilter("ignore")
    with pytest.raises((InputError, TypeError), match=message) as caught:
        fit(**settings)
    assert message is None or "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (np.zeros((5, 4)), "path has 4 features, the decoder was fitted on 3"),
        (np.array([[0.0] * 3, [np.nan] * 3]), "path is not finite at 1 bins, the first is bin 1"),
    ],
)
def test_messages_of_predict(path, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder = fit()
    with pytest.raises(InputError, match=message):
        decoder.predict(path)


def test_messages_of_the_decoded():
    rng = np.random.default_rng(17)
    mean, position = walk(rng, 300)
    decoded = PositionDecoder(regressor="linear").fit(mean, position).predict(mean)
    for level in (0, 1, -0.1, "0.9"):
        with pytest.raises(InputError, match="must be a number between 0 and 1"):
            decoded.interval(level)
    with pytest.raises(InputError, match=r"truth has shape \(3,\), the decoded behavior \(300,\)"):
        decoded.crps(np.zeros(3))


def test_too_little_data_is_said():
    rng = np.random.default_rng(18)
    mean, position = walk(rng, 200)
    with pytest.warns(UserWarning, match="too few to vouch for a level of 0.999"):
        PositionDecoder(0.999, "linear").fit(mean, position)
