"""The simulated head-direction cells with a common gain: rates, gain, seeds and errors."""

import numpy as np
import pytest

from kalmanssl.datasets import ring_cells
from kalmanssl.errors import InputError


def test_counts_are_poisson_with_the_rates_that_are_returned():
    rec = ring_cells(n_units=20, duration=500.0, random_state=1)
    expected = rec.behavior["rate"] * rec.bin_size
    z = (rec.activity.sum(0) - expected.sum(0)) / np.sqrt(expected.sum(0))
    assert np.abs(z).max() < 4
    dispersion = ((rec.activity - expected) ** 2).sum() / expected.sum()
    assert dispersion == pytest.approx(1.0, abs=0.05)
    assert rec.behavior["rate"].shape == rec.activity.shape == (20000, 20)


def test_rates_are_the_product_of_the_gain_and_the_tuning():
    rec = ring_cells(n_units=8, duration=100.0, peak_rate=20.0, random_state=2)
    angle, gain = rec.behavior["head_direction"], rec.behavior["gain"]
    preferred = np.arange(8) * np.pi / 4
    tuning = 0.5 + 20.0 * np.exp(3 * (np.cos(angle[:, None] - preferred) - 1))
    np.testing.assert_allclose(rec.behavior["rate"], gain[:, None] * tuning)
    assert angle.min() >= 0
    assert angle.max() < 2 * np.pi


def test_the_gain_has_the_standard_deviation_and_the_correlation_time_that_are_given():
    rec = ring_cells(n_units=2, duration=20_000.0, bin_size=0.1, gain_sd=0.7, gain_time=3.0, random_state=3)
    log_gain = np.log(rec.behavior["gain"])
    assert log_gain.std() == pytest.approx(0.7, rel=0.05)
    assert np.corrcoef(log_gain[30:], log_gain[:-30])[0, 1] == pytest.approx(np.exp(-1), abs=0.04)
    constant = ring_cells(n_units=2, duration=10.0, gain_sd=0.0)
    np.testing.assert_array_equal(constant.behavior["gain"], 1.0)


def test_the_gain_does_not_depend_on_the_angle():
    rec = ring_cells(n_units=2, duration=20_000.0, bin_size=0.1, random_state=4)
    log_gain, angle = np.log(rec.behavior["gain"]), rec.behavior["head_direction"]
    assert abs(np.corrcoef(log_gain, np.cos(angle))[0, 1]) < 0.05
    assert abs(np.corrcoef(log_gain, np.sin(angle))[0, 1]) < 0.05


def test_the_seed_determines_the_recording():
    one, two, other = (ring_cells(n_units=5, duration=10.0, random_state=seed) for seed in (5, 5, 6))
    assert one.activity.tobytes() == two.activity.tobytes()
    assert one.activity.tobytes() != other.activity.tobytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_units": 0}, "n_units must be a whole number, at least 1"),
        ({"duration": 0.01}, "duration must be at least one bin"),
        ({"bin_size": 0.0}, "bin_size must be positive"),
        ({"peak_rate": -1.0}, "peak_rate must be positive"),
        ({"gain_sd": -0.1}, "gain_sd must be 0 or more"),
        ({"gain_time": 0.0}, "gain_time must be positive"),
    ],
)
def test_wrong_arguments_raise_an_error_that_names_them(settings, message):
    with pytest.raises(InputError, match=message):
        ring_cells(**settings)
