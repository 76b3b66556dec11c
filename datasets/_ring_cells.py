"""A simulated recording of head-direction cells whose firing rates share a gain that fluctuates."""

from __future__ import annotations

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.datasets._ornstein_uhlenbeck import ornstein_uhlenbeck
from kalmanssl.utils.validation import check_condition, check_integer, check_positive, check_seed

__all__ = ["ring_cells"]

_SPEED = 1.5  # rad/s, standard deviation of the angular velocity
_SPEED_TIME = 0.5  # s, correlation time of the angular velocity
_CONCENTRATION = 3.0  # of the tuning curves
_BASELINE = 0.5  # spikes/s


def ring_cells(
    n_units: int = 40,
    duration: float = 600.0,
    random_state: int | None = 0,
    bin_size: float = 0.025,
    peak_rate: float = 10.0,
    gain_sd: float = 1.0,
    gain_time: float = 2.0,
) -> Recording:
    """Simulate head-direction cells with a common gain, so that the noise of the population varies in a known way.

    The counts are Poisson with the rates

        rate(t) = gain(t) * (0.5 + peak_rate * exp(3 (cos(angle(t) - preferred) - 1)))

    The angular velocity and the logarithm of the gain are independent Ornstein-Uhlenbeck processes. The gain says
    nothing about the angle; the variance of the pattern of activity is about inversely proportional to it.

    Parameters
    ----------
    n_units : int
        Number of cells, with equally spaced preferred directions.
    duration : float
        Length of the recording, seconds; rounded down to whole bins.
    random_state : int or None
        Seed; the same seed gives the same recording, None a different one each time.
    bin_size : float
        Width of a bin, seconds.
    peak_rate : float
        Rate of a cell at its preferred direction with a gain of one, above the baseline, spikes per second.
    gain_sd : float
        Standard deviation of the logarithm of the gain; 0 for a constant gain.
    gain_time : float
        Correlation time of the logarithm of the gain, seconds.

    Returns
    -------
    Recording
        With behavior "head_direction" (radians, 0 to 2π), "gain", and "rate" (time, units), the rate of each cell in
        spikes per second.

    Raises
    ------
    InputError
        If an argument is out of range.
    """
    check_integer("n_units", n_units, 1)
    check_positive("bin_size", bin_size)
    check_condition("duration", duration, bin_size <= duration < np.inf, f"at least one bin, {bin_size:g} s")
    check_positive("peak_rate", peak_rate)
    check_condition("gain_sd", gain_sd, 0 <= gain_sd < np.inf, "0 or more")
    check_positive("gain_time", gain_time)
    check_seed(random_state)
    rng = np.random.default_rng(random_state)
    bins = int(duration / bin_size + 1e-9)
    time = bin_size * (np.arange(bins) + 0.5)
    pull = np.array([1 / _SPEED_TIME, 1 / gain_time])
    unit_variance = np.sqrt(2 * pull)
    velocity, log_gain = ornstein_uhlenbeck(bins, pull, unit_variance, bin_size, int(rng.integers(2**31))).T
    angle = (2 * np.pi * rng.random() + np.cumsum(_SPEED * velocity) * bin_size) % (2 * np.pi)
    gain = np.exp(gain_sd * log_gain)
    preferred = 2 * np.pi * np.arange(n_units) / n_units
    tuning = _BASELINE + peak_rate * np.exp(_CONCENTRATION * (np.cos(angle[:, None] - preferred) - 1))
    rate = gain[:, None] * tuning
    return Recording.from_arrays(
        rng.poisson(rate * bin_size),
        time=time,
        bin_size=bin_size,
        behavior={"head_direction": angle, "gain": gain, "rate": rate},
    )
