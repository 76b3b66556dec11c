"""Updates of a fitted decoder with behavior that becomes known later."""

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.exceptions import NotFittedError

from kalmanssl.decoding import EnsembleReadoutSettings, MLPReadoutSettings, PositionDecoder, score_decoding
from kalmanssl.errors import InputError

BIN = 0.025
FIT, STREAM = 4000, 24_000
QUICK = EnsembleReadoutSettings(MLPReadoutSettings(n_steps=120))
SLOW = 0.99  # correlation of the behavior of neighboring bins


def recording(rng, bins, scale=1.0, dims=1, errors_scale_from=0):
    """Behavior of unit variance that changes slowly, and latents: the behavior plus noise of standard deviation 0.3.

    The noise is `scale` times as large from the bin `errors_scale_from` on.
    """
    behavior = lfilter([np.sqrt(1 - SLOW**2)], [1, -SLOW], rng.normal(size=(bins + 500, dims)), axis=0)[500:]
    noise = 0.3 * rng.normal(size=(bins, dims))
    noise[errors_scale_from:] *= scale
    return behavior + noise, behavior, BIN * np.arange(bins)


def linear_decoder(**settings):
    return PositionDecoder(**{"regressor": "linear", "random_state": 0} | settings)


def fitted(scale, dims=1, seed=0, **settings):
    latents, behavior, time = recording(np.random.default_rng(seed), FIT + STREAM, scale, dims, FIT)
    behavior = behavior[:, 0] if dims == 1 else behavior
    decoder = linear_decoder(**settings).fit(latents[:FIT], behavior[:FIT], time=time[:FIT])
    return decoder, latents[FIT:], behavior[FIT:], time[FIT:]


def streaming_coverage(decoder, latents, behavior, time, piece=500):
    """Coverage at 80 and 95 %: each piece is decoded before its behavior is used."""
    covered = {0.8: [], 0.95: []}
    for first in range(0, len(latents), piece):
        part = slice(first, first + piece)
        decoded = decoder.predict(latents[part], time[part])
        for level, found in covered.items():
            lower, upper = decoded.interval(level)
            found.append((lower <= behavior[part]) & (behavior[part] <= upper))
        decoder.update(latents[part], behavior[part], time[part])
    return {level: np.concatenate(found) for level, found in covered.items()}


def test_intervals_cover_again_after_the_scale_of_the_errors_doubled():
    decoder, latents, behavior, time = fitted(scale=2.0)
    without = score_decoding(decoder.predict(latents, time), behavior)["coverage"]
    assert without["95"] < 0.91
    assert without["80"] < 0.73
    covered = streaming_coverage(decoder, latents, behavior, time)
    assert covered[0.95][4000:].mean() == pytest.approx(0.95, abs=0.02)
    assert covered[0.8][4000:].mean() == pytest.approx(0.8, abs=0.02)


def test_coverage_and_width_stay_the_same_if_the_errors_do():
    decoder, latents, behavior, time = fitted(scale=1.0, seed=1)
    before = score_decoding(decoder.predict(latents, time), behavior)
    covered = streaming_coverage(decoder, latents, behavior, time)
    after = score_decoding(decoder.predict(latents, time), behavior)
    for name, level in (("80", 0.8), ("95", 0.95)):
        assert covered[level].mean() == pytest.approx(level, abs=0.02)
        assert after["width"][name] == pytest.approx(before["width"][name], rel=0.08)


def test_all_dimensions_and_the_regions_are_adapted():
    decoder, latents, behavior, time = fitted(scale=2.0, dims=2, seed=2)
    latents, behavior, time = latents[:8000], behavior[:8000], time[:8000]
    before = score_decoding(decoder.predict(latents, time), behavior)
    decoder.update(latents, behavior, time)
    after = score_decoding(decoder.predict(latents, time), behavior)
    for one in after["dimensions"]:
        assert one["coverage"]["95"] == pytest.approx(0.95, abs=0.02)
        assert one["coverage"]["80"] == pytest.approx(0.8, abs=0.03)
    old, new = (scores["regions"][0]["coverage"]["80"] for scores in (before, after))
    assert abs(new - 0.8) < 0.04 < abs(old - 0.8)


def test_intervals_stay_nested_and_the_point_estimate_does_not_change():
    decoder, latents, behavior, time = fitted(scale=3.0)
    mean = decoder.predict(latents[:500], time[:500]).mean
    decoder.update(latents[:3000], behavior[:3000], time[:3000])
    decoded = decoder.predict(latents[:500], time[:500])
    assert (np.diff(decoded.table, axis=2) >= 0).all()
    np.testing.assert_array_equal(decoded.mean, mean)


@pytest.mark.parametrize(("dims", "settings"), [(2, {}), (1, {"regressor": "ensemble", "readout_settings": QUICK})])
def test_one_bin_at_a_time_gives_the_same_result_as_all_at_once(dims, settings):
    latents, behavior, time = recording(np.random.default_rng(3), 1150, 2.0, dims, 1000)
    latents[1040] = np.nan
    behavior[1060:1070] = np.nan
    time = time + np.where(np.arange(1150) >= 1100, 1.0, 0.0)  # a gap, which begins a new segment
    together, alone = (
        linear_decoder(**settings).fit(latents[:1000], behavior[:1000], time=time[:1000]) for _ in range(2)
    )
    assert together.decoders_["array"].movement_weights[0].keys() != {
        "none"
    }  # so that decoding depends on earlier bins
    together.update(latents[1000:], behavior[1000:], time[1000:])
    for bin_ in range(1000, 1150):
        if bin_ == 1080:  # updates go on after the decoder was saved and loaded
            alone = PositionDecoder.from_state(alone.to_state())
        part = slice(bin_, bin_ + 1)
        alone.update(latents[part], behavior[part], time[part])
    expected, found = (decoder.predict(latents[1000:], time[1000:]) for decoder in (together, alone))
    np.testing.assert_allclose(found.table, expected.table, rtol=1e-4, atol=1e-5)
    assert together.adaptations_["array"].intervals[0].n_bins == 150 - 11
    assert np.abs(expected.table - fitted_table(together, latents[1000:], time[1000:])).max() > 0.01


def fitted_table(decoder, latents, time):
    """Quantiles without the updates."""
    unchanged = PositionDecoder.from_state(decoder.to_state() | {"adaptations": {}})
    return unchanged.predict(latents, time).table


def test_updates_are_saved_and_loaded():
    decoder, latents, behavior, time = fitted(scale=2.0)
    decoder.update(latents[:2000], behavior[:2000], time[:2000])
    loaded = PositionDecoder.from_state(decoder.to_state())
    expected, found = (one.predict(latents[:500], time[:500]) for one in (decoder, loaded))
    np.testing.assert_array_equal(found.table, expected.table)
    for one in (decoder, loaded):
        one.update(latents[3000:4000], behavior[3000:4000], time[3000:4000])
    np.testing.assert_allclose(
        loaded.predict(latents[:500], time[:500]).table, decoder.predict(latents[:500], time[:500]).table
    )


def test_fit_discards_all_updates():
    latents, behavior, time = recording(np.random.default_rng(4), 3000, 2.0, 1, 1500)
    part = slice(0, 1500)
    decoder = linear_decoder().fit(latents[part], behavior[part], time=time[part])
    expected = decoder.predict(latents[1500:], time[1500:]).table
    decoder.update(latents[1500:], behavior[1500:], time[1500:])
    assert np.abs(decoder.predict(latents[1500:], time[1500:]).table - expected).max() > 0.01
    decoder.fit(latents[part], behavior[part], time=time[part])
    np.testing.assert_array_equal(decoder.predict(latents[1500:], time[1500:]).table, expected)


def test_unknown_behavior_changes_nothing():
    decoder, latents, _, time = fitted(scale=2.0)
    expected = decoder.predict(latents[:500], time[:500]).table
    decoder.update(latents[:500], np.full(500, np.nan), time[:500])
    np.testing.assert_array_equal(decoder.predict(latents[:500], time[:500]).table, expected)


def test_angles_are_scored_around_the_circle():
    rng = np.random.default_rng(5)
    angle = np.cumsum(0.05 * rng.normal(size=8000))
    noise = np.where(np.arange(8000) < 3000, 0.2, 0.5)[:, None] * rng.normal(size=(8000, 2))
    latents = np.stack([np.cos(angle), np.sin(angle)], axis=1) + noise
    behavior, time = angle % (2 * np.pi), BIN * np.arange(8000)
    decoder = PositionDecoder(regressor="mlp", period=2 * np.pi, readout_settings=QUICK.networks, random_state=0)
    decoder.fit(latents[:3000], behavior[:3000], time=time[:3000])
    later = slice(3000, None)
    before = score_decoding(decoder.predict(latents[later], time[later]), behavior[later])["coverage"]["80"]
    decoder.update(latents[later], behavior[later] + 2 * np.pi, time[later])
    after = score_decoding(decoder.predict(latents[later], time[later]), behavior[later])["coverage"]["80"]
    assert abs(after - 0.8) < 0.03 < abs(before - 0.8)


def labels_and_latents(rng, bins, noise):
    codes = (np.cumsum(rng.random(bins) < 0.02) * 7) % 3
    return np.eye(3)[codes] + noise * rng.normal(size=(bins, 3)), np.array(["left", "right", "stem"])[codes]


@pytest.fixture(scope="module")
def label_decoder():
    latents, labels = labels_and_latents(np.random.default_rng(6), 4000, 0.8)
    decoder = PositionDecoder(readout_settings=QUICK, random_state=0)
    return decoder.fit(latents, labels, time=BIN * np.arange(4000))


def test_sets_of_labels_cover_again_after_the_errors_became_more_frequent(label_decoder):
    decoder = PositionDecoder.from_state(label_decoder.to_state())
    latents, labels = labels_and_latents(np.random.default_rng(7), 20_000, 2.5)
    time = BIN * np.arange(4000, 24_000)
    before = score_decoding(decoder.predict(latents, time), labels)["coverage"]["95"]
    decoder.update(latents, labels, time)
    after = score_decoding(decoder.predict(latents, time), labels)["coverage"]["95"]
    assert abs(after - 0.95) < 0.02 < abs(before - 0.95)


def test_labels_one_bin_at_a_time_give_the_same_result_as_all_at_once(label_decoder):
    together, alone = (PositionDecoder.from_state(label_decoder.to_state()) for _ in range(2))
    latents, labels = labels_and_latents(np.random.default_rng(8), 200, 2.5)
    time = BIN * np.arange(4000, 4200)
    together.update(latents, labels, time)
    for bin_ in range(200):
        if bin_ == 100:
            alone = PositionDecoder.from_state(alone.to_state())
        alone.update(latents[bin_ : bin_ + 1], labels[bin_ : bin_ + 1], time[bin_ : bin_ + 1])
    expected, found = (decoder.predict(latents, time).calibration for decoder in (together, alone))
    np.testing.assert_allclose(found.calibrated_levels, expected.calibrated_levels, atol=1e-6)


def test_wrong_input_of_an_update_is_named(label_decoder):
    decoder, latents, behavior, time = fitted(scale=1.0)
    with pytest.raises(NotFittedError):
        linear_decoder().update(latents, behavior, time)
    with pytest.raises(InputError, match="position has 9 bins and latents 10"):
        decoder.update(latents[:10], behavior[:9], time[:10])
    with pytest.raises(InputError, match="2 dimensions, that of the fit has 1"):
        decoder.update(latents[:10], np.zeros((10, 2)), time[:10])
    with pytest.raises(InputError, match="consists of labels, but the decoder was fitted on numbers"):
        decoder.update(latents[:10], np.array(["left"] * 10), time[:10])
    with pytest.raises(InputError, match="latents has 2 features, the decoder was fitted on 1"):
        decoder.update(np.zeros((10, 2)), behavior[:10], time[:10])
    with pytest.raises(InputError, match="has the label 'up', but the decoder was fitted on"):
        label_decoder.update(np.zeros((10, 3)), np.array(["up"] * 10))
    with pytest.raises(InputError, match=r"has the label 0\.5, but the decoder was fitted on"):
        label_decoder.update(np.zeros((10, 3)), np.full(10, 0.5))
    with pytest.raises(InputError, match="position has 9 bins and latents 10"):
        label_decoder.update(np.zeros((10, 3)), np.array(["left"] * 9))


def test_a_decoder_without_calibration_has_nothing_to_update():
    latents, behavior, time = recording(np.random.default_rng(9), 500)
    decoder = linear_decoder(calibrate=False).fit(latents, behavior, time=time)
    with pytest.raises(InputError, match="calibrate=False leaves no calibrated levels to update"):
        decoder.update(latents, behavior, time)
