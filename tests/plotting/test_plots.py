"""Figures show the data that they are given."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kalmanssl import plotting
from kalmanssl.errors import InputError
from kalmanssl.plotting import order_by_peak, plot_by_condition, principal_axes, time_constants

TIME = 100 + 0.025 * np.arange(200)
WAVE = np.sin(TIME)


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_pyplot_is_not_imported():
    code = (
        "import sys, numpy as np\nfrom kalmanssl import plotting\n"
        "plotting.plot_raster(np.ones((9, 2)), np.arange(9.0)).figure.savefig('/dev/null', format='png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_figures_are_drawn_into_the_given_axes():
    mine = plotting.new_axes()[0]
    assert plotting.plot_eigenvalues(np.eye(2), ax=mine) is mine
    assert plotting.plot_eigenvalues(np.eye(2)) is not mine


def test_raster_has_one_mark_per_bin_with_spikes():
    counts = np.random.default_rng(0).poisson(0.2, (200, 7))
    order = np.array([3, 1, 0, 2, 6, 5, 4])
    marks = plotting.plot_raster(counts, TIME, order).lines[0].get_xydata().reshape(-1, 3, 2)
    assert len(marks) == (counts > 0).sum()
    middle = marks[:, :2].mean(axis=1)
    assert np.isnan(marks[:, 2]).all()
    for row, unit in enumerate(order):
        here = np.abs(middle[:, 1] - (row + 1)) < 1e-9
        np.testing.assert_allclose(middle[here, 0], TIME[counts[:, unit] > 0])
    with pytest.raises(InputError, match=r"counts has shape \(200, 7\)"):
        plotting.plot_raster(counts, TIME[1:])


def test_units_are_ordered_by_the_position_of_their_peak_rate():
    rng = np.random.default_rng(1)
    position = rng.uniform(0, 1, 20000)
    centers = rng.permutation(np.linspace(0.05, 0.95, 10))
    counts = rng.poisson(2 * np.exp(-0.5 * ((position[:, None] - centers) / 0.05) ** 2))
    position[::50] = np.nan
    np.testing.assert_array_equal(order_by_peak(counts, position), np.argsort(centers))
    np.testing.assert_array_equal(order_by_peak(counts, np.full(20000, np.nan)), np.arange(10))


def test_decoded_behavior_is_drawn_with_interval_and_tracked_behavior():
    axes = plotting.plot_decoded(TIME, WAVE, WAVE - 0.5, WAVE + 0.25, -WAVE, level=0.8, name="x", unit="m")
    np.testing.assert_allclose(lines(axes)["decoded"][:, 1], WAVE)
    np.testing.assert_allclose(lines(axes)["tracked"][:, 1], -WAVE)
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(WAVE.min() - 0.5)
    assert band[:, 1].max() == pytest.approx(WAVE.max() + 0.25)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["80 % interval", "decoded", "tracked"]
    assert axes.get_ylabel() == "x (m)"


def test_lines_are_interrupted_at_gaps():
    time = np.concatenate([TIME[:50], TIME[100:]])
    drawn = lines(plotting.plot_decoded(time, *[np.ones(150)] * 3))["decoded"]
    assert np.isnan(drawn[50, 1])
    assert np.isfinite(drawn[:50]).all()
    assert np.isfinite(drawn[51:]).all()


def test_bins_that_the_decoder_was_not_fitted_for_are_faint():
    where = np.arange(200) < 80
    axes = plotting.plot_decoded(TIME, WAVE, WAVE - 1, WAVE + 1, where=where)
    strong = lines(axes)["decoded"][:, 1]
    assert np.isfinite(strong[:80]).all()
    assert np.isnan(strong[80:]).all()
    assert min(line.get_alpha() for line in axes.lines) < 0.5


def test_lines_of_circular_behavior_are_interrupted_at_jumps():
    angle = (np.linspace(0, 1000, 200)) % 360
    axes = plotting.plot_decoded(TIME, angle, angle - 10, angle + 10, period=360.0)
    drawn = lines(axes)["decoded"][:, 1]
    assert np.isnan(drawn).sum() == 2
    assert axes.get_ylim() == (0, 360)
    assert len(axes.collections) == 3


def test_principal_axes_recover_a_plane_with_a_reproducible_sign():
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0][:, :2]
    points = rng.normal(size=(500, 2)) * [5, 2] @ basis.T + 0.01 * rng.normal(size=(500, 6)) + 3
    axes = principal_axes(points, dims=2)
    np.testing.assert_allclose(np.abs(axes.T @ basis), np.eye(2), atol=0.1)
    np.testing.assert_allclose(axes, principal_axes(points[::-1], dims=2), atol=1e-6)
    largest = np.abs(axes).argmax(axis=0)
    assert (axes[largest, [0, 1]] > 0).all()


def test_latents_with_unknown_behavior_are_not_drawn():
    latents = np.random.default_rng(3).normal(size=(200, 3))
    color = np.where(np.arange(200) % 4 == 0, np.nan, WAVE)
    points = plotting.plot_latents(latents, color, dims=(0, 2)).collections[0]
    np.testing.assert_allclose(points.get_offsets(), latents[np.isfinite(color)][:, [0, 2]])
    np.testing.assert_allclose(points.get_array(), color[np.isfinite(color)])


def test_latents_have_a_color_bar_unless_it_is_left_out():
    latents = np.random.default_rng(3).normal(size=(200, 3))
    counts = [len(plotting.plot_latents(latents, WAVE, color_bar=bar).figure.axes) for bar in (True, False)]
    assert counts == [2, 1]


def test_noise_is_drawn_as_standard_deviation():
    axes = plotting.plot_noise(TIME, np.tile([4.0, 9.0, 16.0], (200, 1)))
    np.testing.assert_allclose(lines(axes)["median channel"][:, 1], 3.0)


@pytest.mark.parametrize("period", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("decay", [0.3, 5.0])
def test_time_constants_equal_period_and_decay_of_the_system(period, decay):
    step = 0.1
    angle, radius = 2 * np.pi * step / period, np.exp(-step / decay)
    turn = radius * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mixed = np.array([[1.0, 0.4], [-0.2, 1.0]])
    rows = time_constants(mixed @ turn @ np.linalg.inv(mixed), step)
    assert len(rows) == 1
    assert rows[0]["period_s"] == pytest.approx(period)
    assert rows[0]["decay_s"] == pytest.approx(decay)
    assert rows[0]["modulus"] == pytest.approx(radius)


def test_time_constants_of_real_and_of_growing_eigenvalues():
    rows = time_constants(np.diag([1.0, 1.01, 0.5, -0.5, 0.0]), 2.0)
    by_value = {round(row["real"], 3): row for row in rows}
    assert by_value[1.0]["period_s"] == by_value[1.0]["decay_s"] == float("inf")
    assert by_value[1.01]["decay_s"] == float("inf")
    assert by_value[0.5]["decay_s"] == pytest.approx(2 / np.log(2))
    assert by_value[-0.5]["period_s"] == pytest.approx(4.0)
    assert by_value[0.0]["decay_s"] == 0.0
    assert [row["modulus"] for row in rows] == sorted((row["modulus"] for row in rows), reverse=True)


def test_eigenvalues_are_drawn_with_the_unit_circle():
    axes = plotting.plot_eigenvalues(np.array([[0.0, -0.5], [0.5, 0.0]]))
    np.testing.assert_allclose(np.sort(axes.collections[0].get_offsets()[:, 1]), [-0.5, 0.5])
    np.testing.assert_allclose(np.hypot(*axes.lines[0].get_xydata().T), 1.0)


def test_calibration_draws_shares_in_percent_from_zero():
    curve = {"nominal": [0.5, 0.9], "empirical": [0.4, 0.95], "error": [0.05, 0.01]}
    axes = plotting.plot_calibration({"running": curve})
    np.testing.assert_allclose(lines(axes)["running"], [[0, 0], [50, 40], [90, 95]])
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(96)


def test_confusion_columns_follow_the_truth():
    truth = np.repeat([0.5, 9.5], [30, 10])
    axes = plotting.plot_decoded_against_tracked(np.where(truth < 5, 9.5, 0.5), truth, cells=10)
    alpha = axes.images[0].get_array()[..., 3]
    assert alpha[9, 0] == pytest.approx(1)
    assert alpha[0, 9] == pytest.approx(1)
    assert alpha.sum() == pytest.approx(2)


def test_training_draws_only_recorded_losses():
    axes = plotting.plot_training({"loss": [3.0, 2.0, 1.0], "held_out_loss": []})
    np.testing.assert_allclose(lines(axes)["training data"], [[1, 3], [2, 2], [3, 1]])
    assert "held-out blocks" not in lines(axes)


def test_ring_is_drawn_with_the_circle_of_mean_radius():
    angle = np.linspace(0, 6, 200)
    coordinates = 3 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    axes = plotting.plot_ring(coordinates, np.where(np.arange(200) % 4 == 0, np.nan, WAVE))
    np.testing.assert_allclose(np.linalg.norm(axes.lines[0].get_xydata(), axis=1), 3.0)
    assert len(axes.collections[0].get_offsets()) == 150


def test_phase_is_drawn_over_time_where_the_behavior_is_known():
    axes = plotting.plot_phase(TIME, WAVE, np.where(np.arange(200) < 20, np.nan, TIME))
    np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([TIME, WAVE], axis=1)[20:])
    assert len(plotting.plot_phase(TIME, WAVE).collections[0].get_offsets()) == 200


def test_conditions_are_drawn_as_mean_and_standard_error():
    rng = np.random.default_rng(0)
    lag = np.arange(-5, 10) * 0.1
    values = rng.normal(size=(30, 15)) + np.repeat([0.0, 3.0, 9.0], 10)[:, None]
    values[:3, 12:] = np.nan
    condition = np.array(["left"] * 10 + ["right"] * 10 + [None] * 10, dtype=object)
    ax = plot_by_condition(lag, values, condition, name="state 1")
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines if not line.get_label().startswith("_")}
    assert list(drawn) == ["left (10)", "right (10)"]
    np.testing.assert_allclose(drawn["left (10)"], np.nanmean(values[:10], axis=0))
    band = ax.collections[1].get_paths()[0].vertices[:, 1]
    half = values[10:20].std(axis=0, ddof=1) / np.sqrt(10)
    assert np.isclose(band.max(), (values[10:20].mean(axis=0) + half).max())
    assert plot_by_condition(lag, values, condition, ax=ax) is ax
    with pytest.raises(InputError, match="select one dimension"):
        plot_by_condition(lag, values[:, :, None], condition)
    with pytest.raises(InputError, match="give one for each of 30 events"):
        plot_by_condition(lag, values, condition[:5])
    with pytest.raises(InputError, match="unknown for all events"):
        plot_by_condition(lag, values, [None] * 30)


def test_signals_are_drawn_in_shades_and_spikes_as_marks():
    time = np.arange(50) * 0.1
    signal = np.sin(np.arange(50)[:, None] / np.array([3.0, 5.0]))
    axes = plotting.plot_raster(signal, time)
    (image,) = axes.images
    alpha = image.get_array()[..., 3]
    assert alpha.shape == (2, 50)
    assert alpha[0, signal[:, 0].argmax()] == pytest.approx(1)
    assert alpha[0, signal[:, 0].argmin()] == 0
    assert not axes.lines
    assert not plotting.plot_raster(np.abs(signal), time).images
    assert plotting.plot_raster(np.abs(signal), time, signal=True).images


def test_angles_from_minus_half_a_turn_on_are_drawn_between_zero_and_the_period():
    angle = np.linspace(-170.0, 170.0, 60)
    axes = plotting.plot_decoded(np.arange(60) * 0.1, angle, angle - 5, angle + 5, angle, period=360.0)
    for name in ("decoded", "tracked"):
        drawn = lines(axes)[name][:, 1]
        np.testing.assert_allclose(drawn[0], 190.0)
        assert np.nanmin(drawn) >= 0
    assert axes.collections[0].get_paths()[0].vertices[:, 1].max() > 190
    confusion = plotting.plot_decoded_against_tracked(angle % 360, angle, period=360.0, cells=12)
    alpha = confusion.images[0].get_array()[..., 3]
    assert (np.diag(alpha)[alpha.any(axis=0)] == 1).all()


def test_the_color_of_latents_is_a_number_for_each_bin():
    values = np.zeros((5, 2))
    with pytest.raises(InputError, match="color must be numbers"):
        plotting.plot_latents(values, "position")
    with pytest.raises(InputError, match=r"color must have the shape \(5,\), not \(4,\)"):
        plotting.plot_latents(values, np.zeros(4))


def test_axes_of_a_new_figure_are_shown_by_notebooks():
    axes = plotting.plot_latents(np.random.default_rng(0).normal(size=(9, 2)), np.arange(9.0))
    assert axes._repr_png_().startswith(b"\x89PNG")


def test_the_band_of_an_angle_is_interrupted_where_the_angle_passes_zero():
    angle = np.array([340.0, 350.0, 5.0, 15.0])
    axes = plotting.plot_decoded(np.arange(4) * 0.1, angle, angle - 20, angle + 20, period=360.0)
    np.testing.assert_array_equal(lines(axes)["decoded"][:, 1], [340, 350, np.nan, 5, 15])
    for band in axes.collections:  # no polygon spans from one edge of the circle to the other
        assert all(np.ptp(path.vertices[:, 1]) < 100 for path in band.get_paths())
