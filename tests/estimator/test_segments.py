"""Bins, filter steps and segments: what the encoder receives, and fits of recordings in pieces."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.base import clone
from small_fits import TINY

from kalmanssl import KalmanSSL, Recording
from kalmanssl.training import hold_out_blocks

TRIALS = (40,) * 12


GAPS = (300, 1, 25, 90, 1, 2, 1, 60, 7, 1)


def in_pieces(recording: Recording, *lengths: int) -> Recording:
    """Return the first bins of a recording as segments of these lengths, with gaps of one second between them."""
    n_bins = sum(lengths)
    time = 0.025 * np.arange(n_bins) + np.repeat(np.arange(len(lengths)), lengths)
    return Recording.from_arrays(recording.activity[:n_bins], time=time, unit_ids=recording.unit_ids)


def test_latents_have_one_row_per_bin(recording, fitted):
    latents = fitted.transform(recording)
    assert latents.mean.shape == (600, 3)
    assert latents.cov.shape == (600, 3, 3)
    assert latents.latent.shape == latents.noise.shape == (600, 2)
    np.testing.assert_array_equal(latents.time, recording.time)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(latents.segment)), [399])
    assert np.linalg.eigvalsh(latents.cov).min() > 0
    assert (latents.noise > 0).all()
    np.testing.assert_array_equal(np.asarray(latents[:5]), latents.mean[:5])


def test_filtered_latents_do_not_depend_on_later_bins_and_smoothed_ones_do(recording, fitted):
    changed = recording.activity.copy()
    changed[200] += 5
    other = replace(recording, activity=changed)
    filtered, filtered_other = fitted.transform(recording), fitted.transform(other)
    np.testing.assert_array_equal(filtered.mean[:200], filtered_other.mean[:200])
    assert np.abs(filtered.mean[200:204] - filtered_other.mean[200:204]).max() > 1e-3
    smoothed, smoothed_other = fitted.transform(recording, smooth=True), fitted.transform(other, smooth=True)
    assert np.abs(smoothed.mean[190:200] - smoothed_other.mean[190:200]).max() > 1e-3
    np.testing.assert_array_equal(smoothed.mean[400:], smoothed_other.mean[400:])


def test_every_segment_is_filtered_by_itself(recording, fitted):
    whole = fitted.transform(recording)
    second = fitted.transform(recording.restrict(start=recording.time[400] - 0.01))
    np.testing.assert_allclose(whole.mean[400:], second.mean, atol=1e-12)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("bins_per_step", [1, 4])
def test_segments_that_are_inferred_together_have_the_latents_of_each_alone(recording, smooth, bins_per_step):
    lengths = (50, 90, 49, 50, 1, 52, 90)  # in steps of four bins, some of different lengths have as many
    pieces = in_pieces(recording, *lengths)
    model = KalmanSSL(**{**TINY, "bins_per_step": bins_per_step}).fit(recording)
    together = model.transform(pieces, smooth=smooth)
    borders = np.cumsum([0, *lengths])
    for number, (start, stop) in enumerate(pairwise(borders)):
        alone, own = model.transform(pieces[start:stop], smooth=smooth), slice(start, stop)
        for name in ("mean", "cov", "latent", "noise", "log_likelihood"):
            np.testing.assert_allclose(getattr(together, name)[own], getattr(alone, name), rtol=1e-9, atol=1e-12)
        assert (together.segment[own] == number).all()
    n_steps = {-(-length // bins_per_step) for length in lengths}
    assert len(together.covariances.table) <= sum(n_steps)


def test_the_encoder_receives_the_sum_of_the_bins_of_a_step(recording):
    model = KalmanSSL(**{**TINY, "bins_per_step": 3, "window": 9}).fit(recording)
    latents = model.transform(recording)
    encoder = model.model_.double().eval().encoder
    counts = recording.activity[:400]
    for t in (50, 51, 52):
        summed = torch.from_numpy(counts[t - 2 : t + 1].sum(0)).double()[None, None]
        np.testing.assert_allclose(latents.latent[t], encoder(summed)[0, 0].detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(("lengths", "window"), [(TRIALS, 40), (GAPS, 60)])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_recording_in_pieces_can_be_fitted_with_the_default_window(recording, lengths, window, smooth):
    pieces = in_pieces(recording, *lengths)
    model = KalmanSSL(**{**TINY, "window": 100, "bins_per_step": 4, "validation_fraction": 0.1}).fit(pieces)
    assert model.window_ == window
    assert np.isfinite(model.history_["held_out_score"]).all()
    latents = model.transform(pieces, smooth=smooth)
    assert len(latents) == sum(lengths)
    assert np.isfinite(latents.mean).all()
    assert np.isfinite(model.score(pieces))
    again = clone(model).fit(pieces).transform(pieces, smooth=smooth)
    np.testing.assert_array_equal(again.mean, latents.mean)


def test_the_held_out_part_of_a_recording_in_pieces_does_not_change_the_weights(recording):
    """Held-out trials have other counts: the model of the last epoch is the same if that epoch is the best or only."""
    pieces = in_pieces(recording, *TRIALS)
    settings = {**TINY, "epochs": 1, "window": 40, "validation_fraction": 0.1}
    _, held_out = hold_out_blocks([np.arange(a, a + 40)[:, None] for a in range(0, 480, 40)], 0.1, 40)
    changed = pieces.activity.copy()
    changed[np.concatenate(held_out)[:, 0]] += 1
    other = replace(pieces, activity=changed)
    models = [KalmanSSL(**settings).fit(data).model_ for data in (pieces, other)]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("bin_size", "rate", "kind", "steps"),
    [
        (0.025, 50.0, "counts", 4),  # 300 spikes per 100 ms
        (0.025, 5.0, "counts", 4),  # 3 spikes per 100 ms in all units, but 0.5 in each
        (0.025, 1.0, "counts", 8),  # 0.6 spikes per 100 ms
        (0.05, 1.0, "events", 4),  # six cells with real-valued events at 1 Hz
        (0.1, 1.0, "signal", 1),
        (0.5, 1.0, "counts", 1),
    ],
)
def test_steps_last_100_ms_and_twice_as_long_if_events_are_sparse(bin_size, rate, kind, steps, tmp_path):
    rng = np.random.default_rng(0)
    units = 6 if rate < 10 else 60
    activity = rng.poisson(rate * bin_size, (200, units)).astype(float)
    if kind == "events":
        activity *= rng.uniform(1, 30, activity.shape)
    kind = "signal" if kind == "signal" else "counts"
    recording = Recording.from_arrays(activity, bin_size=bin_size, kind=kind)
    settings = {**TINY, "bins_per_step": "auto", "window": 20, "epochs": 1, "steps_per_epoch": 1}
    model = KalmanSSL(**settings).fit(recording)
    assert model.bins_per_step_ == steps
    assert len(model.transform(recording)) == 200
    model.save(tmp_path / "run")
    assert KalmanSSL.load(tmp_path / "run").bins_per_step_ == steps


def test_an_array_without_a_bin_size_has_steps_of_four_bins():
    values = np.random.default_rng(0).standard_normal((100, 4))
    assert KalmanSSL(**{**TINY, "bins_per_step": "auto", "epochs": 1}).fit(values).bins_per_step_ == 4


def test_the_window_is_saved(recording, tmp_path):
    model = KalmanSSL(**{**TINY, "window": 100}).fit(in_pieces(recording, *TRIALS))
    model.save(tmp_path / "run")
    assert KalmanSSL.load(tmp_path / "run").window_ == model.window_ == 40
