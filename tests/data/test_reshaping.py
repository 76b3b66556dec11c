"""Selection of units, wider bins and joining of recordings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from refusals import assert_refused

from kalmanssl import KalmanSSL, Recording
from kalmanssl.errors import InputError


@pytest.fixture
def recording():
    """Ten bins of 0.1 s with a gap after the fifth, three units with spike times, and behavior of several kinds."""
    activity = np.arange(30).reshape(10, 3) % 4
    time = np.r_[np.arange(5), 10 + np.arange(5)] * 0.1 + 0.05
    rng = np.random.default_rng(0)
    spikes = tuple(
        np.sort(np.concatenate([t + rng.uniform(-0.04, 0.04, n) for t, n in zip(time, column, strict=True)]))
        for column in activity.T
    )
    plain = Recording.from_arrays(
        activity,
        time,
        0.1,
        {"position": np.arange(10.0), "angle": np.arange(10.0), "arm": ["left"] * 5 + ["right"] * 5},
        unit_ids=["7", "3", "9"],
        behavior_unit={"position": "m", "angle": "rad"},
        epochs={"maze": (0.0, 1.5)},
        cell_type=["int", "pyr", "pyr"],
    )
    return replace(plain, spike_times=spikes)


def test_units_are_selected_by_name_in_the_given_order(recording):
    for names in (["9", "7"], [9, 7], np.array([9, 7])):
        found = recording.select_units(names)
        assert found.unit_ids == ("9", "7")
        np.testing.assert_array_equal(found.activity, recording.activity[:, [2, 0]])
        np.testing.assert_array_equal(found.spike_times[0], recording.spike_times[2])
        assert found.cell_type == ("pyr", "int")
        assert found.behavior is recording.behavior


def test_units_are_selected_by_mask_rate_and_cell_type(recording):
    assert recording.select_units([False, True, True]).unit_ids == ("3", "9")
    rates = recording.activity.mean(axis=0) / recording.bin_size
    limit = np.sort(rates)[1]
    assert set(recording.select_units(min_rate=limit).unit_ids) == {
        name for name, rate in zip(recording.unit_ids, rates, strict=True) if rate >= limit
    }
    assert recording.select_units(cell_type="pyr").unit_ids == ("3", "9")
    assert recording.select_units(["9", "7"], cell_type=["pyr"]).unit_ids == ("9",)
    assert recording.select_units().unit_ids == recording.unit_ids


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": ["9", "8"]}, "there is no unit '8'"),
        ({"units": ["9", 9]}, "equal as text"),
        ({"units": "9"}, "a sequence of names"),
        ({"units": [True, False]}, "mask of shape"),
        ({"units": []}, "none of 3 units is left"),
        ({"min_rate": 1e6}, "none of 3 units is left"),
        ({"min_rate": "high"}, "min_rate must be a number"),
        ({"cell_type": "granule"}, "there is no cell_type 'granule'"),
    ],
)
def test_wrong_selections_of_units_are_refused(recording, arguments, message):
    assert_refused(lambda: recording.select_units(**arguments), message)


def test_signals_have_no_rates_and_recordings_may_have_no_cell_types():
    signal = Recording.from_arrays(np.zeros((5, 2)), kind="signal")
    with pytest.raises(InputError, match="None for a signal"):
        signal.select_units(min_rate=1.0)
    with pytest.raises(InputError, match="cell_type is not known"):
        signal.select_units(cell_type="pyr")


def test_counts_are_summed_in_wider_bins_inside_segments(recording):
    found = recording.rebin(0.2)
    assert found.bin_size == pytest.approx(0.2)
    np.testing.assert_allclose(found.time, [0.1, 0.3, 1.1, 1.3])  # the fifth bin of each segment is left out
    expected = recording.activity[[0, 2, 5, 7]] + recording.activity[[1, 3, 6, 8]]
    np.testing.assert_array_equal(found.activity, expected)
    assert found.activity.dtype == np.float32
    np.testing.assert_allclose(found.behavior["position"], [0.5, 2.5, 5.5, 7.5])
    np.testing.assert_array_equal(found.behavior["angle"], [0, 2, 5, 7])
    assert list(found.behavior["arm"]) == ["left", "left", "right", "right"]
    assert [len(train) for train in found.spike_times] == list(found.activity.sum(axis=0))
    assert len(found.segments()) == 2


def test_behavior_in_an_odd_number_of_bins_is_that_of_the_middle_one(recording):
    found = recording.rebin(0.5)
    np.testing.assert_array_equal(found.behavior["position"], [2, 7])
    np.testing.assert_array_equal(found.activity, [recording.activity[:5].sum(0), recording.activity[5:].sum(0)])


def test_wider_bins_equal_those_counted_from_the_spikes():
    """The same spikes in bins of 20 and of 60 ms."""
    rng = np.random.default_rng(1)
    spikes = np.sort(rng.uniform(0, 12, 500))
    fine, coarse = (np.histogram(spikes, np.arange(0, 12 + width / 2, width))[0][:, None] for width in (0.02, 0.06))
    found = Recording.from_arrays(fine, bin_size=0.02).rebin(0.06)
    np.testing.assert_array_equal(found.activity, coarse)


def test_signals_are_averaged_in_wider_bins():
    values = np.random.default_rng(2).normal(size=(9, 2))
    found = Recording.from_arrays(values, bin_size=0.1, kind="signal").rebin(0.3)
    np.testing.assert_allclose(found.activity, values.reshape(3, 3, 2).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("bin_size", "message"),
    [
        (0.15, "not a multiple"),
        (0.05, "not a multiple"),
        (0.6, "no segment fills a bin of 0.6 s: the longest has 0.5 s"),
        (1e308, "no segment fills"),
        (-0.1, "bin_size must be"),
        (float("nan"), "bin_size"),
        ("wide", "bin_size must be a number"),
    ],
)
def test_wrong_widths_of_bins_are_refused(recording, bin_size, message):
    assert_refused(lambda: recording.rebin(bin_size), message)


def test_parts_are_joined_to_what_was_split(recording):
    joined = Recording.concatenate(recording.split(at=1.2))
    np.testing.assert_array_equal(joined.activity, recording.activity)
    np.testing.assert_array_equal(joined.time, recording.time)
    for name in recording.behavior:
        np.testing.assert_array_equal(joined.behavior[name], recording.behavior[name])
    for one, two in zip(joined.spike_times, recording.spike_times, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(joined.epochs["maze"], recording.epochs["maze"])
    assert joined.source == recording.source


def test_time_between_parts_is_a_gap_and_epochs_are_those_of_all(recording):
    later = replace(recording, time=recording.time + 100.0, epochs={"maze": np.array([[100.0, 101.5]])})
    joined = Recording.concatenate([recording, later])
    assert len(joined.segments()) == 4
    np.testing.assert_array_equal(joined.epochs["maze"], [[0.0, 1.5], [100.0, 101.5]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r, "before the end of the part before it"),
        (lambda r: r.select_units(["7", "3"]), "part 2 has unit_ids"),
        (lambda r: r.rebin(0.2), "part 2 has bin_size"),
        (lambda r: replace(r, session="second day"), "part 2 has session"),
        (lambda r: replace(r, behavior={}), "part 2 has behavior"),
        (lambda r: replace(r, behavior=r.behavior | {"position": np.zeros((10, 2))}), "part 2 has position of shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused(recording, change, message):
    later = replace(recording, time=recording.time + (0.0 if "before" in message else 100.0))
    assert_refused(lambda: Recording.concatenate([recording, change(later)]), message)


@pytest.mark.parametrize("parts", [[], [1], "ab"])
def test_parts_that_are_not_recordings_are_refused(parts):
    assert_refused(lambda: Recording.concatenate(parts), "parts must be recordings")


def test_a_model_is_fitted_to_a_reshaped_recording(recording):
    rng = np.random.default_rng(3)
    long = Recording.from_arrays(rng.poisson(1.0, (2000, 5)), bin_size=0.025)
    reshaped = Recording.concatenate(long.select_units([4, 0, 2]).rebin(0.05).split(at=25.0))
    settings = {"latent_dim": 2, "state_dim": 2, "epochs": 1, "steps_per_epoch": 2, "noise_epochs": 0}
    model = KalmanSSL(**settings, progress=False).fit(reshaped)
    assert model.unit_ids_ == ("4", "0", "2")
    assert len(model.transform(reshaped)) == 1000
