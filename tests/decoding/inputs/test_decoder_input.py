"""The latents of the bins that a decoder decodes."""

import numpy as np

from kalmanssl.decoding.inputs import DecoderInput
from kalmanssl.decoding.readouts import TemporalContext

SEGMENT = np.repeat([0, 1], [30, 20])
UNKNOWN = np.full(50, np.nan)


def test_features_of_a_piece_are_those_of_all_bins_if_the_earlier_ones_are_known():
    mean = np.random.default_rng(0).normal(size=(50, 3))
    context = TemporalContext((0.2, 0.8), 0.1, causal=True)
    whole = DecoderInput(mean, None, SEGMENT, None, UNKNOWN).features(context.append)
    cut = 40  # inside the second segment
    piece = DecoderInput(mean[cut:], None, SEGMENT[cut:], None, UNKNOWN[cut:], earlier=mean[30:cut])
    np.testing.assert_allclose(piece.features(context.append), whole[cut:])
    alone = DecoderInput(mean[cut:], None, SEGMENT[cut:], None, UNKNOWN[cut:])
    assert np.abs(alone.features(context.append) - whole[cut:]).max() > 0.1


def test_what_is_not_known_of_the_bins_has_a_default():
    mean = np.zeros((50, 2))
    mean[3, 1] = np.nan
    untimed = DecoderInput(mean, None, SEGMENT, None, UNKNOWN)
    np.testing.assert_array_equal(untimed.bin_time, np.arange(50))
    np.testing.assert_array_equal(untimed.age, 0.0)
    np.testing.assert_array_equal(np.flatnonzero(untimed.missing), [3])
    time = 5 + 0.1 * np.arange(50)
    timed = DecoderInput(mean, None, SEGMENT, time, time - 4)
    np.testing.assert_array_equal(timed.bin_time, time)
    np.testing.assert_array_equal(timed.age, time - 4)
