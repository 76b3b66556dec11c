"""Long recordings: what is computed in pieces, or on a part of the bins, agrees with what is computed at once."""

import numpy as np
import pytest
import torch

from kalmanssl import KalmanSSL, PositionDecoder, cross_fit
from kalmanssl.datasets import place_cells
from kalmanssl.decoding import MovementSettings, score_decoding
from kalmanssl.decoding.held_out._thinning import thin_bins, thin_blocks
from kalmanssl.estimator._initialization import _pairs, _thin
from kalmanssl.estimator._inputs import InterleavedActivity
from kalmanssl.utils.moments import are_whole_numbers, column_moments, standardized

SETTINGS = {
    "latent_dim": 3, "state_dim": 4, "hidden": (8,), "epochs": 2, "steps_per_epoch": 5, "batch_size": 16, "window": 20,
    "validation_fraction": 0, "bins_per_step": 3, "progress": False, "random_state": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def recording():
    return place_cells(n_units=12, duration=60.0, random_state=0)


@pytest.mark.parametrize("n_bins", [1, 2, 3, 7, 20, 21])
@pytest.mark.parametrize("bins_per_step", [1, 2, 4, 5])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("pad_end", [False, True])
def test_every_part_of_the_input_of_the_encoder_is_that_of_the_whole(n_bins, bins_per_step, centered, pad_end):
    values = np.random.default_rng(0).poisson(1.0, (n_bins, 2)).astype(np.float32)
    ahead = (bins_per_step - 1) // 2 if centered else 0
    sums = np.stack([values[max(t + ahead - bins_per_step + 1, 0) : t + ahead + 1].sum(0) for t in range(n_bins)])
    zeros = np.zeros((-n_bins % bins_per_step, 2))
    expected = np.concatenate([sums, zeros] if pad_end else [zeros, sums]).reshape(-1, bins_per_step, 2).swapaxes(0, 1)
    activity = InterleavedActivity(values, bins_per_step, "cosine", centered, pad_end)
    found = activity.steps()
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found, expected)
    count = activity.n_steps
    assert count == expected.shape[1]
    for first in range(count):
        for last in range(first + 1, count + 1):
            np.testing.assert_array_equal(activity.steps(first, last), expected[:, first:last])


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("encoder_window", [1, 3])
def test_latents_are_the_same_if_they_are_computed_in_pieces(recording, smooth, encoder_window, monkeypatch):
    model = KalmanSSL(**SETTINGS, encoder_window=encoder_window).fit(recording)
    whole = model.transform(recording, smooth=smooth)
    monkeypatch.setattr("kalmanssl.estimator._encoding._MAX_ENTRIES", 36 * 50)
    monkeypatch.setattr("kalmanssl.estimator._segment_inference._MAX_STEPS", 100)
    pieces = model.transform(recording, smooth=smooth)
    for name in ("mean", "latent", "log_likelihood", "noise"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(pieces.cov, whole.cov, rtol=1e-6, atol=1e-12)
    means = model.posterior(recording, smooth, means_only=True)
    np.testing.assert_array_equal(means.mean, pieces.mean.astype(np.float32))
    np.testing.assert_array_equal(means.cov, pieces.cov)
    np.testing.assert_array_equal(means.segment, pieces.segment)


def test_constant_noise_is_the_variance_of_the_model_at_every_bin(recording):
    model = KalmanSSL(**SETTINGS).fit(recording)
    expected = model.model_.predictor.observation_noise().detach().double()
    noise = model.transform(recording).noise
    assert noise.shape == (len(recording), 3)
    np.testing.assert_allclose(noise, np.tile(expected, (len(recording), 1)), rtol=1e-6)


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("limit", [7, 20, 1000])
def test_pairs_of_steps_are_every_so_many_of_all_pairs(lag, limit, monkeypatch):
    monkeypatch.setattr("kalmanssl.estimator._initialization._MAX_ROWS", limit)
    rng = np.random.default_rng(1)
    sequences = [torch.from_numpy(rng.normal(size=(2, n, 3))) for n in (5, 3, 9)]
    later = torch.cat([s[:, lag:].flatten(0, 1) for s in sequences])
    earlier = torch.cat([s[:, : s.shape[1] - lag].flatten(0, 1) for s in sequences])
    stride = -(-len(later) // limit)
    found = _pairs(sequences, lag)
    np.testing.assert_array_equal(found[0], later[::stride])
    np.testing.assert_array_equal(found[1], earlier[::stride])


def test_a_model_starts_from_pieces_of_a_recording_that_is_very_long(monkeypatch):
    segments = [np.arange(1000.0)[:, None], np.arange(5000.0, 6000.0)[:, None]]
    behavior = [-segment for segment in segments]
    assert _thin(segments, None, 2) == (segments, None)
    monkeypatch.setattr("kalmanssl.estimator._initialization._MAX_BINS", 800)
    pieces, their_behavior = _thin(segments, behavior, 2)
    assert sum(map(len, pieces)) == 800
    for piece, its_behavior in zip(pieces, their_behavior, strict=True):
        assert len(piece) == 100  # 50 steps
        assert (np.diff(piece[:, 0]) == 1).all()
        np.testing.assert_array_equal(its_behavior, -piece)
    np.testing.assert_array_equal([piece[0, 0] for piece in pieces[:4]], [0, 250, 500, 750])


def test_components_of_pieces_are_close_to_those_of_the_whole_recording(monkeypatch):
    recording = place_cells(n_units=30, duration=300.0, random_state=1)
    whole = KalmanSSL(**SETTINGS | {"epochs": 1, "steps_per_epoch": 1, "learning_rate": 1e-9}).fit(recording)
    monkeypatch.setattr("kalmanssl.estimator._initialization._MAX_BINS", len(recording) // 2)
    half = KalmanSSL(**SETTINGS | {"epochs": 1, "steps_per_epoch": 1, "learning_rate": 1e-9}).fit(recording)
    found, expected = (one.transform(recording).latent for one in (half, whole))
    assert not np.array_equal(found, expected)
    explained = np.linalg.lstsq(expected - expected.mean(0), found - found.mean(0))[1].sum()
    assert explained < 0.1 * ((found - found.mean(0)) ** 2).sum()


def test_a_readout_is_fitted_on_bins_at_equal_distances():
    mask = np.zeros(100, dtype=bool)
    mask[20:80] = True
    np.testing.assert_array_equal(thin_bins(mask, 60), mask)
    kept = np.flatnonzero(thin_bins(mask, 7))
    np.testing.assert_array_equal(kept, [20, 29, 39, 49, 59, 69, 79])


def test_a_decoder_fitted_on_a_part_of_the_bins_is_nearly_as_good(recording, monkeypatch):
    train, test = recording.split(at=3645.0)
    model = KalmanSSL(**SETTINGS).fit(train)
    latents, position = model.transform(train), train.behavior["position"]
    fits, test_latents = cross_fit(model, train), model.transform(test)

    def error() -> float:
        # Without a movement prior, whose choice on so short a recording would add its own differences.
        decoder = PositionDecoder(random_state=0, movement_settings=MovementSettings(kinds=("none",)))
        decoded = decoder.fit(latents, position, held_out_fits=fits).predict(test_latents)
        return float(np.abs(decoded.mean.squeeze() - test.behavior["position"].squeeze()).mean())

    on_all = error()
    monkeypatch.setattr("kalmanssl.decoding._numeric_decoder._MAX_FIT_BINS", len(train) // 2)
    assert error() < 1.25 * on_all


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_in_pieces_are_those_of_all_rows(dtype, monkeypatch):
    monkeypatch.setattr("kalmanssl.utils.moments._PIECE", 7)
    values = np.random.default_rng(2).normal(3.0, 2.0, (50, 4)).astype(dtype)
    mean, sd = column_moments(values)
    np.testing.assert_allclose(mean, values.mean(0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(sd, values.std(0, dtype=float), rtol=1e-12)
    scaled = standardized(values, mean, sd)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, (values - mean) / sd, atol=1e-6)
    assert not are_whole_numbers(values)
    whole = np.round(values)
    assert are_whole_numbers(whole)
    whole[-1, -1] += 0.5
    assert not are_whole_numbers(whole)


def test_consecutive_bins_of_a_recording_are_not_copied(recording):
    part = recording.restrict(start=3610.0, stop=3620.0)
    assert np.shares_memory(part.activity, recording.activity)
    scattered = recording[np.arange(0, 100, 2)]
    assert not np.shares_memory(scattered.activity, recording.activity)
    np.testing.assert_array_equal(scattered.activity, recording.activity[:100:2])


def test_a_part_of_each_block_is_scored_without_gaps():
    block = np.repeat(np.arange(20), 1000)
    known = np.ones(20_000, dtype=bool)
    known[::7] = False
    bins = np.arange(20_000) >= 4000
    np.testing.assert_array_equal(thin_blocks(bins, known, block, 16_000), bins)
    kept = thin_blocks(bins, known, block, 8000)
    assert 7900 < kept.sum() < 8200
    assert not kept[:4000].any()
    for number in range(4, 20):
        inside = np.flatnonzero(kept & (block == number))
        np.testing.assert_array_equal(np.diff(inside), 1)  # with the unknown bins between
        assert inside[0] - 1000 * number < 2
        assert len(inside) == pytest.approx(500, abs=3)


def test_of_very_many_blocks_evenly_spaced_ones_are_scored():
    block = np.repeat(np.arange(2000), 10)
    kept = thin_blocks(np.ones(20_000, dtype=bool), np.ones(20_000, dtype=bool), block, 5000)
    numbers, sizes = np.unique(block[kept], return_counts=True)
    assert (sizes == 10).all()
    assert len(numbers) == 500
    assert set(np.diff(numbers)) <= {3, 4, 5}
    long = np.repeat(np.arange(200), 4000)
    kept = thin_blocks(np.ones(800_000, dtype=bool), np.ones(800_000, dtype=bool), long, 40_000)
    numbers, sizes = np.unique(long[kept], return_counts=True)
    assert len(numbers) == 100
    assert set(sizes) == {400}


def test_choices_and_calibration_on_a_part_of_the_bins_are_similar(monkeypatch):
    recording = place_cells(n_units=30, duration=900.0, random_state=0)
    rates = np.sqrt(recording.activity.astype(np.float32))
    latents = np.stack([np.convolve(column, np.ones(10), "full")[: len(rates)] for column in rates.T], axis=1)
    position, time = recording.behavior["position"], recording.time
    train = time < time[0] + 700
    scores = []
    for most in (200_000, 8000):
        monkeypatch.setattr("kalmanssl.decoding.held_out._folds._MAX_DECODED", most)
        decoder = PositionDecoder(random_state=0).fit(latents[train], position[train], time=time[train])
        decoded = decoder.predict(latents[~train], time=time[~train])
        scores.append(score_decoding(decoded, position[~train]))
    every, few = scores
    assert few["crps"] != every["crps"]
    # The pieces of this short recording are short, and choices on them are worse than on all bins: with three seeds of
    # the simulation the CRPS is 1.02 to 2.0 times as large.
    assert few["crps"] == pytest.approx(every["crps"], rel=0.2)
    assert few["coverage"]["95"] == pytest.approx(every["coverage"]["95"], abs=0.03)
