"""Variations of recordings: fewer units, less training time, and simulated recordings of other kinds."""

from pathlib import Path

import numpy as np
import pytest
from decoding import recordings, simulated
from decoding.baselines.features import square_roots
from decoding.tasks import Data


@pytest.fixture
def track(monkeypatch):
    source = recordings.SIMULATED["simulated track"]
    monkeypatch.setitem(recordings.RECORDINGS, "simulated track", source)
    return source


def test_a_variation_has_fewer_units_of_the_same_recording(track):
    (name, source), *_ = recordings._fewer_units("simulated track", 5).items()
    whole, found = track.read(Path()), source.read(Path())
    assert name == "simulated track, 5 units"
    assert source.targets[0].name == "simulated track, 5 units, position"
    assert found.n_units == 5
    assert len(set(found.unit_ids) & set(whole.unit_ids)) == 5
    column = list(whole.unit_ids).index(found.unit_ids[3])
    np.testing.assert_array_equal(found.activity[:, 3], whole.activity[:, column])


def test_a_variation_has_only_the_last_minutes_before_the_split(track):
    ((_, source),) = recordings._shorter("simulated track", 1).items()
    train, test = source.read(Path()).split(at=source.split_at)
    assert train.time[-1] - train.time[0] == pytest.approx(60, abs=0.2)
    assert len(test.time) == len(track.read(Path()).split(at=track.split_at)[1].time)


def test_the_speed_of_a_position_can_be_decoded_instead_of_it(track):
    ((name, source),) = recordings._speed("simulated track", "running speed", "cm/s").items()
    recording = source.read(Path())
    assert name == source.targets[0].name == "running speed"
    distance = np.abs(np.diff(recording.behavior["position"])).sum()
    traveled = recording.behavior["speed"].mean() * (recording.time[-1] - recording.time[0])
    assert traveled == pytest.approx(distance, rel=0.1)


def test_the_speed_of_an_angle_has_a_sign_and_does_not_jump_with_it(monkeypatch):
    monkeypatch.setitem(recordings.RECORDINGS, "simulated ring", recordings.SIMULATED["simulated ring"])
    ((_, source),) = recordings._speed("simulated ring", "turning speed", "degrees/s").items()
    recording = source.read(Path())
    angle, rate = recording.behavior["head_direction"], recording.behavior["speed"]
    assert rate.min() < -1 < 1 < rate.max()
    for segment in recording.segments():
        turned = np.unwrap(angle[segment])
        assert rate[segment].mean() * np.ptp(recording.time[segment]) == pytest.approx(turned[-1] - turned[0], abs=0.3)


@pytest.mark.parametrize("make", [simulated.open_field, simulated.grid_cells])
def test_cells_in_the_open_field_are_tuned_to_position(make):
    recording = make(duration=300.0)
    position = recording.behavior["position"]
    assert position.min() >= 0
    assert position.max() <= 1
    assert np.ptp(position, axis=0).min() > 0.7
    assert 0.1 < np.median(recording.activity.mean(axis=0)) / recording.bin_size < 10  # Hz
    cell = (10 * position[:, 0]).astype(int).clip(0, 9) * 10 + (10 * position[:, 1]).astype(int).clip(0, 9)
    visits = np.bincount(cell, minlength=100)
    spread = []
    for counts in (recording.activity, np.random.default_rng(0).permutation(recording.activity)):
        rate = np.stack([np.bincount(cell, unit, minlength=100) for unit in counts.T])[:, visits > 40]
        spread.append((rate / visits[visits > 40]).std(axis=1).mean())
    assert spread[0] > 2 * spread[1]  # rates of shuffled bins differ between places by chance alone


def test_the_bump_of_the_fly_follows_its_heading():
    recording = simulated.compass(duration=600.0)
    sectors = np.exp(1j * np.linspace(0, 2 * np.pi, 16, endpoint=False))
    bump = np.angle((recording.activity - recording.activity.mean(axis=0)) @ sectors)
    offset = np.exp(1j * (bump - recording.behavior["head_direction"]))
    assert abs(offset.mean()) > 0.6
    assert recording.kind == "signal"


def test_signals_have_no_square_roots_and_start_at_the_minimum_of_the_training_part():
    recording = simulated.compass(duration=60.0)
    train, test = recording.split(at=40.0)
    data = Data("fly", train, test, *(np.ones(len(part.time), dtype=bool) for part in (train, test)))
    lowest = train.activity.min(axis=0)
    np.testing.assert_allclose(square_roots(data, "test"), np.maximum(test.activity - lowest, 0))
