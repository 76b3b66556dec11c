"""Windows drawn for training and the blocks of time held out."""

from itertools import pairwise

import numpy as np
import pytest

from kalmanssl.errors import InputError
from kalmanssl.training import (
    RandomWindows,
    WindowBatches,
    WindowSettings,
    choose_window,
    hold_out_blocks,
    interleave,
    join_steps,
    sum_bins,
)


def numbered(*lengths: int) -> list[np.ndarray]:
    """Segments whose single feature counts the bins from the first to the last."""
    edges = np.cumsum((0, *lengths))
    return [np.arange(a, b, dtype=float)[:, None] for a, b in pairwise(edges)]


@pytest.mark.parametrize("lengths", [(1000,), (400, 600), (300, 300, 400)])
def test_held_out_blocks_are_disjoint_from_training_and_together_cover_the_time(lengths):
    training, held_out = hold_out_blocks(numbered(*lengths), fraction=0.2, window=10)
    seen = np.concatenate([s[:, 0] for s in training])
    unseen = np.concatenate([s[:, 0] for s in held_out])
    assert not set(seen) & set(unseen)
    assert len(seen) + len(unseen) == sum(lengths)
    assert len(unseen) == pytest.approx(200, abs=80)
    for segment in (*training, *held_out):
        assert (np.diff(segment[:, 0]) == 1).all()


def test_held_out_blocks_are_evenly_distributed_over_the_time():
    _, held_out = hold_out_blocks(numbered(1000), fraction=0.1, window=10)
    centers = [s.mean() / 1000 for s in held_out]
    np.testing.assert_allclose(centers, [0.1, 0.3, 0.5, 0.7, 0.9], atol=0.01)


def test_nothing_held_out_with_fraction_zero():
    training, held_out = hold_out_blocks(numbered(100, 5, 50), fraction=0, window=10)
    assert [len(s) for s in training] == [100, 50]
    assert held_out == []


@pytest.mark.parametrize(
    ("fraction", "window", "message"),
    [(1.0, 10, "below 1; got 1.0"), (0.1, 101, "longest segment .* 100 bins"), (0.1, 60, "too few to hold out")],
)
def test_bad_hold_out(fraction, window, message):
    with pytest.raises(InputError, match=message):
        hold_out_blocks(numbered(100), fraction=fraction, window=window)


TRIALS = tuple(np.random.default_rng(0).integers(40, 90, 60).tolist())
PIECES = (1, 700, 3, 1, 150, 90, 2, 5, 60, 61, 400, 1, 1, 120)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.4])
@pytest.mark.parametrize(("lengths", "window"), [(TRIALS, 40), (PIECES, 60), ((1000, *TRIALS, 1000), 40)])
def test_about_the_wanted_fraction_of_a_recording_in_pieces_is_held_out(lengths, window, fraction):
    training, held_out = hold_out_blocks(numbered(*lengths), fraction, window)
    usable = sum(n for n in lengths if n >= window)
    n_held_out = sum(len(s) for s in held_out)
    assert n_held_out == pytest.approx(fraction * usable, rel=0.5)
    assert n_held_out + sum(len(s) for s in training) == pytest.approx(usable, rel=0.1)
    seen, unseen = (set(np.concatenate(part)[:, 0]) for part in (training, held_out))
    assert not seen & unseen
    for segment in (*training, *held_out):
        assert len(segment) >= window
        assert (np.diff(segment[:, 0]) == 1).all()


def test_short_segments_are_held_out_as_a_whole():
    segments = numbered(*TRIALS)
    training, held_out = hold_out_blocks(segments, 0.2, 40)
    whole = {(s[0, 0], s[-1, 0]) for s in segments}
    assert {(s[0, 0], s[-1, 0]) for s in (*training, *held_out)} == whole
    first_of_block = np.diff([s[0, 0] for s in held_out]) > 90
    assert first_of_block.sum() == 4  # five blocks of consecutive segments
    centers = np.concatenate(held_out)[:, 0] / sum(TRIALS)
    assert np.histogram(centers, bins=5, range=(0, 1))[0].min() > 0


def test_few_bins_have_fewer_blocks():
    training, held_out = hold_out_blocks(numbered(600), fraction=0.1, window=100)
    assert [len(s) for s in held_out] == [100]
    assert [len(s) for s in training] == [250, 250]


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize(
    "lengths", [(40,), (20, 21), (9, 9, 9, 9), (30, 11), (8, 8, 8, 8, 1, 1), (100, 9, 9), (16, 16)]
)
def test_the_chosen_window_always_allows_to_hold_out_a_part(lengths, fraction):
    window = choose_window(lengths, 100, bins_per_step=4, hold_out=True)
    training, held_out = hold_out_blocks(numbered(*lengths), fraction, window)
    assert sum(len(s) for s in training) >= window
    assert sum(len(s) for s in held_out) >= window


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((1000,), 100),
        ((300,), 72),  # four windows
        ((1000, 99, 1), 100),  # 91 % of the bins
        ((500, 99, 99), 96),
        ((96,) * 10, 96),
        ((65,) * 30, 64),
        ((200, *[1] * 1000), 48),  # single bins can never be used and do not count
        ((10,) * 100, 8),
    ],
)
def test_the_window_is_the_longest_that_uses_most_of_the_bins(lengths, expected):
    assert choose_window(lengths, 100, bins_per_step=4, hold_out=True) == expected


def test_the_window_is_a_multiple_of_the_step():
    assert choose_window((1000,), 10, bins_per_step=4, hold_out=False) == 8
    assert choose_window((25, 25), 100, bins_per_step=3, hold_out=False) == 24


@pytest.mark.parametrize(
    ("lengths", "hold_out", "message"),
    [
        ((1,) * 1000, True, r"0 of 1000 are in segments of at least 8 bins \(2 steps\), and at least 4 windows"),
        ((31,), True, "4 windows of this length are needed with a held-out part: .* or validation_fraction=0"),
        ((15,), False, "2 windows of this length are needed: use a longer recording or fewer bins_per_step$"),
        ((), False, "too few bins to fit on: 0 of 0 are"),
    ],
)
def test_too_few_bins_for_any_window(lengths, hold_out, message):
    with pytest.raises(InputError, match=message):
        choose_window(lengths, 100, bins_per_step=4, hold_out=hold_out)


def test_a_window_of_less_than_two_steps_raises_an_error():
    with pytest.raises(InputError, match="window must hold at least 2 steps of 4 bins") as caught:
        choose_window((1000,), 7, bins_per_step=4, hold_out=False)
    assert caught.value.parameter == "window"


def test_segments_are_drawn_in_proportion_to_their_bins():
    """A segment of one window has a single start time, and is still drawn for a tenth of the windows."""
    windows = RandomWindows(numbered(10, 90), window=10, step=1, batch_size=4000, activity_sampling_power=0, seed=0)
    share = (next(windows.batches(1))[:, 0, 0] == 0).double().mean().item()
    assert share == pytest.approx(0.1, abs=0.02)  # four standard errors


def test_random_windows_never_cross_a_gap_and_reach_every_start_time():
    segments = numbered(30, 12)
    windows = RandomWindows(segments, window=10, step=1, batch_size=64, activity_sampling_power=0, seed=0)
    batches = [b.numpy()[..., 0] for b in windows.batches(8)]
    assert len(batches) == 8
    starts = np.concatenate([b[:, 0] for b in batches])
    for batch in batches:
        assert batch.shape == (64, 10)
        assert (np.diff(batch, axis=1) == 1).all()
    assert set(starts) == {*range(21), 30, 31, 32}


@pytest.mark.parametrize("bias", [0.0, 1.0, 2.0])
def test_active_windows_are_drawn_more_often(bias):
    quiet, busy = np.ones((100, 1)), 3 * np.ones((100, 1))
    windows = RandomWindows([quiet, busy], 10, 1, 2000, activity_sampling_power=bias, seed=0)
    share = (next(windows.batches(1))[:, 0, 0] == 3).double().mean().item()
    assert share == pytest.approx(3**bias / (1 + 3**bias), abs=0.04)  # four standard errors of a share of 2000


def test_columns_that_are_not_activity_do_not_change_which_windows_are_drawn():
    rng = np.random.default_rng(0)
    activity = rng.poisson(1.0, (300, 3)).astype(float)
    other = np.stack([1e3 * rng.standard_normal(300), np.full(300, np.nan)], axis=1)
    alone = RandomWindows([activity], 10, 1, 64, activity_sampling_power=2.0, seed=0)
    both = RandomWindows([np.concatenate([activity, other], axis=1)], 10, 1, 64, 2.0, seed=0, n_active=3)
    for a, b in zip(alone.batches(3), both.batches(3), strict=True):
        np.testing.assert_array_equal(a, b[..., :3])
        assert b.shape[-1] == 5


def test_windows_of_a_silent_recording_are_drawn_evenly():
    windows = RandomWindows([np.zeros((50, 2))], 10, 1, 8, activity_sampling_power=2.0, seed=0)
    assert next(windows.batches(1)).shape == (8, 10, 2)


def test_random_windows_follow_seed_and_epoch():
    def draw(seed, epoch):
        windows = RandomWindows(numbered(500), 10, 1, 16, activity_sampling_power=0, seed=seed)
        return next(windows.batches(1, epoch)).numpy()

    np.testing.assert_array_equal(draw(1, 3), draw(1, 3))
    assert (draw(1, 3) != draw(1, 4)).any()
    assert (draw(1, 3) != draw(2, 3)).any()


@pytest.mark.parametrize("step", [2, 3])
def test_windows_with_steps_of_several_bins(step):
    windows = RandomWindows(numbered(25), 10, step, 64, activity_sampling_power=0, seed=0)
    random = next(windows.batches(1)).numpy()[..., 0]
    assert random.shape == (64, 10 // step)
    assert (np.diff(random, axis=1) == step).all()
    assert random.max() <= 24


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_small_held_out_part_is_used_once(step):
    settings = WindowSettings(
        window=12, bins_per_step=step, batch_size=50, steps_per_epoch=1, activity_sampling_power=2.0
    )
    training, held_out = numbered(300), [np.arange(1000.0, 1012)[:, None], np.arange(2000.0, 2030)[:, None]]
    part = WindowBatches(training, held_out, settings, seed=0).held_out
    (batch,), (blocks,) = part.batches, part.blocks
    assert batch.shape[1:] == (12 // step, 1)
    assert (batch.diff(dim=1) == step).all()
    bins = batch.flatten().tolist()
    assert len(bins) == len(set(bins)) == 36
    assert set(range(1000, 1012)) < set(bins)
    np.testing.assert_array_equal(blocks, batch[:, 0, 0] >= 2000)


def test_a_large_held_out_part_is_sampled_like_the_training_part():
    settings = WindowSettings(window=10, bins_per_step=1, batch_size=16, steps_per_epoch=1, activity_sampling_power=0.0)
    data = WindowBatches(numbered(300), [np.arange(100.0)[:, None], np.arange(1000.0, 1100)[:, None]], settings, seed=0)
    (batch,), (blocks,) = data.held_out.batches, data.held_out.blocks
    assert batch.shape == (16, 10, 1)
    np.testing.assert_array_equal(blocks, batch[:, 0, 0] >= 1000)
    assert 0 < blocks.sum() < 16


@pytest.mark.parametrize("n", [1, 3, 4])
@pytest.mark.parametrize("time", [4, 11, 12])
def test_join_steps_is_the_inverse_of_interleave(n, time):
    values = np.arange(1.0, time + 1)[:, None]
    sequences = interleave(values, n)
    assert sequences.shape == (n, -(-time // n), 1)
    inside = sequences[:, 1:, 0]
    assert (np.diff(inside, axis=1) == n).all()
    np.testing.assert_array_equal(sequences[-1, -1], [time])
    np.testing.assert_array_equal(join_steps(sequences.swapaxes(0, 1), time), values)


@pytest.mark.parametrize("n", [1, 3, 4])
@pytest.mark.parametrize("time", [4, 11, 12])
def test_sequences_padded_at_the_end_start_with_the_first_bins(n, time):
    values = np.arange(1.0, time + 1)[:, None]
    sequences = interleave(values, n, pad_end=True)
    assert sequences.shape == (n, -(-time // n), 1)
    np.testing.assert_array_equal(sequences[:, 0, 0], values[:n, 0])
    np.testing.assert_array_equal(join_steps(sequences.swapaxes(0, 1), time, pad_end=True), values)


@pytest.mark.parametrize(("n", "ahead"), [(1, 0), (2, 0), (5, 0), (5, 2), (4, 1)])
def test_sum_of_bins(n, ahead):
    values = np.random.default_rng(0).poisson(1.0, (20, 3)).astype(np.float32)
    expected = np.stack([values[max(t + ahead - n + 1, 0) : t + ahead + 1].sum(0) for t in range(20)])
    np.testing.assert_allclose(sum_bins(values, n, ahead), expected)
