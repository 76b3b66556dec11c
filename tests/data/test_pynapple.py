"""Recordings and behavior from objects of pynapple."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from small_fits import TINY

from kalmanssl import InputError, KalmanSSL, PositionDecoder, Recording
from kalmanssl.decoding import score_decoding

nap = pytest.importorskip("pynapple")

SUPPORT = nap.IntervalSet([10.0, 25.0], [20.0, 33.0])


@pytest.fixture(scope="module")
def spikes():
    """Five units with place fields on a circular track of 4 s, in two intervals."""
    rng = np.random.default_rng(0)
    time = np.arange(10.001, 33.0, 0.002)  # not on the border of a bin
    rate = 40 * np.exp(3 * (np.cos(2 * np.pi * (time[:, None] / 4 - np.arange(5) / 5)) - 1))
    fired = rng.random(rate.shape) < 0.002 * rate
    return nap.TsGroup({2 * unit: nap.Ts(time[column]) for unit, column in enumerate(fired.T)}, time_support=SUPPORT)


@pytest.fixture(scope="module")
def position():
    """Position at 30 samples per second, in the same intervals."""
    time = np.arange(10.0, 33.0, 1 / 30)
    return nap.Tsd(t=time, d=np.sin(2 * np.pi * time / 4), time_support=SUPPORT)


@pytest.fixture(scope="module")
def recording(spikes, position) -> Recording:
    return Recording.from_pynapple(spikes, bin_size=0.05, behavior=position)


def test_spike_times_are_counted_as_pynapple_counts_them(spikes, recording):
    counted = spikes.count(0.05)
    np.testing.assert_array_equal(recording.activity, counted.values)
    np.testing.assert_allclose(recording.time, counted.t, atol=1e-9)
    assert recording.unit_ids == ("0", "2", "4", "6", "8")
    assert [len(range(*s.indices(len(recording)))) for s in recording.segments()] == [200, 160]
    assert [len(times) for times in recording.spike_times] == [len(unit) for unit in spikes.values()]


def test_a_time_series_is_taken_as_bins(spikes, recording):
    from_counts = Recording.from_pynapple(spikes.count(0.05))
    np.testing.assert_array_equal(from_counts.activity, recording.activity)
    assert (from_counts.kind, from_counts.unit_ids) == ("counts", recording.unit_ids)
    assert from_counts.bin_size == pytest.approx(0.05)
    assert len(from_counts.segments()) == 2
    smooth = Recording.from_pynapple(spikes.count(0.05).smooth(0.1, windowsize=0.5))
    assert smooth.kind == "signal"
    trace = Recording.from_pynapple(nap.Tsd(t=np.arange(5.0), d=np.arange(5.0) - 1))
    assert trace.activity.shape == (5, 1)


def test_the_time_support_can_be_restricted(spikes):
    whole = Recording.from_pynapple(spikes, 0.05)
    part = nap.IntervalSet(12.0, 15.0)
    restricted = Recording.from_pynapple(spikes, 0.05, time_support=part)
    inside = (whole.time > 12) & (whole.time < 15)
    np.testing.assert_array_equal(restricted.activity, whole.activity[inside])
    from_counts = Recording.from_pynapple(spikes.count(0.05), time_support=part)
    np.testing.assert_array_equal(from_counts.activity, restricted.activity)


def test_a_recording_can_be_restricted_to_intervals(recording):
    part = recording.restrict(epoch=nap.IntervalSet([11.0, 26.0], [12.0, 28.0]))
    np.testing.assert_array_equal(part.activity, recording.restrict(epoch=[[11.0, 12.0], [26.0, 28.0]]).activity)
    alone = recording.restrict(nap.IntervalSet([11.0, 26.0], [12.0, 28.0]))
    np.testing.assert_array_equal(alone.activity, part.activity)
    assert (len(part), len(part.segments())) == (60, 2)
    with pytest.raises(InputError, match="there is no bin in epoch; the recording covers 10 to 33 s"):
        recording.restrict(epoch=nap.IntervalSet(50.0, 60.0))
    with pytest.raises(InputError, match=r"epoch must be \(start, stop\), .* an IntervalSet, .*; got 2 to 1"):
        recording.restrict(epoch=[[2.0, 1.0]])


def test_behavior_is_interpolated_inside_its_time_support(recording):
    known = np.isfinite(recording.behavior["position"])
    assert known.mean() > 0.99
    expected = np.sin(2 * np.pi * recording.time / 4)
    np.testing.assert_allclose(recording.behavior["position"][known], expected[known], atol=2e-3)


def test_behavior_outside_its_time_support_is_unknown(spikes, position):
    part = position.restrict(nap.IntervalSet([11.0, 26.0], [12.0, 28.0]))
    recording = Recording.from_pynapple(spikes, 0.05, part)
    known = np.isfinite(recording.behavior["position"])
    inside = ((recording.time > 11) & (recording.time < 12)) | ((recording.time > 26) & (recording.time < 28))
    assert not known[~inside].any()
    assert known[inside].mean() > 0.95


def test_several_behaviors_labels_and_epochs(spikes, position):
    both = nap.TsdFrame(t=position.t, d=np.stack([position.d, -position.d], 1), time_support=SUPPORT)
    angle = nap.Tsd(t=position.t, d=(position.t % 4) * 90.0, time_support=SUPPORT)
    arms = nap.IntervalSet([10.0, 14.0], [12.0, 16.0], metadata={"arm": ["left", "right"]})
    rest = nap.IntervalSet([11.0], [13.0])
    recording = Recording.from_pynapple(
        spikes,
        0.05,
        {"position": both, "angle": angle, "arm": arms, "rest": rest},
        behavior_unit={"angle": "deg"},
        epochs={"first": nap.IntervalSet(10.0, 20.0)},
    )
    assert recording.behavior["position"].shape == (len(recording), 2)
    turn = np.abs(recording.behavior["angle"] - (recording.time % 4) * 90)
    assert np.nanmax(np.minimum(turn, 360 - turn)) < 0.5 * 90 / 30 + 1e-6  # no values between 360 and 0
    arm = recording.behavior["arm"]
    assert arm[recording.time < 12].tolist() == ["left"] * 40
    assert set(arm[(recording.time > 16)].tolist()) == {None}
    assert recording.behavior["rest"].sum() == 40
    np.testing.assert_array_equal(recording.epochs["first"], [[10.0, 20.0]])


def test_arrays_with_behavior_from_pynapple(recording, position):
    other = Recording.from_arrays(recording.activity, recording.time, 0.05, behavior={"position": position})
    np.testing.assert_array_equal(other.behavior["position"], recording.behavior["position"])


def test_models_and_decoders_accept_pynapple(spikes, position, recording):
    model = KalmanSSL(**TINY).fit(recording)
    latents = model.transform(recording)
    np.testing.assert_array_equal(model.transform(spikes).mean, latents.mean)
    np.testing.assert_array_equal(model.transform(spikes.count(0.05)).mean, latents.mean)
    assert model.score(spikes) == model.score(recording)
    again = KalmanSSL(**TINY).fit(spikes.count(0.05))
    np.testing.assert_array_equal(again.transform(recording).mean, latents.mean)
    assert KalmanSSL(**{**TINY, "epochs": 1}).fit(spikes).bin_size_ == 0.025

    settings = {"regressor": "linear", "random_state": 0}
    decoder = PositionDecoder(**settings).fit(latents, position)
    expected = PositionDecoder(**settings).fit(latents, recording.behavior["position"])
    decoded = decoder.predict(latents)
    np.testing.assert_array_equal(decoded.upper, expected.predict(latents).upper)
    assert score_decoding(decoded, position) == score_decoding(decoded, recording.behavior["position"])
    assert decoder.score(latents, position) == expected.score(latents, recording.behavior["position"])
    updated = decoder.update(latents, position).predict(latents)
    np.testing.assert_array_equal(
        updated.upper, expected.update(latents, recording.behavior["position"]).predict(latents).upper
    )


def test_a_decoder_of_a_time_series_knows_the_times_of_its_bins(recording):
    latents = KalmanSSL(**TINY).fit(recording).transform(recording)
    known = recording.behavior["position"]
    settings = {"regressor": "linear", "random_state": 0}
    expected = (
        PositionDecoder(**settings).fit(latents.mean, known, time=latents.time).predict(latents.mean, latents.time)
    )
    for form in (latents.to_pynapple(), latents.to_dataframe()):
        decoded = PositionDecoder(**settings).fit(form, known).predict(form)
        np.testing.assert_allclose(decoded.time, latents.time, atol=1e-9)
        np.testing.assert_allclose(decoded.upper, expected.upper, rtol=1e-5)


def frame(values, time=None, **options):
    values = np.asarray(values, dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pynapple, about times that are NaN
        return nap.TsdFrame(t=np.arange(len(values)) if time is None else np.array(time), d=values, **options)


@pytest.mark.parametrize(
    ("activity", "options", "message", "parameter"),
    [
        (nap.TsGroup({}, time_support=nap.IntervalSet(0, 1)), {}, "activity has no units", "activity"),
        (
            nap.TsGroup({0: nap.Ts(np.array([0.5]))}, time_support=nap.IntervalSet([0, 2], [1, 2.5])),
            {"bin_size": 3.0},
            "leaves no bin of 3 s: its longest interval lasts 1 s",
            "time_support",
        ),
        (
            nap.TsGroup({0: nap.Ts(np.array([0.5]))}, time_support=nap.IntervalSet(0, 1)),
            {"time_support": [[2.0, 1.0]]},
            "with start < stop",
            "time_support",
        ),
        (
            nap.TsGroup({0: nap.Ts(np.array([0.5]))}, time_support=nap.IntervalSet(0, 1)),
            {"kind": "signal"},
            "kind must be 'counts' for spike times",
            "kind",
        ),
        (
            frame(np.ones((9, 2))),
            {"time_support": nap.IntervalSet(20, 30)},
            "leaves no bin of activity",
            "time_support",
        ),
        (
            frame([[1, np.nan], [2, np.nan], [3, np.nan]]),
            {},
            "NaN in all bins of 1 of 2 units, the first unit 1",
            "activity",
        ),
        (frame([[1, 2], [2, np.nan]]), {}, "activity has 1 NaN", "activity"),
        (frame(np.ones((4, 1)), [0.0, 1.0, 1.0, 2.0]), {}, "time must increase", "time"),
        (frame(np.ones((3, 1)), [0.0, 1.0, np.nan]), {}, "1 times that are NaN", "time"),
        (frame(np.ones((9, 2))), {"bin_size": 0.5}, r"use activity\.bin_average\(0\.5\)", "bin_size"),
        (np.ones((5, 2)), {}, "got ndarray: use Recording.from_arrays", "activity"),
    ],
)
def test_activity_that_cannot_be_used_raises_an_error_of_one_line(activity, options, message, parameter):
    with pytest.raises(InputError, match=message) as caught:
        Recording.from_pynapple(activity, **options)
    assert caught.value.parameter == parameter
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("behavior", "message"),
    [
        (
            nap.Tsd(t=np.arange(5.0), d=np.arange(5.0)),
            "covers 0 to 4 s and the bins 10.025 to 32.975 s: they do not overlap",
        ),
        (nap.Tsd(t=np.array([10.0, 12, 12, 30]), d=np.arange(4.0)), "several samples at 12 s: times must increase"),
        (nap.IntervalSet([0.0], [1.0]), "do not overlap"),
        (
            nap.IntervalSet([10.0], [11.0], metadata={"a": [1], "b": [2]}),
            "has the columns 'a', 'b': give intervals with one",
        ),
        (nap.Ts(np.arange(10.0, 20.0)), "must be a Tsd, TsdFrame or IntervalSet, got a Ts"),
    ],
)
def test_behavior_that_cannot_be_used_raises_an_error_of_one_line(spikes, recording, behavior, message):
    with pytest.raises(InputError, match=message) as caught:
        Recording.from_pynapple(spikes, 0.05, behavior)
    assert caught.value.parameter == "behavior"
    assert "\n" not in str(caught.value)
    latents = KalmanSSL(**TINY).fit(recording).transform(recording)
    with pytest.raises(InputError, match=message) as caught:
        PositionDecoder(regressor="linear").fit(latents, behavior)
    assert caught.value.parameter == "position"


def test_behavior_with_times_needs_latents_with_times(recording, position):
    latents = np.zeros((len(recording), 2))
    with pytest.raises(InputError, match="position has times, but the bins have none"):
        PositionDecoder(regressor="linear").fit(latents, position)


def test_models_of_other_units_raise_an_error(recording, spikes):
    model = KalmanSSL(**TINY).fit(recording)
    with pytest.raises(InputError, match=r"1 missing \(8\)"):
        model.transform(spikes[[0, 2, 4, 6]])
