"""Averages of the latents over time."""

import numpy as np
import pytest
from scipy.stats import norm

from kalmanssl.decoding.readouts._context import TemporalContext, with_context

SEGMENT = np.repeat([0, 1, 2, 5], [30, 1, 12, 17])
SCALES = (0.2, 0.8)
BIN = 0.1


def causal_loop(mean, segment):
    """Exponential averages, one bin at a time."""
    result = np.empty((len(mean), mean.shape[1] * 3))
    for time, now in enumerate(mean):
        first = time == 0 or segment[time] != segment[time - 1]
        averages = []
        for scale in SCALES:
            keep = np.exp(-BIN / scale)
            before = now if first else result[time - 1, mean.shape[1] * (1 + len(averages)) :][: mean.shape[1]]
            averages.append(keep * before + (1 - keep) * now)
        result[time] = np.concatenate([now, *averages])
    return result


def test_causal_averages_match_a_loop_over_bins(monkeypatch):
    mean = np.random.default_rng(0).normal(size=(60, 3))
    expected = causal_loop(mean, SEGMENT)
    np.testing.assert_allclose(with_context(mean, SEGMENT, BIN, SCALES, causal=True), expected)
    where = np.arange(len(mean)) % 3 == 1
    np.testing.assert_allclose(with_context(mean, SEGMENT, BIN, SCALES, True, where), expected[where])
    np.testing.assert_array_equal(with_context(mean, SEGMENT, BIN, (), True, where), mean[where])
    monkeypatch.setattr("kalmanssl.decoding.readouts._context._COLUMNS", 2)
    np.testing.assert_allclose(with_context(mean, SEGMENT, BIN, SCALES, causal=True), expected)


def test_centered_averages_match_gaussian_weights():
    mean = np.random.default_rng(1).normal(size=(60, 2))
    found = with_context(mean, SEGMENT, BIN, (0.2,), causal=False)[:, 2:]
    for number in np.unique(SEGMENT):
        rows = np.flatnonzero(number == SEGMENT)
        padded = np.pad(mean[rows], ((20, 20), (0, 0)), mode="edge")
        offset = np.arange(-20, 21)
        weight = norm.pdf(offset, scale=2)
        expected = [weight @ padded[row + 20 + offset] / weight.sum() for row in range(len(rows))]
        np.testing.assert_allclose(found[rows], expected, atol=1e-3)


def test_causal_averages_do_not_depend_on_later_bins_and_no_average_on_other_segments():
    mean = np.random.default_rng(2).normal(size=(60, 3))
    later, other = mean.copy(), mean.copy()
    later[20:] += 5.0
    other[SEGMENT != 2] += 5.0
    for causal in (True, False):
        plain = with_context(mean, SEGMENT, BIN, SCALES, causal)
        changed = with_context(later, SEGMENT, BIN, SCALES, causal)
        assert np.array_equal(changed[:20], plain[:20]) == causal
        elsewhere = with_context(other, SEGMENT, BIN, SCALES, causal)
        np.testing.assert_array_equal(elsewhere[SEGMENT == 2], plain[SEGMENT == 2])


def test_without_time_scales_the_latents_are_unchanged():
    mean = np.random.default_rng(3).normal(size=(60, 3))
    np.testing.assert_array_equal(with_context(mean, SEGMENT, BIN, (), causal=True), mean)
    assert with_context(mean[:0], SEGMENT[:0], BIN, SCALES, causal=True).shape == (0, 9)


def test_missing_bins_have_no_weight_in_the_averages():
    rng = np.random.default_rng(4)
    mean = rng.normal(size=(60, 2)) + 3.0
    missing = rng.random(60) < 0.3
    missing[[0, 30, 31]] = True
    holes = np.where(missing[:, None], np.nan, mean)
    for causal in (True, False):
        found = with_context(holes, SEGMENT, BIN, SCALES, causal)
        present = found[~missing]
        assert np.isfinite(present).all()
        values = with_context(np.where(missing[:, None], 0.0, mean), SEGMENT, BIN, SCALES, causal)[:, 2:]
        weights = with_context(np.where(missing, 0.0, 1.0)[:, None], SEGMENT, BIN, SCALES, causal)[:, 1:]
        expected = values / np.repeat(np.maximum(weights, 1e-300), 2, axis=1)
        np.testing.assert_allclose(present[:, 2:], expected[~missing])
        np.testing.assert_array_equal(present[:, :2], mean[~missing])


@pytest.mark.parametrize("bins", [1, 7, 29])
def test_averages_in_pieces_are_those_of_whole_segments(bins, monkeypatch):
    mean = np.random.default_rng(5).normal(size=(60, 3))
    mean[[3, 20, 21, 59]] = np.nan
    where = np.arange(len(mean)) % 2 == 0
    whole = [with_context(mean, SEGMENT, BIN, SCALES, causal, where) for causal in (True, False)]
    monkeypatch.setattr("kalmanssl.decoding.readouts._context._BINS", bins)
    past, around = (with_context(mean, SEGMENT, BIN, SCALES, causal, where) for causal in (True, False))
    np.testing.assert_array_equal(past, whole[0])
    np.testing.assert_allclose(around, whole[1], rtol=0, atol=1e-12)  # rounding of Fourier transforms


@pytest.mark.parametrize("causal", [True, False])
def test_a_saved_context_appends_the_same_averages(causal):
    mean = np.random.default_rng(3).normal(size=(60, 2))
    context = TemporalContext.of_bins(7 + BIN * np.arange(60), SCALES, causal)
    assert context.n_bins == pytest.approx(8)
    again = TemporalContext.from_state(context.to_state(), causal)
    np.testing.assert_array_equal(again.append(mean, SEGMENT), context.append(mean, SEGMENT))
    expected = with_context(mean, SEGMENT, context.bin_size, SCALES, causal)
    np.testing.assert_array_equal(context.append(mean, SEGMENT), expected)


def test_bins_without_times_have_no_averages():
    mean = np.random.default_rng(4).normal(size=(60, 2))
    context = TemporalContext.of_bins(None, SCALES, causal=True)
    assert not context.is_used
    assert context.n_bins == 0
    np.testing.assert_array_equal(context.append(mean, SEGMENT), mean)
