"""Trials of a recording: tables of start and stop times, fits and latents of lists of trials, alignment to events."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from small_fits import TINY

from kalmanssl import (
    BlockedTimeSeriesSplit,
    InputError,
    KalmanSSL,
    PositionDecoder,
    Recording,
    align_to,
    check_assumptions,
    cross_fit,
)
from kalmanssl.data import Latents, Trials

START = 10 + np.array([0.0, 2.0, 4.5, 6.5, 9.0, 12.0, 14.0, 17.0])
STOP = 10 + np.array([2.0, 4.0, 6.5, 8.5, 12.0, 13.5, 16.5, 20.0])  # some begin where the one before stops
SIDE = np.array(["left", "right"] * 4)


@pytest.fixture(scope="module")
def recording() -> Recording:
    """400 bins of 50 ms from 10 s on."""
    rng = np.random.default_rng(0)
    position = np.cumsum(rng.normal(size=400)) / 5
    rate = np.exp(np.cos(position[:, None] - np.arange(5)))
    return Recording.from_arrays(
        rng.poisson(rate),
        time=10 + 0.05 * (np.arange(400) + 0.5),
        behavior=position,
        epochs={"laps": [[11, 12], [14, 17]]},
    )


@pytest.fixture(scope="module")
def trials(recording) -> Trials:
    return recording.trials({"start_time": START, "stop_time": STOP, "side": SIDE})


@pytest.fixture(scope="module")
def model(trials) -> KalmanSSL:
    return KalmanSSL(**TINY).fit(trials)


# Tables of trials.


def test_trials_have_the_bins_between_start_and_stop(recording, trials):
    assert len(trials) == 8
    for trial, start, stop in zip(trials, START, STOP, strict=True):
        np.testing.assert_array_equal(trial.time, recording.time[(recording.time >= start) & (recording.time < stop)])
        np.testing.assert_array_equal(
            trial.behavior["position"], recording.behavior["position"][np.isin(recording.time, trial.time)]
        )
    assert trials.columns["side"].tolist() == SIDE.tolist()
    left = trials[trials.columns["side"] == "left"]
    assert (len(left), left[1].time[0]) == (4, trials[2].time[0])
    assert repr(left) == "Trials(4 trials of 40 to 60 bins; columns side)"
    assert [len(one) for one in trials[-2:].behavior("position")] == [50, 60]


def pynwb_table():
    from pynwb.epoch import TimeIntervals

    table = TimeIntervals(name="trials", description="trials")
    table.add_column(name="side", description="side")
    for start, stop, side in zip(START, STOP, SIDE, strict=True):
        table.add_row(start_time=start, stop_time=stop, side=side)
    return table


def interval_set():
    nap = pytest.importorskip("pynapple")
    return nap.IntervalSet(START + 1e-6, STOP, metadata={"side": SIDE})  # pynapple shortens intervals that touch


@pytest.mark.parametrize(
    "table",
    [lambda: pd.DataFrame({"start": START, "end": STOP, "side": SIDE}), pynwb_table, interval_set],
    ids=["pandas", "pynwb", "pynapple"],
)
def test_tables_of_other_packages(recording, trials, table):
    found = recording.trials(table())
    assert [one.time.tolist() for one in found] == [one.time.tolist() for one in trials]
    assert found.columns["side"].tolist() == SIDE.tolist()


def test_arrays_and_epochs(recording, trials):
    for found in (recording.trials(np.stack([START, STOP], 1)), recording.trials(START, STOP)):
        assert [one.time.tolist() for one in found] == [one.time.tolist() for one in trials]
    assert [len(one) for one in recording.trials("laps")] == [20, 60]
    assert [len(one) for one in recording.trials((11.0, 12.0))] == [20]


def test_the_trials_table_of_an_nwb_file(recording, trials, tmp_path):
    from pynwb import NWBHDF5IO, NWBFile

    file = NWBFile("a test", "id", datetime(2020, 1, 1, tzinfo=UTC))
    file.add_trial_column("side", "side")
    for start, stop, side in zip(START, STOP, SIDE, strict=True):
        file.add_trial(start_time=start, stop_time=stop, side=side)
    with NWBHDF5IO(str(tmp_path / "session.nwb"), "w") as io:
        io.write(file)
    found = recording.trials(tmp_path / "session.nwb")
    assert [one.time.tolist() for one in found] == [one.time.tolist() for one in trials]
    assert found.columns["side"].tolist() == SIDE.tolist()
    with pytest.raises(InputError, match=r"no table of intervals 'laps'; its tables: trials"):
        recording.trials(tmp_path / "session.nwb", table="laps")


@pytest.mark.parametrize(
    ("intervals", "message"),
    [
        ([[11, 13], [20, 21], [12.5, 14]], "trials 0 and 2 overlap: 0 stops at 13 s and 2 starts at 12.5 s"),
        ([[11, 12], [40, 41]], r"trial 1 \(40 to 41 s\) is not inside the recording, which has bins from 10 to 30 s"),
        ([[9, 12]], r"trial 0 \(9 to 12 s\) is not inside"),
        ([[11.001, 11.002]], "trial 0 .* is not inside"),
        ([[11, 12], [np.nan, 14]], r"trial 1 \(nan to 14 s\) is not inside"),
        ([[12, 11]], "trial 0 stops at 11 s, which is not after its start at 12 s"),
        ([11, 12, 13], r"must be start and stop times \(trials, 2\)"),
        (np.zeros((0, 2)), "has no trials"),
        ({"start_time": [11]}, "has no column 'stop_time'; its columns: start_time"),
        ("runs", "is neither an NWB file nor an epoch of the recording, which has: laps"),
    ],
)
def test_trials_that_cannot_be_used_raise_an_error_of_one_line(recording, intervals, message):
    with pytest.raises(InputError, match=message) as caught:
        recording.trials(intervals)
    assert caught.value.parameter == "intervals"
    assert "\n" not in str(caught.value)


def test_trials_outside_the_recording_can_be_dropped(recording):
    spans = [[5, 6], [11, 12], [np.nan, 14], [29.5, 31]]
    found = recording.trials(
        {"start": [a for a, _ in spans], "stop": [b for _, b in spans], "n": range(4)}, drop_outside=True
    )
    assert found.columns["n"].tolist() == [1]
    with pytest.raises(InputError, match="none of 1 trials is inside the recording"):
        recording.trials([[40, 41]], drop_outside=True)


# Fits and latents.


def test_latents_of_a_trial_do_not_depend_on_the_other_trials(trials, model):
    latents = model.transform(trials)
    assert [len(one) for one in latents] == [len(one) for one in trials]
    for smooth in (False, True):
        for trial, found in zip(trials, model.transform(trials, smooth=smooth), strict=True):
            alone = model.transform(trial, smooth=smooth)
            np.testing.assert_allclose(found.mean, alone.mean, atol=1e-12)
            np.testing.assert_array_equal(found.time, trial.time)
            assert set(found.segment) == {0}


def test_a_fit_of_trials_is_that_of_segments_with_gaps(trials, model):
    """Windows and filters cross the borders of trials no more than gaps, also where trials follow without a gap."""
    shift = np.repeat(np.arange(8), [len(one) for one in trials])
    joined = Recording.from_arrays(
        np.concatenate([one.activity for one in trials]),
        np.concatenate([one.time for one in trials]) + 10 * shift,
        0.05,
    )
    assert len(joined.segments()) == 8
    other = KalmanSSL(**TINY).fit(joined)
    np.testing.assert_array_equal(
        np.concatenate([one.mean for one in model.transform(trials)]), other.transform(joined).mean
    )
    assert model.score(trials) == pytest.approx(other.score(joined), rel=1e-12)
    assert model.history_ == other.history_


def test_arrays_of_unequal_length_are_trials(trials):
    arrays = [one.activity for one in trials]
    model = KalmanSSL(**TINY).fit(arrays)
    latents = model.transform(arrays)
    assert [one.shape for one in latents] == [(len(one), 3) for one in arrays]
    np.testing.assert_allclose(latents[3].mean, model.transform(arrays[3]).mean, atol=1e-12)
    pynapple = pytest.importorskip("pynapple")
    frames = [pynapple.TsdFrame(t=one.time, d=one.activity) for one in trials]
    again = KalmanSSL(**{**TINY, "bins_per_step": 2}).fit(frames).transform(frames)
    np.testing.assert_allclose(again[3].mean, latents[3].mean, atol=1e-9)


def test_a_decoder_takes_the_latents_of_trials(trials, model):
    latents, position = model.transform(trials), trials.behavior("position")
    decoder = PositionDecoder(regressor="linear", random_state=0).fit(latents, position)
    decoded = decoder.predict(latents)
    assert [len(one) for one in decoded] == [len(one) for one in trials]
    joined = decoder.predict(Latents.concatenate(latents))
    np.testing.assert_array_equal(np.concatenate([one.upper for one in decoded]), joined.upper)
    assert decoder.score(latents, position) == decoder.score(Latents.concatenate(latents), np.concatenate(position))
    decoder.update(latents, position)
    with pytest.raises(InputError, match=r"position has \[40, .*give one array for each trial"):
        decoder.fit(latents, position[:-1])


def test_copies_for_the_calibration_are_fitted_on_the_first_trials(trials, model):
    (fit,) = cross_fit(model, trials, shares=(0.6,))
    assert fit.fit_interval == (trials[0].time[0], trials[4].time[-1])
    steps = round(0.6 * model.steps_per_epoch)
    expected = KalmanSSL(**TINY | {"steps_per_epoch": steps}).fit(list(trials)[:5]).transform(trials)
    np.testing.assert_array_equal(fit.latents.mean, np.concatenate([one.mean for one in expected]).astype(np.float32))
    latents, position = model.transform(trials), trials.behavior("position")
    decoder = PositionDecoder(regressor="linear", random_state=0).fit(latents, position, held_out_fits=[fit])
    assert len(decoder.predict(latents)) == 8
    with pytest.raises(InputError, match="leaves none of 8 trials to score"):
        cross_fit(model, trials, shares=(0.99,))


def test_trials_can_be_cross_validated(trials):
    pipeline = make_pipeline(KalmanSSL(**TINY), PositionDecoder(regressor="linear", random_state=0))
    scores = cross_val_score(pipeline, trials, trials.behavior("position"), cv=BlockedTimeSeriesSplit(2))
    first, second = trials[:4], trials[4:]
    expected = [
        clone(pipeline).fit(a, a.behavior("position")).score(b, b.behavior("position"))
        for a, b in ((second, first), (first, second))
    ]
    np.testing.assert_allclose(scores, expected)


def test_the_assumptions_are_checked_on_trials(trials, model):
    twice = [*trials, *trials]
    true = np.random.default_rng(0).normal(size=(sum(map(len, twice)), 2))
    report = check_assumptions(model, twice, true=true, burn_in=1, lags=3)
    assert "injective" in report.summary().lower()
    with pytest.raises(InputError, match=f"true must be finite with shape .{len(true)}, dims"):
        check_assumptions(model, twice, true=true[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda trials: [trials[0].activity, trials[1]], "mixes recordings and arrays"),
        (lambda trials: [trials[0].activity, trials[1].activity[:, :3]], "X has 3 features"),
        (
            lambda trials: [trials[0], replace(trials[1], unit_ids=tuple("abcde"))],
            "trial 1: the recording .* has other units",
        ),
    ],
)
def test_trials_that_do_not_match_raise_an_error(trials, change, message):
    with pytest.raises(ValueError, match=message):
        KalmanSSL(**TINY).fit(change(trials))


# Alignment.


def test_latents_are_aligned_to_events(recording, model):
    latents = model.transform(recording)
    aligned = latents.align_to([15.0, 12.02, 29.9], before=0.2, after=0.3)
    assert aligned["mean"].dims == ("event", "lag", "state")
    np.testing.assert_allclose(aligned["lag"], 0.05 * np.arange(-4, 6))
    np.testing.assert_array_equal(aligned["event_time"], [15.0, 12.02, 29.9])
    zero = [np.flatnonzero(np.isclose(aligned["lag"], 0))[0]]
    for row, first in enumerate([100, 40]):  # the bin that contains the event
        np.testing.assert_array_equal(aligned["mean"][row], latents.mean[first - 4 : first + 6])
        np.testing.assert_array_equal(aligned["mean"][row, zero], latents.mean[[first]])
    np.testing.assert_array_equal(aligned["mean"][2, :6], latents.mean[394:])
    assert np.isnan(aligned["mean"][2, 6:]).all()


def test_bins_in_gaps_are_nan(recording, model):
    gap = (recording.time > 14.9) & (recording.time < 15.1)
    latents = model.transform(recording[~gap])
    aligned = latents.align_to([15.0, 14.8], before=0.5, after=0.5)
    absent = np.isnan(aligned["mean"].values).all(axis=2)
    assert absent.sum(axis=1).tolist() == [4, 4]
    assert np.isfinite(aligned["mean"].values[~absent]).all()


def test_windows_do_not_reach_into_other_trials(trials, model):
    latents = model.transform(trials)
    aligned = align_to(latents, STOP - 0.02, before=0.5, after=0.5)
    assert np.isfinite(aligned["mean"].values[:, :11]).all()
    assert np.isnan(aligned["mean"].values[:, 11:]).all()


def test_decoded_behavior_and_recordings_are_aligned(recording, trials, model):
    latents = model.transform(recording)
    position = recording.behavior["position"]
    decoded = PositionDecoder(regressor="linear", random_state=0).fit(latents, position).predict(latents)
    found, given = decoded.align_to(START, 0.0, 1.0), recording.align_to(START, 0.0, 1.0)
    first = np.searchsorted(recording.time, START)
    for row, index in enumerate(first):
        for name in ("mean", "lower", "upper"):
            np.testing.assert_array_equal(found[name][row], getattr(decoded, name)[index : index + 20])
        np.testing.assert_array_equal(given["position"][row], position[index : index + 20])
    assert given["activity"].dims == ("event", "lag", "unit")
    side = np.where(position > 0, "right", "left")
    labels = PositionDecoder(random_state=0).set_params(regressor="mlp").fit(latents, side).predict(latents)
    aligned = labels.align_to(START, 0.0, 1.0)
    np.testing.assert_array_equal(aligned["probability"].sel(label="left")[2], labels.mass[first[2] : first[2] + 20, 0])


def test_the_bins_of_a_window_are_consecutive_with_every_rounding(recording, model):
    latents = model.transform(recording)
    events = 10 + 0.05 * np.arange(20, 300)  # on the borders of bins
    index = latents.align_to(events, 0.5, 0.5)["mean"].values[:, :, 0]
    position = {value: number for number, value in enumerate(latents.mean[:, 0])}
    numbers = np.vectorize(position.get)(index)
    assert (np.diff(numbers, axis=1) == 1).all()


@pytest.mark.parametrize(
    ("events", "before", "after", "message", "parameter"),
    [
        (
            [100.0],
            0.5,
            0.5,
            "no bin is near an event: events are at 100 to 100 s, bins at 10.025 to 29.975 s",
            "events",
        ),
        ([15.0, np.nan], 0.5, 0.5, "1 NaN or infinite times", "events"),
        ([], 0.5, 0.5, "at least one time", "events"),
        ([15.0], -1, 0.5, "before must be at least 0 and finite", "before"),
        ([15.0], 0.01, 0.01, "together shorter than a bin of 0.05 s", "after"),
    ],
)
def test_events_that_cannot_be_used_raise_an_error_of_one_line(recording, events, before, after, message, parameter):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        recording.align_to(events, before, after)
    assert caught.value.parameter == parameter


def test_events_of_pynapple(recording):
    pynapple = pytest.importorskip("pynapple")
    found = recording.align_to(pynapple.Ts(np.array([12.0, 15.0])), 0.5, 0.5)
    assert found.equals(recording.align_to([12.0, 15.0], 0.5, 0.5))


def test_every_trial_needs_an_event(trials):
    with pytest.raises(InputError, match="there are 2 events for 8 trials"):
        align_to(trials, [11.0, 12.0], 0.1, 0.1)
