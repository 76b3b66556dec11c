"""Co-smoothing of a fitted model on simulated head-direction cells with known rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kalmanssl import KalmanSSL
from kalmanssl.datasets import ring_cells
from kalmanssl.errors import InputError
from kalmanssl.probes import bits_per_spike
from kalmanssl.units import score_held_out_units

SMALL = {
    "latent_dim": 4, "state_dim": 6, "hidden": (16,), "bins_per_step": 4, "window": 40, "batch_size": 32, "epochs": 2,
    "steps_per_epoch": 20, "progress": False, "random_state": 0, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def parts():
    recording = ring_cells(n_units=24, duration=240, random_state=1)
    return recording.split(180.0)


@pytest.fixture(scope="module")
def scored(parts):
    return score_held_out_units(KalmanSSL(**SMALL), *parts)


def test_score_is_above_zero_and_below_that_of_the_true_rates(parts, scored):
    found, names = scored
    columns = [parts[1].unit_ids.index(name) for name in names]
    rate = parts[1].behavior["rate"][:, columns] * parts[1].bin_size
    best = bits_per_spike(rate, parts[1].activity[:, columns])
    assert len(names) == 6
    assert 0.3 * best.score < found.score < best.score


def test_held_out_units_do_not_enter_the_model(parts, scored):
    """Other test counts of the held-out units change their score, but not the predicted rates."""
    found, names = scored
    columns = [parts[1].unit_ids.index(name) for name in names]
    activity = parts[1].activity.copy()
    activity[:, columns] = np.roll(activity[:, columns], 700, axis=0)
    changed, _ = score_held_out_units(KalmanSSL(**SMALL), parts[0], replace(parts[1], activity=activity), list(names))
    np.testing.assert_array_equal(changed.rate, found.rate)
    assert changed.score < 0.3 * found.score


def test_unusable_input_is_named(parts):
    training, test = parts
    for given, message in (
        ((training, replace(test, kind="signal")), "test is a signal: bits per spike are defined for counts"),
        ((training, replace(test, unit_ids=tuple(f"x{i}" for i in range(24)))), "test has other units than training"),
        ((training, test, 1.5), "held_out must be a fraction between 0 and 1"),
        ((training, test, ["nobody"]), "there is no unit 'nobody'"),
        ((training, test, list(training.unit_ids)), "held_out leaves 0 units for the model"),
    ):
        with pytest.raises(InputError, match=message):
            score_held_out_units(KalmanSSL(**SMALL), *given)
