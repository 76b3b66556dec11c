"""References of the scores: the occupancy alone and a ridge regression, and errors by time and place."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from kalmanssl.data import Recording
from kalmanssl.decoding import DecodedPosition
from kalmanssl.runs._references import _PENALTIES, _feature_blocks, fit_references, is_reference, score_references
from kalmanssl.runs._text import duration, scaled_unit, with_unit
from kalmanssl.runs.report._error_profile import WORST_SECONDS, error_profile


def recording_of(behavior, n_units=6, seed=0, gain=1.0):
    """Return a signal that depends on the behavior (time,) or (time, dims), with noise, in bins of 25 ms."""
    rng = np.random.default_rng(seed)
    columns = behavior.reshape(len(behavior), -1)
    weights = rng.standard_normal((columns.shape[1], n_units))
    activity = gain * columns @ weights + 0.1 * rng.standard_normal((len(columns), n_units))
    return Recording.from_arrays(activity, behavior={"x": behavior}, kind="signal")


def walk(n=6000, dims=1, seed=0):
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((n + 400, dims))
    kernel = np.exp(-0.5 * (np.arange(-150, 151) / 50.0) ** 2)
    smooth = np.stack([np.convolve(column, kernel, "same") for column in steps.T], axis=1)[200 : 200 + n]
    smooth /= smooth.std(axis=0)
    return smooth[:, 0] if dims == 1 else smooth


@pytest.mark.parametrize("dims", [1, 2])
def test_scores_of_the_occupancy_are_those_of_its_samples(dims):
    behavior = walk(dims=dims)
    recording = recording_of(behavior)
    references = json.loads(json.dumps(fit_references(recording, "x", None, None)))
    assert is_reference(references)
    known = np.ones(len(recording), dtype=bool)
    found = score_references(references, recording, behavior, known, "all")["occupancy"]
    columns = behavior.reshape(len(behavior), -1)
    center = np.median(columns, axis=0)
    assert found["median_error"] == pytest.approx(np.median(np.linalg.norm(columns - center, axis=1)))
    some = columns[::7]
    crps = [
        np.abs(c[:, None] - s).mean() - 0.5 * np.abs(s[:, None] - s).mean()
        for c, s in zip(columns.T, some.T, strict=True)
    ]
    assert found["crps"] == pytest.approx(np.mean(crps), rel=0.03)
    low, high = np.quantile(columns, [0.025, 0.975], axis=0)
    assert found["width"] == pytest.approx(np.mean(high - low), rel=1e-6)
    assert found["r2"] <= 0


def test_the_ridge_regression_is_that_of_a_library_on_causal_averages(monkeypatch):
    behavior = walk()
    train, test = recording_of(behavior).split(at=100.0)
    references = fit_references(train, "x", None, None)
    found = score_references(references, test, test.behavior["x"], np.ones(len(test), bool), "all")["ridge"]

    def averages(recording):
        keep, state, rows = math.exp(-0.025 / 0.25), recording.activity[0].astype(float), []
        for row in recording.activity.astype(float):
            state = keep * state + (1 - keep) * row
            rows.append(state)
        return np.array(rows)

    monkeypatch.setattr("kalmanssl.runs._references._BLOCK", 700)
    np.testing.assert_allclose(np.concatenate([x for _, x in _feature_blocks(train)]), averages(train), atol=1e-5)
    x = averages(train)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    oracle = Ridge(alpha=references["ridge"]["penalty"] * len(x)).fit((x - mean) / scale, train.behavior["x"])
    error = np.abs(oracle.predict((averages(test) - mean) / scale) - test.behavior["x"])
    assert found["median_error"] == pytest.approx(np.median(error), rel=1e-3)
    assert found["mean_error"] == pytest.approx(error.mean(), rel=1e-3)
    assert found["r2"] > 0.8


def test_the_penalty_is_chosen_on_the_last_fifth_and_old_bins_are_left_out(monkeypatch):
    behavior = walk(4000)
    recording = recording_of(behavior, n_units=40, gain=0.05)
    chosen = fit_references(recording, "x", None, None)["ridge"]["penalty"]
    rows = np.concatenate([x for _, x in _feature_blocks(recording)])
    x, y = (rows - rows.mean(axis=0)) / rows.std(axis=0), behavior - behavior.mean()
    errors = []
    for penalty in _PENALTIES:
        oracle = Ridge(alpha=penalty * 3200, fit_intercept=False).fit(x[:3200], y[:3200])
        errors.append(((oracle.predict(x[3200:]) - y[3200:]) ** 2).mean())
    assert chosen == _PENALTIES[int(np.argmin(errors))]
    monkeypatch.setattr("kalmanssl.runs._references._MOST_BINS", 1000)
    recent = fit_references(recording, "x", None, None)["ridge"]
    part = fit_references(recording[3000:], "x", None, None)["ridge"]
    np.testing.assert_allclose(recent["weights"], part["weights"], rtol=1e-4, atol=1e-6)


def test_references_on_a_circle_go_the_short_way_around():
    turns = 0.3 * np.arange(6000) / 40 + 0.1 * walk()
    angle = turns % (2 * np.pi)
    recording = recording_of(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    turning = Recording.from_arrays(recording.activity, behavior={"x": angle}, kind="signal")
    references = fit_references(turning, "x", 2 * np.pi, None)
    found = score_references(references, turning, angle, np.ones(len(angle), bool), "all")
    assert found["ridge"]["median_error"] < 0.2
    assert found["ridge"]["r2"] > 0.9
    assert found["occupancy"]["median_error"] == pytest.approx(np.pi / 2, abs=0.25)


def test_weights_of_two_angles_are_stored_with_the_cosines_before_the_sines():
    turns = np.stack([0.3 * np.arange(6000) / 40, 0.7 * np.arange(6000) / 40], axis=1)
    angles = turns % (2 * np.pi)
    # Three units for each coordinate: cos, cos, sin, sin of both angles.
    units = np.repeat(np.concatenate([np.cos(angles), np.sin(angles)], axis=1), 3, axis=1)
    noise = 0.05 * np.random.default_rng(0).standard_normal(units.shape)
    turning = Recording.from_arrays(units + noise, behavior={"x": angles}, kind="signal")
    references = fit_references(turning, "x", 2 * np.pi, None)
    weights = np.abs(np.array(references["ridge"]["weights"])).reshape(4, 3, 4).sum(axis=1)
    np.testing.assert_array_equal(weights.argmax(axis=0), np.arange(4))
    found = score_references(references, turning, angles, np.ones(len(angles), bool), "all")
    assert found["ridge"]["r2"] > 0.9


def test_running_bins_have_an_occupancy_of_their_own():
    behavior = walk()
    recording, runs = recording_of(behavior), behavior > 0
    references = fit_references(recording, "x", None, runs)
    centers = {name: one["center"][0] for name, one in references["occupancy"].items()}
    assert centers == {"all": pytest.approx(np.median(behavior)), "running": pytest.approx(np.median(behavior[runs]))}
    assert score_references(None, recording, behavior, runs, "all") == {}
    assert not is_reference({"occupancy": {}, "ridge": None, "period": None, "levels": []})
    other = recording_of(behavior, n_units=3)
    assert list(score_references(references, other, behavior, runs, "running")) == ["occupancy"]


def decoded_with(mean, time):
    levels = np.array([0.025, 0.5, 0.975])
    columns = mean.reshape(len(mean), -1)
    table = np.stack([columns - 0.2, columns, columns + 0.2], axis=2)
    return DecodedPosition(time, 0.95, table, levels, columns, (None,) * columns.shape[1], mean.ndim == 1)


def test_errors_by_time_and_place_and_the_worst_segments():
    time = 100.0 + 0.025 * (np.arange(4000) + 0.5)
    truth = np.tile(np.linspace(0.0, 1.0, 400), 10)
    runs = np.arange(4000) % 400 >= 100
    error = np.where(runs, 0.1 + 0.3 * (truth > 0.8), 0.05)
    error[2000:2160] = 2.0  # four seconds
    profile = error_profile(decoded_with(truth + error, time), truth, runs, 0.025)
    assert profile["block_error"].shape == (len(profile["block_time"]), 2)
    assert np.nanmedian(profile["block_error"], axis=0) == pytest.approx([0.1, 0.05], abs=1e-6)
    near = (profile["block_time"] > 148) & (profile["block_time"] < 156)
    assert np.nanmax(profile["block_error"][near]) == pytest.approx(2.0)
    middle = profile["place_error"][:, 1]
    assert np.nanmax(middle[profile["place"] < 0.78]) == pytest.approx(0.1)
    assert np.nanmin(middle[profile["place"] > 0.82]) == pytest.approx(0.4)
    assert profile["worst_time"].shape == (3, round(WORST_SECONDS / 0.025))
    assert profile["worst_time"][0, [0, -1]] == pytest.approx([time[2000], time[2159]], abs=2.6)
    assert (np.diff(profile["worst_error"]) <= 0).all()
    starts = np.sort(profile["worst_time"][:, 0])
    assert (np.diff(starts) >= WORST_SECONDS - 0.03).all()
    np.testing.assert_allclose(profile["worst_upper"] - profile["worst_mean"], 0.2, atol=1e-9)


def test_rounded_behavior_has_a_cell_for_each_value():
    rng = np.random.default_rng(0)
    truth = np.round(rng.uniform(0.1, 0.9, 4000) / 0.04) * 0.04
    error = np.where(truth > 0.5, 0.4, 0.1)
    profile = error_profile(decoded_with(truth + error, 0.025 * np.arange(4000)), truth, None, 0.025)
    np.testing.assert_allclose(profile["place"], np.unique(truth))
    np.testing.assert_allclose(profile["place_error"][:, 1], np.where(profile["place"] > 0.5, 0.4, 0.1), atol=1e-6)


def test_the_worst_segments_have_no_gap_and_two_dimensions_have_a_map():
    rng = np.random.default_rng(0)
    time = 0.025 * np.arange(3000) + np.where(np.arange(3000) >= 1500, 50.0, 0.0)
    truth = rng.uniform(0, 1, (3000, 2))
    truth[100:110] = np.nan
    error = 0.1 * (1 + truth[:, :1]) * [1.0, 0.0]
    error[1450:1550] = [3.0, 4.0]  # around the gap
    profile = error_profile(decoded_with(np.nan_to_num(truth) + np.nan_to_num(error), time), truth, None, 0.025)
    assert np.isnan(profile["block_error"][:, 1]).all()
    assert (np.diff(profile["worst_time"], axis=1) < 0.03).all()
    assert profile["map_error"].shape == (16, 16)
    column = np.nanmedian(profile["map_error"], axis=1)
    np.testing.assert_allclose(column, 0.1 * (1 + (np.arange(16) + 0.5) / 16), atol=0.02)
    short = error_profile(decoded_with(truth[:50, 0], time[:50]), truth[:50, 0], None, 0.025)
    assert "worst_time" not in short


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0312, "m", "3.12 cm"), (0.0031, "m", "0.31 cm"), (0.00031, "m", "0.31 mm"),
        (1.5, "m", "1.5 m"), (2300.0, "m", "2.3 km"),
        (7.5, "cm", "7.5 cm"), (150.0, "cm", "1.5 m"), (0.3, "rad", "17.2°"), (12.0, "deg", "12°"),
        (0.3, "rad/s", "17.2°/s"), (0.05, "m/s", "5 cm/s"), (0.7, "", "0.7"),
        (None, "m", "– m"), (math.nan, "m", "– m"), (0.0, "m", "0 m"),
    ],
)  # fmt: skip
def test_lengths_have_readable_units(value, unit, text):
    assert with_unit(value, unit) == text


def test_units_of_tables_and_durations():
    assert scaled_unit(0.04, "m") == (pytest.approx(100.0), "cm")
    seconds = {0.025: "25 ms", 12.3: "12.3 s", 882.0: "14.7 min", 9000.0: "2.5 h", math.inf: "–"}
    assert {value: duration(value) for value in seconds} == seconds
