"""PositionDecoder: coverage and width of its intervals, what it accepts and returns, saving."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsRegressor

from kalmanssl.data import Covariances, Latents
from kalmanssl.decoding import (
    CalibrationSettings,
    DriftSettings,
    EnsembleReadoutSettings,
    HeldOutFit,
    LinearReadoutSettings,
    MLPReadoutSettings,
    MovementSettings,
    PositionDecoder,
    score_decoding,
)
from kalmanssl.errors import CalibrationWarning, InputError

LEVELS = (0.5, 0.8, 0.95)


# Tests of coverage and width use the readouts with their default settings. Tests of other behavior, which does not
# depend on how well the networks are trained, use this one.
QUICK_MLP = MLPReadoutSettings(n_steps=120, dropout=0.1)
NO_MOVEMENT = MovementSettings(kinds=("none",))
ONE_WALK = MovementSettings(kinds=("walk",), width_factors=(1.0,), powers=(0.2,), jumps=(0.01,))
QUICK_CALIBRATION = CalibrationSettings(max_bins=500, noise_grid=(0.0, 0.5, 1.0, 2.0), refinement_grid=(1.0,))


def quick(regressor):
    """Settings that make the MLP readout quick to train; None for other regressors."""
    return QUICK_MLP if regressor == "mlp" else None


def as_latents(mean, var=0.01, start=1000.0, bin_size=0.025):
    bins, state = mean.shape
    return Latents(
        mean=mean,
        covariances=Covariances(var * np.eye(state)[None], np.zeros(bins, dtype=int)),
        time=start + bin_size * np.arange(bins),
        latent=mean,
        noise=np.ones_like(mean),
        log_likelihood=np.zeros(bins),
        segment=np.zeros(bins, dtype=int),
    )


def simulate(rng, bins, noise=0.3, state=4):
    """Random latents, and a position that is linear in them plus noise."""
    mean = rng.normal(size=(bins, state))
    return mean, mean[:, 0] - 0.5 * mean[:, 1] + noise * rng.normal(size=bins)


def coverages(decoder, mean, position, time=None):
    scores = score_decoding(decoder.predict(mean, time), position)
    return np.array(list(scores["coverage"].values())), scores


# Coverage. The calibration is learned from 60 % of 3000 bins: coverage has a standard error of about one percent from
# that, and of half a percent from the 5000 bins that are scored.


@pytest.mark.parametrize("regressor", ["linear", "mlp", KNeighborsRegressor(20)])
def test_intervals_cover_at_their_level_with_gaussian_noise(regressor):
    rng = np.random.default_rng(0)
    mean, position = simulate(rng, 8000)
    decoder = PositionDecoder(regressor=regressor, random_state=0).fit(mean[:3000], position[:3000])
    found, scores = coverages(decoder, mean[3000:], position[3000:])
    np.testing.assert_allclose(found, LEVELS, atol=0.04)
    if regressor == "linear":  # almost as narrow as if the noise had been known
        assert scores["width"]["95"] < 1.1 * 2 * 1.96 * 0.3


@pytest.mark.parametrize("regressor", ["linear", "mlp"])
def test_intervals_cover_at_their_level_with_heavy_tailed_noise(regressor):
    rng = np.random.default_rng(1)
    mean, _ = simulate(rng, 8000)
    position = mean[:, 0] + 0.2 * rng.standard_t(2, size=8000)
    decoder = PositionDecoder(regressor=regressor, random_state=0).fit(mean[:3000], position[:3000])
    found, _ = coverages(decoder, mean[3000:], position[3000:])
    # The added noise that covers the heavy tails makes the central intervals somewhat wide.
    assert (found > np.array(LEVELS) - 0.04).all()
    assert (found < np.array(LEVELS) + 0.07).all()


def test_intervals_follow_noise_that_depends_on_the_latents():
    rng = np.random.default_rng(2)
    mean, _ = simulate(rng, 6000)
    loud = mean[:, 1] > 0
    position = mean[:, 0] + np.where(loud, 0.8, 0.1) * rng.normal(size=6000)
    settings = EnsembleReadoutSettings(
        MLPReadoutSettings(n_steps=500)
    )  # more than the default: the width is learned last
    decoder = PositionDecoder(random_state=0, calibrate=False, readout_settings=settings)
    decoder.fit(mean[:3000], position[:3000])
    lower, upper = decoder.predict(mean[3000:]).interval(0.8)
    inside = (lower <= position[3000:]) & (position[3000:] <= upper)
    assert inside.mean() == pytest.approx(0.8, abs=0.06)
    assert np.median((upper - lower)[loud[3000:]]) > 1.4 * np.median((upper - lower)[~loud[3000:]])


def test_intervals_widen_with_time_if_the_code_does_a_random_walk():
    """The offset of the code is a random walk, so errors grow with time in a direction that cannot be predicted."""
    rng = np.random.default_rng(3)
    found, growth, uncalibrated = [], [], []
    for _ in range(8):
        mean, position = simulate(rng, 6000, noise=0.1)
        position += 0.02 * np.cumsum(rng.normal(size=6000))
        time = 0.1 * np.arange(6000)
        settings = CalibrationSettings(max_bins=1000)
        decoder = PositionDecoder(regressor="linear", movement_settings=NO_MOVEMENT, calibration_settings=settings).fit(
            mean[:4000], position[:4000], time=time[:4000]
        )
        share, _ = coverages(decoder, mean[4000:], position[4000:], time[4000:])
        found.append(share)
        lower, upper = decoder.predict(mean[4000:], time[4000:]).interval(0.8)
        growth.append((upper - lower)[-1] / (upper - lower)[0])
        alone = PositionDecoder(regressor="linear", calibrate=False).fit(mean[:4000], position[:4000])
        uncalibrated.append(score_decoding(alone.predict(mean[4000:]), position[4000:])["coverage"]["80"])
    assert np.mean(growth) > 1.1
    # The past of one random walk says little about how far it goes next: coverage stays below the nominal level, but
    # is better than without calibration.
    assert np.mean(found, axis=0)[1] > np.mean(uncalibrated) + 0.02


def test_intervals_widen_with_the_posterior_covariance():
    rng = np.random.default_rng(4)
    mean, position = simulate(rng, 2000)
    latents = as_latents(mean)
    for regressor in ("linear", "mlp"):
        decoder = PositionDecoder(
            regressor=regressor,
            posterior="quadrature",
            calibrate=False,
            random_state=0,
            readout_settings=quick(regressor),
        ).fit(latents, position)
        certain = latents[:200]
        wide = Covariances(100 * certain.covariances.table, certain.covariances.index)
        narrow, wide = decoder.predict(certain), decoder.predict(replace(certain, covariances=wide))
        assert np.mean(wide.upper - wide.lower) > 1.5 * np.mean(narrow.upper - narrow.lower)


def test_random_draws_agree_with_quadrature():
    rng = np.random.default_rng(5)
    mean, position = simulate(rng, 1000)
    latents = as_latents(mean, var=0.05)
    settings = {"calibrate": False, "random_state": 0, "regressor": "mlp", "readout_settings": QUICK_MLP}
    fast = PositionDecoder(posterior="quadrature", **settings).fit(latents, position).predict(latents[:100])
    slow = PositionDecoder(posterior="samples", **settings).fit(latents, position).predict(latents[:100])
    width = np.mean(slow.upper - slow.lower)
    for a, b in ((fast.mean, slow.mean), (fast.lower, slow.lower), (fast.upper, slow.upper)):
        assert np.abs(a - b).mean() < 0.03 * width
        assert np.abs(a - b).max() < 0.2 * width


# Inputs and outputs.


@pytest.mark.parametrize("regressor", ["linear", "mlp", KNeighborsRegressor(15)])
def test_circular_behavior_is_decoded_modulo_its_period(regressor):
    rng = np.random.default_rng(9)
    angle = rng.uniform(0, 360, size=2500)
    mean = np.stack([np.cos(np.radians(angle)), np.sin(np.radians(angle))], 1) + 0.1 * rng.normal(size=(2500, 2))
    decoder = PositionDecoder(
        regressor=regressor,
        period=360.0,
        random_state=0,
        readout_settings=quick(regressor),
        calibration_settings=QUICK_CALIBRATION,
    ).fit(mean[:1500], angle[:1500])
    decoded = decoder.predict(mean[1500:])
    assert ((decoded.mean >= 0) & (decoded.mean < 360)).all()
    assert (decoded.upper - decoded.lower <= 360).all()
    scores = score_decoding(decoded, angle[1500:])
    assert scores["mean_error"] < 8
    np.testing.assert_allclose(list(scores["coverage"].values()), LEVELS, atol=0.06)
    decoder.set_params(calibrate=False)
    here, two_periods_lower = (
        decoder.fit(mean[:500], angle[:500] - shift).predict(mean[1500:]).lower for shift in (0, 720)
    )
    np.testing.assert_allclose(two_periods_lower, here)


def test_bins_without_position_or_outside_where_do_not_affect_the_fit():
    rng = np.random.default_rng(10)
    mean, position = simulate(rng, 600)
    where = rng.random(600) < 0.7
    unknown = np.flatnonzero(where)[::5]
    changed = np.where(where, position, 99.0)
    changed[unknown] = np.nan
    kept = where.copy()
    kept[unknown] = False
    time = 0.1 * np.arange(600)
    decoder = PositionDecoder(regressor="linear", movement_settings=NO_MOVEMENT)
    masked = clone(decoder).fit(mean, changed, where, time=time)
    chosen = clone(decoder).fit(mean[kept], position[kept], time=time[kept])
    np.testing.assert_array_equal(masked.predict(mean, time).table, chosen.predict(mean, time).table)


def test_filtered_and_smoothed_latents_are_each_decoded_by_their_own_readout_and_calibration():
    rng = np.random.default_rng(11)
    mean, position = simulate(rng, 1500, noise=0.05)
    lagging = mean + 0.5 * np.roll(mean, 1, axis=0)  # filtered latents depend on earlier ones
    filtered, smoothed = as_latents(lagging), replace(as_latents(mean), smoothed=True)
    decoder = PositionDecoder(regressor="linear", movement_settings=NO_MOVEMENT, calibration_settings=QUICK_CALIBRATION)
    both = clone(decoder).fit(filtered, position, smoothed=smoothed)
    for latents in (filtered, smoothed):
        alone = clone(decoder).fit(latents, position)
        np.testing.assert_array_equal(both.predict(latents).table, alone.predict(latents).table)
        found, _ = coverages(both, latents, position)
        np.testing.assert_allclose(found, LEVELS, atol=0.06)


def test_calibration_on_held_out_fits_covers_on_latents_that_were_not_fitted():
    """Latents of bins that a model was fitted on are better than others, which only held-out fits show."""
    rng = np.random.default_rng(12)
    mean, position = simulate(rng, 2000, noise=0.1)
    unseen = mean + 0.5 * rng.normal(size=mean.shape)
    latents = as_latents(mean)
    half = as_latents(np.where(np.arange(2000)[:, None] < 1000, mean, unseen))
    held_out_fit = HeldOutFit(half, half, (latents.time[0], latents.time[999]))
    test = as_latents(unseen, start=latents.time[-1] + 0.025)
    without = PositionDecoder(regressor="linear").fit(latents, position)
    cross_fitted = PositionDecoder(regressor="linear").fit(latents, position, held_out_fits=[held_out_fit])
    assert coverages(without, test, position)[0][1] < 0.6
    assert coverages(cross_fitted, test, position)[0][1] == pytest.approx(0.8, abs=0.06)


def test_the_seed_determines_the_intervals():
    rng = np.random.default_rng(13)
    mean, position = simulate(rng, 300)
    first, second, other = (
        PositionDecoder(random_state=seed, calibrate=False, readout_settings=EnsembleReadoutSettings(QUICK_MLP))
        .fit(mean, position)
        .predict(mean)
        .table
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_fit_changes_neither_its_arguments_nor_the_global_random_state():
    rng = np.random.default_rng(14)
    mean, position = simulate(rng, 300)
    kept = mean.copy(), position.copy()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    decoder = PositionDecoder(
        regressor="linear", period=2.0, movement_settings=ONE_WALK, calibration_settings=QUICK_CALIBRATION
    )
    decoder.fit(mean, position, time=np.arange(300.0))
    np.testing.assert_array_equal(mean, kept[0])
    np.testing.assert_array_equal(position, kept[1])
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("regressor", ["linear", "mlp"])
def test_a_saved_state_makes_the_same_decoder(regressor, tmp_path):
    rng = np.random.default_rng(15)
    mean, position = simulate(rng, 500)
    latents = as_latents(mean, bin_size=0.1)
    readout_settings = LinearReadoutSettings(ridge_alphas=(0.1, 1.0)) if regressor == "linear" else QUICK_MLP
    decoder = PositionDecoder(
        0.9,
        regressor,
        period=(None, 3.0),
        readout_settings=readout_settings,
        calibration_settings=CalibrationSettings(n_folds=2, noise_grid=(0.0, 1.0)),
        drift_settings=DriftSettings(n_neighbors=5),
        movement_settings=ONE_WALK,
        random_state=3,
    )
    decoder.fit(latents, np.stack([position, position], axis=1))
    decoder.save(tmp_path / "decoder")
    before = decoder.predict(latents)
    for again in (PositionDecoder.from_state(decoder.to_state()), PositionDecoder.load(tmp_path / "decoder")):
        assert again.get_params() == decoder.get_params() | {"period": [None, 3.0], "time_scales": [0.2, 0.8]}
        after = again.predict(latents)
        np.testing.assert_array_equal(before.table, after.table)
        np.testing.assert_array_equal(before.mean, after.mean)
        assert before.periods == after.periods == (None, 3.0)
    with pytest.raises(InputError, match="exists"):
        decoder.save(tmp_path / "decoder")
    decoder.save(tmp_path / "decoder", overwrite=True)
    (tmp_path / "decoder" / "metadata.json").write_text("{}")
    with pytest.raises(InputError, match="decoder"):
        PositionDecoder.load(tmp_path / "decoder")
    with pytest.raises(InputError, match="nothing"):
        PositionDecoder.load(tmp_path / "nothing")


def test_clone_keeps_the_parameters():
    decoder = PositionDecoder(0.9, "linear", period=[None, 2.0], drift_settings=DriftSettings(max_bins=100))
    assert clone(decoder).get_params() == decoder.get_params()


def test_saving_a_regressor_of_scikit_learn_raises_an_error(tmp_path):
    rng = np.random.default_rng(16)
    mean, position = simulate(rng, 300)
    decoder = PositionDecoder(regressor=KNeighborsRegressor()).fit(mean, position)
    for save in (decoder.to_state, lambda: decoder.save(tmp_path / "decoder")):
        with pytest.raises(InputError, match="KNeighborsRegressor cannot be saved without pickle"):
            save()
    assert not list(tmp_path.iterdir())


def test_predict_and_to_state_before_fit_raise_an_error():
    for call in (lambda d: d.predict(np.zeros((3, 2))), lambda d: d.to_state(), lambda d: d.save("decoder")):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call(PositionDecoder())


def fit(**settings):
    position = settings.pop("position", np.arange(40.0))
    latents = settings.pop("latents", np.random.default_rng(0).normal(size=(40, 3)))
    keywords = {name: settings.pop(name) for name in ("where", "time") if name in settings}
    return PositionDecoder(**({"regressor": "linear"} | settings)).fit(latents, position, **keywords)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 1.0}, "level=1.0 must be a number between 0 and 1"),
        ({"level": 95}, "level=95 must be"),
        ({"position": np.arange(39.0)}, "position has 39 bins and latents 40"),
        ({"position": np.zeros((40, 2, 2))}, r"position has shape \(40, 2, 2\)"),
        ({"position": np.full(40, 2.5)}, r"position is constant \(2.5\) in dimension 0"),
        ({"position": np.full(40, np.nan)}, "only 0 of 40 bins have a known position"),
        ({"latents": np.zeros(40)}, r"latents has shape \(40,\)"),
        ({"where": np.zeros(40)}, "where is float64"),
        ({"where": np.zeros(40, dtype=bool)}, "only 0 of 40 bins"),
        ({"time": np.zeros(40)}, "time must increase"),
        ({"time": np.arange(39.0)}, r"time has shape \(39,\)"),
        ({"regressor": "forest"}, "regressor='forest' is not known"),
        ({"regressor": KNeighborsRegressor}, None),
        ({"regressor": 3}, "regressor is a int without fit and predict"),
        ({"regressor": "mlp", "posterior": "exact"}, "posterior must be one of mean, quadrature, samples; got 'exact'"),
        ({"period": (1.0, None)}, "period has 2 entries and position 1 dimensions"),
        ({"period": -1.0}, "period must be positive.*-1.0"),
        ({"drift_settings": {"max_bins": 10}}, "drift_settings must be DriftSettings or None"),
        ({"movement_settings": "walk"}, "movement_settings must be MovementSettings or None"),
        ({"time_scales": (0.2, -1.0)}, "time_scales must be positive"),
        ({"readout_settings": MLPReadoutSettings()}, "regressor='linear' takes LinearReadoutSettings"),
    ],
)
def test_wrong_arguments_of_fit_raise_an_error_on_one_line(settings, message):
    warnings.simplefilter("ignore")
    with pytest.raises((InputError, TypeError), match=message) as caught:
        fit(**settings)
    assert message is None or "\n" not in str(caught.value)
    assert message is None or caught.value.parameter in settings


def test_latents_with_another_number_of_features_raise_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder = fit()
    with pytest.raises(InputError, match="latents has 4 features, the decoder was fitted on 3"):
        decoder.predict(np.zeros((5, 4)))


def test_too_few_blocks_for_the_level_give_a_warning():
    rng = np.random.default_rng(18)
    mean, position = simulate(rng, 200)
    with pytest.warns(CalibrationWarning, match="too few to guarantee a level of 0.999"):
        PositionDecoder(0.999, "linear").fit(mean, position)


def test_settings_reach_readout_calibration_and_drift():
    rng = np.random.default_rng(19)
    mean, position = simulate(rng, 400)
    time = 0.1 * np.arange(400)
    decoder = PositionDecoder(
        regressor="linear",
        readout_settings=LinearReadoutSettings(ridge_alphas=(1e6, 1e7)),
        calibration_settings=CalibrationSettings(noise_grid=(0.0,), refinement_grid=(1.0,)),
        drift_settings=DriftSettings(max_error_ratio=100.0),
        movement_settings=MovementSettings(kinds=("walk",), jumps=(0.07,)),
    ).fit(mean, position, time=time)
    part = decoder.decoders_["array"]
    assert np.abs(part.readout.weight).max() < 0.01
    assert part.calibrations[0].floor == part.calibrations[0].rate == 0
    assert part.drift.rate != 0
    assert part.movements[0].components[0].movement.jump == 0.07
    default = PositionDecoder(regressor="linear").fit(mean, position, time=time)
    assert default.decoders_["array"].drift.rate == 0
