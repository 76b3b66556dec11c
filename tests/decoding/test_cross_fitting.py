"""Rehearsals: copies of a model that had less to see, and what a decoder does with them."""

from dataclasses import replace

import numpy as np
import pytest

from kalmanssl import KalmanSSL, PositionDecoder, cross_fit
from kalmanssl.data import running_bins
from kalmanssl.datasets import place_cells
from kalmanssl.decoding import HeldOutFit
from kalmanssl.errors import InputError


@pytest.fixture(scope="module")
def rehearsed():
    recording = place_cells(n_units=30, duration=240.0, random_state=0)
    model = KalmanSSL(
        latent_dim=4, state_dim=8, hidden=(32,), epochs=2, steps_per_epoch=10, batch_size=32,
        validation_fraction=0, progress=False, random_state=0,
    ).fit(recording)  # fmt: skip
    where = running_bins(recording.behavior["position"], recording.time, min_speed=0.1)
    return recording, model, where, cross_fit(model, recording)


def test_copies_are_fitted_on_either_end(rehearsed):
    recording, model, _, held_out_fits = rehearsed
    (first, last) = held_out_fits
    length = 0.6 * (recording.time[-1] - recording.time[0])
    np.testing.assert_allclose(first.fitted, (recording.time[0], recording.time[0] + length))
    np.testing.assert_allclose(last.fitted, (recording.time[-1] - length, recording.time[-1]))
    expected = KalmanSSL(**model.get_params()).fit(recording.restrict(*first.fitted)).transform(recording)
    np.testing.assert_array_equal(first.path.mean, expected.mean)
    assert first.smoothed.smoothed
    assert not first.path.smoothed
    assert np.abs(first.path.mean - last.path.mean).max() > 0.1


def test_decoder_learns_from_the_smoothed_path_and_is_calibrated_on_the_rehearsals(rehearsed):
    recording, model, where, held_out_fits = rehearsed
    path, smoothed = model.transform(recording), model.transform(recording, smooth=True)
    position = recording.behavior["position"]

    def fit(**options):
        return PositionDecoder(regressor="linear", random_state=0).fit(path, position, where=where, **options)

    alone, taught, calibrated = fit(), fit(smoothed=smoothed), fit(smoothed=smoothed, held_out_fits=held_out_fits)
    expected = PositionDecoder(regressor="linear", calibrate=False).fit(smoothed, position, where=where)
    if not taught.drifts_:
        np.testing.assert_allclose(taught.predict(path).median, expected.predict(path).median, atol=0.05)
    assert np.abs(alone.predict(path).median - taught.predict(path).median).max() > 1e-3
    assert (taught.predict(path).upper != calibrated.predict(path).upper).any()


def test_rehearsals_widen_the_intervals_of_an_overfitted_model(rehearsed):
    recording, model, where, held_out_fits = rehearsed
    position = recording.behavior["position"]
    rng = np.random.default_rng(0)
    telling = position[:, None] * rng.normal(size=4) + 0.05 * rng.normal(size=(len(position), 4))
    path = model.transform(recording)
    path = replace(path, mean=np.concatenate([telling, np.zeros_like(telling)], axis=1), covs=1e-4 * path.covs)

    def spoiled(held_out_fit: HeldOutFit) -> HeldOutFit:
        """Latents that are good only on the bins of the fit."""
        outside = (path.time < held_out_fit.fitted[0]) | (path.time > held_out_fit.fitted[1])
        noise = np.where(outside[:, None], 1.0, 0.0) * rng.standard_normal(path.mean.shape) * path.mean.std(0)
        worse = replace(path, mean=path.mean + noise)
        return HeldOutFit(worse, worse, held_out_fit.fitted)

    def width(held_out_fits):
        decoder = PositionDecoder(regressor="linear").fit(path, position, where=where, held_out_fits=held_out_fits)
        decoded = decoder.predict(path[where])
        return (decoded.upper - decoded.lower).mean()

    honest = [HeldOutFit(path, path, r.fitted) for r in held_out_fits]
    assert width([spoiled(r) for r in held_out_fits]) > 1.2 * width(honest)


def test_bad_input(rehearsed):
    recording, model, _, held_out_fits = rehearsed
    path, position = model.transform(recording), recording.behavior["position"]
    with pytest.raises(InputError, match=r"share must lie inside \(0, 1\), got 1.5"):
        cross_fit(model, recording, share=1.5)
    decoder = PositionDecoder(regressor="linear")
    with pytest.raises(InputError, match="has other bins than the path"):
        decoder.fit(path[:100], position[:100], held_out_fits=held_out_fits)
    with pytest.raises(InputError, match="not with an array"):
        decoder.fit(path.mean, position, held_out_fits=held_out_fits)
    with pytest.raises(InputError, match="leaves 0 bins to learn from"):
        decoder.fit(path, position, held_out_fits=[HeldOutFit(path, path, (0.0, 1.0))])
    with pytest.raises(InputError, match=r"smoothed has .* features"):
        decoder.fit(path, position, smoothed=path[:100])
