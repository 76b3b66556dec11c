"""Figures of errors, maps and circles, colors for angles, and figures of the objects themselves."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from kalmanssl import plotting
from kalmanssl.data import Covariances, Latents, Recording
from kalmanssl.decoding import DecodedPosition, PositionDecoder
from kalmanssl.errors import InputError

TIME = 100 + 0.025 * np.arange(200)
LEVELS = np.array([0.025, 0.5, 0.975])


def decoded_of(mean, half=0.2, period=None):
    columns = mean.reshape(len(mean), -1)
    table = np.stack([columns - half, columns, columns + half], axis=2)
    return DecodedPosition(TIME, 0.95, table, LEVELS, columns, (period,) * columns.shape[1], mean.ndim == 1)


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_errors_by_time_have_a_line_for_each_group_and_the_reference():
    error = np.array([[0.1, 0.2], [0.3, np.nan], [0.2, 0.1]])
    axes = plotting.plot_error_by_time([1.0, 2.0, 3.0], error, ("running", "at rest"), reference=0.5, unit="m")
    found = lines(axes)
    np.testing.assert_array_equal(found["running"][:, 1], error[:, 0])
    np.testing.assert_array_equal(found["at rest"][:, 1], error[:, 1])
    np.testing.assert_array_equal(found["occupancy alone"][:, 1], [0.5, 0.5])
    assert axes.get_ylabel() == "median error (m)"
    assert len({line.get_marker() for line in axes.lines[:2]}) == 2  # also differ without colors
    assert plotting.plot_error_by_time([1.0], [0.1]).get_legend() is None


def test_errors_by_place_are_quartiles_and_a_map():
    quartiles = np.array([[0.1, 0.2, 0.3], [0.2, 0.3, 0.4], [np.nan] * 3])
    axes = plotting.plot_error_by_place([0.0, 1.0, 2.0], quartiles, name="position", unit="m")
    np.testing.assert_array_equal(lines(axes)["median"][:, 1], quartiles[:, 1])
    assert axes.get_xlabel() == "tracked position (m)"
    edges = np.stack([np.linspace(0, 1, 4), np.linspace(0, 2, 4)])
    error = np.arange(9.0).reshape(3, 3)
    error[0, 0] = np.nan
    image = plotting.plot_error_map(edges, error, unit="m").collections[0].get_array()
    np.testing.assert_array_equal(np.ma.filled(image, np.nan).reshape(3, 3), error.T)


def test_a_map_has_the_tracked_and_the_decoded_line_and_regions_of_some_bins():
    mean = np.stack([np.cos(TIME), np.sin(TIME)], axis=1)
    centers = np.linspace(-1.5, 1.5, 30)
    regions = np.hypot(centers[:, None] - 1.0, centers) < 0.5
    axes = plotting.plot_map(mean, mean + 0.1, regions=regions[None], cells=(centers, centers), moments=[7], unit="m")
    found = lines(axes)
    np.testing.assert_array_equal(found["decoded"], mean)
    np.testing.assert_array_equal(found["tracked"], mean + 0.1)
    np.testing.assert_array_equal(found["95 % region"], mean[[7]])
    filled = axes.collections[0].get_paths()[0].vertices
    assert np.hypot(filled[:, 0] - 1.0, filled[:, 1]).max() == pytest.approx(0.5, abs=0.12)
    with pytest.raises(InputError, match="mean must be"):
        plotting.plot_map(mean[:, 0])


def test_angles_in_radians_are_drawn_in_radians_with_ticks_in_degrees():
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    axes = plotting.plot_decoded(TIME, angle, angle, angle, name="head_direction", unit="rad", period=2 * np.pi)
    np.testing.assert_array_equal(lines(axes)["decoded"][:, 1], angle)
    assert axes.get_ylabel() == "head direction (°)"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0", "90", "180", "270", "360"]
    np.testing.assert_allclose(np.degrees(axes.get_yticks()), [0, 90, 180, 270, 360])
    axes = plotting.plot_decoded(TIME, 0.02 * np.sin(TIME), angle, angle, unit="rad/s")
    axes.set_ylim(-0.05, 0.05)  # a narrow range has round numbers, too
    assert axes.get_ylabel() == "position (°/s)"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["-3", "-1.5", "0", "1.5", "3"]
    latents = np.random.default_rng(0).normal(size=(200, 2))
    bar = plotting.plot_latents(latents, angle, name="direction", unit="radians", period=2 * np.pi).figure.axes[-1]
    assert bar.get_ylabel() == "direction (°)"
    assert [text.get_text() for text in bar.get_yticklabels()] == ["0", "90", "180", "270", "360"]
    dial = plotting.plot_turns(TIME, angle, angle, angle, period=2 * np.pi, unit="rad")
    assert [text.get_text() for text in dial.texts] == ["0°", "90°", "180°", "270°"]
    in_degrees = plotting.plot_decoded(TIME, angle, angle, angle, unit="deg")
    assert in_degrees.get_ylabel() == "position (°)"
    assert float(in_degrees.get_yticklabels()[-1].get_text()) < 10


def test_numbers_that_are_labels_have_one_color_each_and_no_decimals():
    number = np.arange(200) % 3
    latents = np.random.default_rng(0).normal(size=(200, 2))
    axes = plotting.plot_latents(latents, number, name="arm", labels=[1.0, 2.0, 2.5])
    bar = axes.figure.axes[-1]
    assert [text.get_text() for text in bar.get_yticklabels()] == ["1", "2", "2.5"]
    np.testing.assert_array_equal(bar.get_yticks(), [0, 1, 2])
    points = axes.collections[0]
    colors = points.to_rgba(points.get_array())
    assert len(np.unique(colors, axis=0)) == 3
    np.testing.assert_array_equal(colors[:3], points.to_rgba([0, 1, 2]))
    probability = np.full((200, 2), 0.5)
    drawn = plotting.plot_label_probabilities(TIME, probability, [0.0, 1.0], number % 2, name="direction")
    assert [text.get_text() for text in drawn.get_yticklabels()] == ["0", "1"]
    drawn.figure.canvas.draw()
    assert drawn.get_legend().get_window_extent().y0 >= drawn.get_window_extent().y1 - 1  # above the image
    pieces = np.concatenate([TIME[:50], TIME[50:] + 100.0])
    images = plotting.plot_label_probabilities(pieces, probability, [0.0, 1.0], number % 2).images
    step = TIME[1] - TIME[0]
    assert [image.get_extent()[:2] for image in images] == [
        pytest.approx((first - step / 2, last + step / 2)) for first, last in (pieces[[0, 49]], pieces[[50, 199]])
    ]


def test_turns_never_jump_and_time_goes_outward():
    angle = (0.5 + 3.0 * (TIME - TIME[0])) % (2 * np.pi)
    axes = plotting.plot_turns(TIME, angle, angle - 0.3, angle + 0.3, angle, period=2 * np.pi, unit="rad")
    xy = lines(axes)["decoded"]
    radius = np.hypot(*xy.T)
    assert (np.diff(radius) > 0).all()
    assert radius[[0, -1]] == pytest.approx([0.25, 1.0])
    np.testing.assert_allclose(np.arctan2(xy[:, 1], xy[:, 0]) % (2 * np.pi), angle, atol=1e-9)
    assert np.hypot(*np.diff(xy, axis=0).T).max() < 0.1
    around = angle + 2 * np.pi * (np.arange(200) % 3)  # ends may leave the period
    wrapped = plotting.plot_turns(TIME, angle, around - 0.3, around + 0.3, period=2 * np.pi)
    for patch in wrapped.patches:
        outline = patch.get_xy()
        assert np.hypot(*np.diff(outline, axis=0).T).max() < 0.25
    with pytest.raises(InputError, match="period"):
        plotting.plot_turns(TIME, angle, angle, angle)
    jumping = np.where(np.arange(200) < 100, 0.5, 3.0)  # the interval is interrupted there
    parts = plotting.plot_turns(TIME, jumping, jumping - 0.2, jumping + 0.2, period=2 * np.pi).patches
    assert max(np.hypot(*np.diff(patch.get_xy(), axis=0).T).max() for patch in parts) < 0.1
    gap = TIME + np.where(np.arange(200) >= 100, 5.0, 0.0)
    interrupted = lines(plotting.plot_turns(gap, angle, angle, angle, period=2 * np.pi))["decoded"]
    assert np.isnan(interrupted[100]).all()


def test_the_gain_of_a_training_is_drawn_with_zero_as_reference():
    found = lines(plotting.plot_gain({"held_out_score": [-0.1, 0.2, 0.3]}))
    np.testing.assert_array_equal(found["held-out blocks"], [[1, -0.1], [2, 0.2], [3, 0.3]])
    np.testing.assert_array_equal(found["average of the latents"][:, 1], [0, 0])


@pytest.mark.parametrize(("worst", "top"), [(1.5, 1.5), (50.0, 1.0)])
def test_one_cell_with_a_huge_error_leaves_colors_for_the_others(worst, top):
    error = np.ones((10, 10))
    error[3, 4] = worst
    error[0] = np.nan
    axes = plotting.plot_error_map(np.stack([np.arange(11.0)] * 2), error)
    image = axes.collections[0]
    assert image.norm.vmin == 0
    assert image.norm.vmax == pytest.approx(top)
    assert image.colorbar.extend == ("max" if top < worst else "neither")


@pytest.mark.parametrize(("worst", "marked"), [(1.5, []), (50.0, ["50"])])
def test_one_block_with_a_huge_error_leaves_height_for_the_others(worst, marked):
    error = np.ones((30, 2))
    error[3, 1] = worst
    error[7, 0] = np.nan
    axes = plotting.plot_error_by_time(np.arange(30.0), error, ("moving", "at rest"), reference=2.0)
    assert [text.get_text() for text in axes.texts] == marked
    np.testing.assert_array_equal(lines(axes)["at rest"][:, 1], error[:, 1])
    assert 2.0 < axes.get_ylim()[1] <= 2.4


def test_latents_are_colored_by_angles_within_one_period():
    axes = plotting.plot_latents(np.random.default_rng(0).random((50, 2)), np.full(50, 7.0), period=2 * np.pi)
    shown = axes.collections[0]
    assert (shown.get_array() == 7.0 % (2 * np.pi)).all()
    assert (shown.norm.vmin, shown.norm.vmax) == (0.0, 2 * np.pi)
    assert shown.get_cmap() == plotting.cyclic_colors()


def test_intervals_at_rest_are_hatched_on_request_and_the_usual_range_is_drawn():
    runs = np.arange(200) >= 100
    arrays = (TIME, np.zeros(200), np.full(200, -1.0), np.ones(200))
    hatched = plotting.plot_decoded(*arrays, where=runs, hatched=True, usual=(-2.0, 2.0))
    (band,) = [c for c in hatched.collections if c.get_hatch()]
    x = band.get_paths()[0].vertices[:, 0]
    assert x.max() <= TIME[101]
    assert not any(c.get_hatch() for c in plotting.plot_decoded(*arrays, where=runs).collections)
    levels = [line[0, 1] for line in (one.get_xydata() for one in hatched.lines) if len(line) == 2]
    assert sorted(levels) == [-2.0, 2.0]


def test_figures_take_the_objects_of_the_library():
    rng = np.random.default_rng(0)
    recording = Recording.from_arrays(rng.poisson(0.3, (200, 5)), time=TIME)
    both = [plotting.plot_raster(recording), plotting.plot_raster(recording.activity, TIME)]
    np.testing.assert_array_equal(*(axes.lines[0].get_xydata() for axes in both))
    mean = np.sin(TIME)
    axes = plotting.plot_decoded(decoded_of(mean), truth=mean + 0.1)
    np.testing.assert_allclose(lines(axes)["decoded"][:, 1], mean)
    plane = np.stack([mean, np.cos(TIME)], axis=1)
    second = plotting.plot_decoded(decoded_of(plane), truth=plane, dim=1)
    np.testing.assert_allclose(lines(second)["tracked"][:, 1], plane[:, 1])
    with pytest.raises(InputError, match="dim must be"):
        plotting.plot_decoded(decoded_of(plane), dim=2)
    with pytest.raises(InputError, match="lower and upper"):
        plotting.plot_decoded(TIME, mean)
    turning = plotting.plot_turns(decoded_of(mean % 1.0, period=1.0))
    assert len(lines(turning)["decoded"]) == 200
    assert plotting.plot_decoded_against_tracked(decoded_of(mean), mean) is not None
    assert "decoded" in lines(plotting.plot_map(decoded_of(plane)))
    n = np.full((200, 3), 0.5)
    latents = Latents(
        rng.standard_normal((200, 4)) * [3, 2, 1, 0.5],
        Covariances(np.eye(4)[None], np.zeros(200, int)), TIME, n, n, np.full(200, -1.0), np.zeros(200, int), False,
    )  # fmt: skip
    points = plotting.plot_latents(latents, mean).collections[0].get_offsets()
    centered = latents.mean - latents.mean.mean(axis=0)
    np.testing.assert_allclose(points, centered @ plotting.principal_axes(centered)[:, :2])
    assert plotting.plot_noise(latents).lines[0].get_ydata()[0] == pytest.approx(np.sqrt(0.5))
    assert plotting.plot_log_likelihood(latents).lines[0].get_ydata()[0] == -1.0
    for call in (plotting.plot_noise, plotting.plot_log_likelihood, lambda x: plotting.plot_raster(np.ones((200, 2)))):
        with pytest.raises(InputError, match="missing"):
            call(TIME)


def test_a_map_of_decoded_positions_has_the_regions_of_three_bins():
    rng = np.random.default_rng(0)
    position = rng.uniform(0, 1, (600, 2))
    features = np.concatenate([position, position**2], axis=1) + 0.05 * rng.standard_normal((600, 4))
    decoded = PositionDecoder(regressor="linear", random_state=0).fit(features, position).predict(features)
    axes = plotting.plot_map(decoded, position)
    assert len(axes.collections) == 6  # each region is filled and outlined
    blue = {to_rgb(c) for c in ("#0072b2",)}
    assert {to_rgb(axes.collections[0].get_facecolor()[0][:3])} == blue


def test_labels_of_a_map_of_errors_are_inside_the_figure():
    edges = np.stack([np.linspace(-10.85, 7.77, 16), np.linspace(-39.31, -20.61, 16)])
    error = np.random.default_rng(0).random((15, 15))
    ax = plotting.plot_error_map(edges, error, unit="cm", ax=plotting.new_axes(4.8, 3.8)[0])
    svg = plotting.figure_to_svg(ax, name="map", description="errors")
    baseline = float(re.findall(r'transform="rotate\(-90 ([\d.]+) [\d.]+\)">y \(cm\)', svg)[0])
    assert baseline > 8  # points from the left edge; letters are as high


@pytest.mark.parametrize(
    ("first", "label", "shown"),
    [(1_600_000_180.0, "time (s) after 1600000000 s", "180"), (18_960.0, "time (s)", "18960")],
)
def test_ticks_of_a_clock_with_many_digits_have_the_last_ones(first, label, shown):
    time = first + np.arange(0.0, 40.0, 0.025)
    mean = np.sin(time)
    for ax in (
        plotting.plot_decoded(time, mean, mean - 1, mean + 1),
        plotting.plot_error_by_time(time[::100], np.abs(mean[::100])),
        plotting.plot_log_likelihood(time, mean),
        plotting.plot_noise(time, np.abs(mean)[:, None]),
    ):
        plotting.figure_of(ax).canvas.draw()
        assert ax.get_xlabel() == label
        ticks = [tick.get_text() for tick in ax.get_xticklabels()]
        assert shown in ticks
        assert ax.xaxis.get_offset_text().get_text() == ""
