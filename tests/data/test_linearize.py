"""Positions in x and y on tracks: way points, branches, middle lines, and bad input."""

from __future__ import annotations

import os

import numpy as np
import pytest
from refusals import assert_refused

from kalmanssl.data import Recording, Track, linearize_track

ANGLES = np.linspace(-np.pi, np.pi, 241)
LINES = {
    "straight": Track.of([[0.0, 0.0], [2.0, 1.0]]),
    "L": Track.of([[0.0, 0.0], [2.0, 0.0], [2.0, 1.5]]),
    "U": Track.of([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]),
}
LOOPS = {
    "circle": Track.of(np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)),
    "square": Track.of([[0.0, 1.5], [0.0, 0.0], [1.5, 0.0], [1.5, 1.5], [0.0, 1.5]]),
}
# The points of a W maze: three arms that go up, and a base.
W_POINTS = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 0.0], [2.0, 1.0]]
W_EDGES = [(3, 2), (2, 0), (0, 1), (2, 4), (4, 5)]
T_POINTS = [[0.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [1.0, 1.0]]


def run_on(track, n=9000, laps=6, noise=0.02, seed=0, pause=0.3):
    """Return distances (time,) along a track, and positions (time, 2) with noise; the animal pauses at one end."""
    rng = np.random.default_rng(seed)
    phase = np.linspace(0.0, laps, n)
    phase = np.floor(phase) + np.maximum((phase % 1.0 - pause) / (1 - pause), 0.0)
    share = phase % 1.0 if track.is_loop else 0.5 - 0.5 * np.cos(2 * np.pi * phase)
    distance = share * track.length * (1 - 1e-9)
    return distance, track.locate(distance) + noise * rng.standard_normal((n, 2))


@pytest.mark.parametrize("name", LINES)
def test_the_middle_of_a_track_with_ends_is_found(name):
    track = LINES[name]
    distance, position = run_on(track)
    position[50:80] = np.nan
    found = linearize_track(position)
    assert not found.track.is_loop
    assert found.track.length == pytest.approx(track.length, abs=8 * 0.02 + 0.02 * track.length)
    assert np.isnan(found.distance[50:80]).all()
    assert (found.arm[50:80] == -1).all()
    known = np.isfinite(found.distance)
    error = found.distance[known] - distance[known]
    assert np.abs(error - np.median(error)).mean() < 0.015 * track.length
    assert found.track.locate([0.0])[0] == pytest.approx(track.locate([0.0])[0], abs=0.15)
    assert np.median(found.offset[known]) < 0.02


@pytest.mark.parametrize("name", LOOPS)
def test_the_middle_of_a_loop_is_found_and_has_a_period(name):
    track = LOOPS[name]
    distance, position = run_on(track)
    found = linearize_track(position)
    period = found.track.length
    assert found.track.is_loop
    assert period == pytest.approx(track.length, rel=0.06)  # corners of the square are rounded
    assert found.distance.min() >= 0
    assert found.distance.max() < period
    turn = 2 * np.pi * (found.distance / period - distance / track.length)  # both go counterclockwise
    assert np.abs(np.exp(1j * turn).mean()) > 0.99
    jumps = np.abs(np.diff(found.distance))
    assert (np.minimum(jumps, period - jumps) < 0.3).all()


def test_the_middle_line_does_not_depend_on_pauses_and_ignores_errors_of_the_tracker():
    distance, position = run_on(LINES["U"], pause=0.9)
    position[::200] = [9.0, 9.0]
    with_errors = linearize_track(position).distance
    kept = np.arange(len(position)) % 200 > 0
    error = with_errors[kept] - distance[kept]
    assert np.abs(error - np.median(error)).mean() < 0.05


@pytest.mark.parametrize(
    "track", [Track.of(W_POINTS, W_EDGES), Track.of(T_POINTS, [(0, 1), (1, 2), (1, 3)])], ids=["W", "T"]
)
def test_branches_are_refused_without_way_points(track):
    _, position = run_on(track, laps=1, n=20000)
    assert_refused(lambda: linearize_track(position), "branch.*give waypoints")


def test_an_open_field_is_no_track():
    position = np.random.default_rng(0).uniform(0.0, 1.0, (9000, 2))
    assert_refused(lambda: linearize_track(position), "fill an area")


def test_way_points_of_a_line_give_distances_along_it_and_from_it():
    track = [[0.0, 0.0], [0.0, 2.0], [3.0, 2.0]]
    found = linearize_track([[0.1, 0.5], [1.2, 2.0], [-1.0, -1.0], [9.0, 2.0], [np.nan, 1.0]], track)
    np.testing.assert_allclose(found.distance, [0.5, 3.2, 0.0, 5.0, np.nan])
    np.testing.assert_allclose(found.offset, [0.1, 0.0, np.sqrt(2), 6.0, np.nan])
    np.testing.assert_array_equal(found.arm, [0, 0, 0, 0, -1])
    assert (found.track.length, found.track.is_loop) == (5.0, False)


def test_arms_of_a_maze_follow_each_other_with_gaps_where_they_do_not_touch():
    found = linearize_track([[1.0, 0.75], [0.5, 0.0], [0.0, 1.0], [1.5, 0.0]], W_POINTS, W_EDGES)
    track = found.track
    assert list(track.arms) == ["arm 1", "arm 2", "arm 3"]
    np.testing.assert_allclose(track.lengths, [1.0, 2.0, 2.0])
    np.testing.assert_allclose(track.starts, [0.0, 1.0, 3.5])  # a tenth of 5; the first two arms touch
    np.testing.assert_allclose(found.distance, [0.25, 1.5, 3.0, 4.0])
    np.testing.assert_array_equal(found.arm, [0, 1, 1, 2])
    assert track.length == pytest.approx(5.5)
    np.testing.assert_allclose(track.locate(found.distance), [[1.0, 0.75], [0.5, 0.0], [0.0, 1.0], [1.5, 0.0]])
    wider = linearize_track([[1.5, 0.0]], W_POINTS, W_EDGES, gap=2.0)
    np.testing.assert_allclose(wider.distance, [3.0 + 2.0 + 0.5])
    named = Track.of({"stem": [[0, 0], [0, 1]], "left": [[0, 1], [-1, 1]], "right": [[0, 1], [1, 1]]}, gap=0.5)
    np.testing.assert_allclose(named.project([[0.2, 0.4], [-0.5, 1.0], [0.5, 1.1]]).distance, [0.4, 1.5, 3.0])


def test_distances_and_places_are_inverse_on_simulated_runs_of_a_maze():
    track = Track.of(W_POINTS, W_EDGES)
    distance, position = run_on(track, laps=1, noise=0.0, n=5000)
    found = track.project(position)
    np.testing.assert_allclose(found.offset, 0.0, atol=1e-9)
    np.testing.assert_allclose(track.locate(found.distance), position, atol=1e-9)
    starts, stops = track.starts, track.starts + track.lengths
    on_arm = ((distance[:, None] > starts + 1e-6) & (distance[:, None] < stops - 1e-6)).any(axis=1)
    np.testing.assert_allclose(found.distance[on_arm], distance[on_arm], atol=1e-6)


def test_a_track_is_read_from_a_table_and_stored_as_numbers(tmp_path):
    path = tmp_path / "maze.csv"
    path.write_text("x,y,arm\n0,0,stem\n0,1,stem\n0,1,left\n-1,1,left\n")
    track = Track.from_csv(path)
    assert list(track.arms) == ["stem", "left"]
    stored = track.to_dict()
    again = Track(stored["arms"], stored["gap"])
    np.testing.assert_array_equal(again.project([[-0.3, 1.0]]).distance, [1.3])
    path.write_text("x, y\n0,0\n1,0\n")
    assert Track.from_csv(path).length == 1.0
    for text in ("a,b\n1,2\n", "", "x,y\n1,one\n", "x,y\n1,2\n", "x,y\n1\n2,3\n"):
        path.write_text(text)
        assert_refused(lambda: Track.from_csv(path), "waypoints")
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "none.csv", tmp_path / "pipe", "/dev/zero", "x" * 300):
        assert_refused(lambda name=name: Track.from_csv(name), "waypoints .* cannot be read", seconds=5)


POSITIONS = run_on(LINES["L"], n=500)[1]
BAD = {
    "one column": lambda: linearize_track(np.zeros((100, 1))),
    "three columns": lambda: linearize_track(np.zeros((100, 3))),
    "one place": lambda: linearize_track(np.ones((500, 2))),
    "few positions": lambda: linearize_track(POSITIONS[:20]),
    "no known position": lambda: linearize_track(np.full((500, 2), np.nan)),
    "one way point": lambda: linearize_track(POSITIONS, [[0, 0]]),
    "no length": lambda: linearize_track(POSITIONS, [[0, 0], [0, 0]]),
    "way points with NaN": lambda: linearize_track(POSITIONS, [[0, 0], [np.nan, 1]]),
    "text": lambda: linearize_track(POSITIONS, "maze"),
    "no arms": lambda: linearize_track(POSITIONS, {}),
    "edge to nothing": lambda: linearize_track(POSITIONS, W_POINTS, [(0, 9)]),
    "edge to itself": lambda: linearize_track(POSITIONS, W_POINTS, [(0, 0)]),
    "half of an edge": lambda: linearize_track(POSITIONS, W_POINTS, [0, 1]),
    "no edges": lambda: linearize_track(POSITIONS, W_POINTS, []),
    "edges alone": lambda: linearize_track(POSITIONS, edges=[(0, 1)]),
    "edges of arms": lambda: linearize_track(POSITIONS, {"a": [[0, 0], [0, 1]]}, [(0, 1)]),
    "negative gap": lambda: linearize_track(POSITIONS, W_POINTS, gap=-1.0),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_bad_input_is_refused(call):
    assert_refused(call, "position|waypoints|edges|gap")


def test_a_recording_with_a_linear_behavior():
    distance, position = run_on(LINES["L"], n=500)
    recording = Recording.from_arrays(
        np.ones((500, 3)), behavior={"position": position, "speed": distance}, behavior_unit={"position": "cm"}
    )
    linear = recording.linearize("position", LINES["L"])
    np.testing.assert_allclose(linear.behavior["position"], distance, atol=0.12)
    assert linear.behavior_unit == {"position": "cm"}
    np.testing.assert_array_equal(linear.behavior["speed"], distance)
    assert_refused(lambda: recording.linearize("speed"), "x and y")
    assert_refused(lambda: recording.linearize("place"), "no name 'place'")
