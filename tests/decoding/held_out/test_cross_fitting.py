"""Held-out fits: copies of a model that are fitted on a part of the time, and their use by the decoder."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator

import kalmanssl as ks
from kalmanssl import KalmanSSL, PositionDecoder, cross_fit
from kalmanssl.data import Covariances, Latents, running_bins
from kalmanssl.datasets import place_cells
from kalmanssl.decoding import CalibrationSettings, DriftSettings, HeldOutFit, MovementSettings
from kalmanssl.decoding.held_out import Fold, Samples, fold_weights, rolling_folds
from kalmanssl.errors import InputError

NO_MOVEMENT = MovementSettings(kinds=("none",))
NO_DRIFT = DriftSettings(max_error_ratio=1e-9)  # the error never falls that much, so the drift is not used


@pytest.fixture(scope="module")
def cross_fitted():
    """A recording, a model fitted on it, its running bins, and the held-out fits."""
    recording = place_cells(n_units=30, duration=120.0, random_state=0)
    model = KalmanSSL(
        latent_dim=4, state_dim=8, hidden=(32,), epochs=2, steps_per_epoch=10, batch_size=32,
        validation_fraction=0, progress=False, random_state=0,
    ).fit(recording)  # fmt: skip
    where = running_bins(recording.behavior["position"], recording.time, min_speed=0.1)
    return recording, model, where, cross_fit(model, recording)


def test_copies_are_fitted_on_first_parts(cross_fitted):
    recording, model, _, held_out_fits = cross_fitted
    duration = recording.time[-1] - recording.time[0]
    assert len(held_out_fits) == 2
    for share, fit in zip((0.6, 0.8), held_out_fits, strict=True):
        np.testing.assert_allclose(fit.fit_interval, (recording.time[0], recording.time[0] + share * duration))
        assert fit.smoothed.smoothed
        assert not fit.latents.smoothed
        assert len(fit.latents) == len(fit.smoothed) == len(recording)
    first, second = held_out_fits
    settings = model.get_params() | {"steps_per_epoch": round(0.6 * model.steps_per_epoch)}
    expected = KalmanSSL(**settings).fit(recording.restrict(*first.fit_interval))
    for found, smooth in ((first.latents, False), (first.smoothed, True)):
        np.testing.assert_array_equal(found.mean, expected.transform(recording, smooth).mean.astype(np.float32))
    assert np.abs(first.latents.mean - second.latents.mean).max() > 0.1


def test_smoothed_latents_are_computed_once_when_they_are_needed(cross_fitted):
    latents = cross_fitted[3][0].latents
    calls = []

    def smooth():
        calls.append(None)
        return replace(latents, smoothed=True)

    fit = HeldOutFit(latents, smooth, (0.0, 1.0))
    assert calls == []
    assert fit.smoothed is fit.smoothed
    assert len(calls) == 1


class RecordingModel(BaseEstimator):
    """An estimator whose latents are random, and which remembers what it was fitted on."""

    def __init__(self, checkpoint_dir=None) -> None:
        self.checkpoint_dir = checkpoint_dir

    fitted_on: ClassVar[list] = []

    def fit(self, X):
        self.fitted_on.append(X)
        return self

    def transform(self, X, smooth=False):
        time = X.time
        mean, nothing = np.random.default_rng(0).normal(size=(len(time), 2)), np.zeros((len(time), 0))
        cov = Covariances(np.eye(2)[None], np.zeros(len(time), dtype=int))
        return Latents(mean, cov, time, nothing, nothing, np.zeros(len(time)), np.zeros(len(time), dtype=int), smooth)


def test_the_parts_of_a_recording_with_a_long_gap_are_shares_of_its_bins():
    time = 0.025 * np.arange(1000)
    time[100:] += 500.0
    time[400:] += 2.0
    recording = ks.Recording.from_arrays(np.ones((1000, 3)), time=time)
    fits = cross_fit(RecordingModel(), recording, shares=(0.05, 0.3, 0.6))
    for share, fit, part in zip((0.05, 0.3, 0.6), fits, RecordingModel.fitted_on[-3:], strict=True):
        assert len(part) == pytest.approx(1000 * share, abs=1)
        assert fit.fit_interval[0] == part.time[0] == time[0]
        inside = time < fit.fit_interval[1]
        np.testing.assert_array_equal(time[inside], part.time)


def test_a_recording_in_trials_can_be_cross_fitted():
    recording = place_cells(n_units=10, duration=40.0, random_state=0)
    trial = np.arange(len(recording.time)) // 60
    recording = replace(recording, time=recording.time + 3.0 * trial, spike_times=None)
    model = KalmanSSL(latent_dim=2, state_dim=2, hidden=(8,), epochs=1, steps_per_epoch=2, progress=False)
    for fit in cross_fit(model, recording):
        assert np.isfinite(fit.smoothed.mean).all()
        assert len(fit.latents) == len(recording)


def test_filtered_and_smoothed_latents_have_their_own_decoders_and_held_out_fits(cross_fitted):
    recording, model, where, held_out_fits = cross_fitted
    latents, smoothed = model.transform(recording), model.transform(recording, smooth=True)
    position = recording.behavior["position"]

    def fit(target, **options):
        decoder = PositionDecoder(
            regressor="linear",
            movement_settings=NO_MOVEMENT,
            drift_settings=NO_DRIFT,
            calibration_settings=CalibrationSettings(max_bins=500, noise_grid=(0.0, 1.0)),
        )
        return decoder.fit(target, position, where=where, **options)

    both = fit(latents, smoothed=smoothed, held_out_fits=held_out_fits)
    assert set(both.decoders_) == {"filtered", "smoothed"}
    for target in (latents, smoothed):
        alone = fit(target, held_out_fits=held_out_fits)
        np.testing.assert_array_equal(both.predict(target).table, alone.predict(target).table)
        with_rolling_folds = fit(target)
        np.testing.assert_array_equal(with_rolling_folds.predict(target).mean, alone.predict(target).mean)
        assert (with_rolling_folds.predict(target).upper != alone.predict(target).upper).any()
    assert np.abs(both.predict(latents).mean - both.predict(smoothed).mean).max() > 1e-3


def test_held_out_fits_widen_the_intervals_of_an_overfitted_model(cross_fitted):
    recording, model, where, held_out_fits = cross_fitted
    position = recording.behavior["position"]
    rng = np.random.default_rng(0)
    informative = position[:, None] * rng.normal(size=4) + 0.05 * rng.normal(size=(len(position), 4))
    latents = model.transform(recording)
    latents = replace(
        latents,
        mean=np.concatenate([informative, np.zeros_like(informative)], axis=1),
        covariances=Covariances(1e-4 * latents.covariances.table, latents.covariances.index),
    )

    def overfitted(fit: HeldOutFit) -> HeldOutFit:
        """Latents that have noise outside the interval of the fit."""
        outside = (latents.time < fit.fit_interval[0]) | (latents.time > fit.fit_interval[1])
        noise = np.where(outside[:, None], 1.0, 0.0) * rng.standard_normal(latents.mean.shape) * latents.mean.std(0)
        worse = replace(latents, mean=latents.mean + noise)
        return HeldOutFit(worse, worse, fit.fit_interval)

    def width(fits):
        decoder = PositionDecoder(regressor="linear", movement_settings=NO_MOVEMENT)
        decoder.fit(latents, position, where=where, held_out_fits=fits)
        decoded = decoder.predict(latents[where])
        return (decoded.upper - decoded.lower).mean()

    well_fitted = [HeldOutFit(latents, latents, fit.fit_interval) for fit in held_out_fits]
    assert width([overfitted(fit) for fit in held_out_fits]) > 1.2 * width(well_fitted)


def test_wrong_arguments_raise_an_error_that_names_them(cross_fitted):
    recording, model, _, held_out_fits = cross_fitted
    latents, position = model.transform(recording), recording.behavior["position"]
    with pytest.raises(InputError, match=r"shares must be inside \(0, 1\); got 1.5") as caught:
        cross_fit(model, recording, shares=(0.5, 1.5))
    assert caught.value.parameter == "shares"
    decoder = PositionDecoder(regressor="linear")
    with pytest.raises(InputError, match="have other bins than latents") as caught:
        decoder.fit(latents[:100], position[:100], held_out_fits=held_out_fits)
    assert caught.value.parameter == "held_out_fits"
    with pytest.raises(InputError, match="not an array"):
        decoder.fit(latents.mean, position, held_out_fits=held_out_fits)
    with pytest.raises(InputError, match="leaves 0 bins to fit on"):
        decoder.fit(latents, position, held_out_fits=[HeldOutFit(latents, latents, (0.0, 1.0))])
    with pytest.raises(InputError, match=r"smoothed has .* features") as caught:
        decoder.fit(latents, position, smoothed=model.transform(recording, smooth=True)[:100])
    assert caught.value.parameter == "smoothed"
    with pytest.raises(InputError, match="smoothed must be the smoothed latents") as caught:
        decoder.fit(latents, position, smoothed=latents)
    assert caught.value.parameter == "smoothed"
    decoder = PositionDecoder(regressor="linear", calibrate=False).fit(latents, position)
    with pytest.raises(InputError, match="latents are smoothed, but the decoder was fitted on filtered ones") as caught:
        decoder.predict(model.transform(recording, smooth=True))
    assert caught.value.parameter == "latents"


def test_the_old_name_warns_and_does_the_same(cross_fitted):
    recording, model, _, held_out_fits = cross_fitted
    with pytest.warns(FutureWarning, match="rehearse is now called cross_fit"):
        (again,) = ks.rehearse(model, recording, (0.6,))
    np.testing.assert_array_equal(again.latents.mean, held_out_fits[0].latents.mean)


def test_errors_of_a_fit_on_fewer_bins_have_half_the_weight_and_sessions_that_are_left_out_the_same():
    rng = np.random.default_rng(0)
    bins, session = 600, np.repeat([0, 1], [200, 400])
    given = (rng.normal(size=(bins, 2)), rng.normal(size=(bins, 1)), 0.1 * np.arange(bins), np.ones(bins, dtype=bool))
    folds = rolling_folds(Samples.from_latents(*given, (None,), 20), 3, 0.4)
    assert fold_weights(folds) == [0.25, 0.5, 1.0]
    assert fold_weights(folds[::-1]) == [1.0, 0.5, 0.25]
    samples = Samples.from_latents(*given, (None,), 20, session=session)
    left_out = [Fold.of(samples, session != number, session == number) for number in (0, 1)]
    assert fold_weights(left_out) == [1.0, 1.0]
