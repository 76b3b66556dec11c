from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kalmanssl.data import Recording
from kalmanssl.datasets import place_cells
from kalmanssl.errors import InputError

N_CELLS = 60
TRACK = 1.6


@pytest.fixture(scope="module")
def rec() -> Recording:
    return place_cells(n_units=N_CELLS, duration=1200.0, random_state=0)


def occupancy_rates(rec: Recording, keep: np.ndarray, n_places: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Rate (units, places) in spikes/s and share of time (places,) over the bins that are kept."""
    place = np.minimum((rec.behavior["position"][keep] / TRACK * n_places).astype(int), n_places - 1)
    visits = np.bincount(place, minlength=n_places)
    sums = [np.bincount(place, c, minlength=n_places) for c in rec.activity[keep, :N_CELLS].T]
    return np.array(sums) / np.maximum(visits, 1) / rec.bin_size, visits / visits.sum()


def running(rec: Recording) -> np.ndarray:
    return rec.behavior["direction"] != 0


def test_same_seed_same_bytes() -> None:
    one, two = (place_cells(n_units=8, duration=60.0, random_state=5) for _ in range(2))
    other = place_cells(n_units=8, duration=60.0, random_state=6)
    assert one.activity.tobytes() == two.activity.tobytes()
    assert one.time.tobytes() == two.time.tobytes()
    for name in one.behavior:
        assert one.behavior[name].tobytes() == two.behavior[name].tobytes()
    assert one.spike_times is not None
    assert two.spike_times is not None
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one.spike_times, two.spike_times, strict=True))
    assert one.activity.tobytes() != other.activity.tobytes()


def test_the_bin_size_does_not_change_the_spikes() -> None:
    fine, coarse = (place_cells(n_units=4, duration=60.0, bin_size=b) for b in (0.01, 0.05))
    np.testing.assert_array_equal(fine.activity.reshape(-1, 5, fine.n_units).sum(axis=1), coarse.activity)


def test_shape_clock_and_labels(rec: Recording) -> None:
    assert rec.activity.shape == (48_000, N_CELLS + 6)
    assert rec.duration == pytest.approx(1200.0)
    assert rec.time[0] == pytest.approx(3600.0125)
    np.testing.assert_allclose(rec.epochs["MazeEpoch"], [[3600.0, 4800.0]])
    assert rec.cell_type == ("excitatory",) * N_CELLS + ("inhibitory",) * 6
    assert len(set(rec.unit_ids)) == rec.n_units
    assert len(rec.segments()) == 1


def test_the_rat_runs_the_whole_track_and_rests_at_its_ends(rec: Recording) -> None:
    position, speed, direction = (rec.behavior[name] for name in ("position", "speed", "direction"))
    assert position.min() >= 0
    assert position.max() <= TRACK
    moving = running(rec)
    assert 0.2 < moving.mean() < 0.6
    assert np.abs(position[~moving] - TRACK / 2).min() > 0.4 * TRACK
    assert np.median(speed[moving]) > 0.3
    assert np.percentile(speed[~moving], 95) < 0.05
    # The sign of the true velocity is the direction, and speed is its size.
    velocity = np.gradient(position, rec.bin_size)
    fast = moving & (speed > 0.1)
    assert (np.sign(velocity[fast]) == direction[fast]).mean() > 0.99
    assert np.corrcoef(np.abs(velocity), speed)[0, 1] > 0.99
    assert 80 < (np.diff(direction) == 1).sum() + (np.diff(direction) == -1).sum() < 400


def test_rates_are_those_of_hippocampus(rec: Recording) -> None:
    mean = rec.activity.mean(axis=0) / rec.bin_size
    assert 0.3 < np.median(mean[:N_CELLS]) < 2.0
    assert mean[:N_CELLS].max() < 8
    assert mean[N_CELLS:].min() > 5
    rate, _ = occupancy_rates(rec, running(rec))
    assert 4 < np.median(rate.max(axis=1)) < 20


def test_fields_carry_spatial_information(rec: Recording) -> None:
    rate, share = occupancy_rates(rec, rec.behavior["direction"] == 1)
    active = (rate @ share) > 0.3
    assert active.mean() > 0.5
    relative = rate[active] / (rate[active] @ share)[:, None]
    information = (share * relative * np.log2(np.maximum(relative, 1e-12))).sum(axis=1)
    # Skaggs et al. (1993), bits per spike; place cells have 0.5 to 3.
    assert 0.7 < np.median(information) < 3


def test_fields_depend_on_the_direction(rec: Recording) -> None:
    out, back = (occupancy_rates(rec, rec.behavior["direction"] == d)[0].max(axis=1) for d in (1, -1))
    index = np.abs(out - back) / (out + back)
    assert 0.25 < np.median(index) < 0.8
    assert (out > back).mean() == pytest.approx(0.5, abs=0.25)


def spectrum_peak(times: np.ndarray, keep: list[tuple[float, float]]) -> tuple[float, float]:
    """Frequency of the highest peak from 4 to 14 Hz, and the power at theta over that beside it; windows of 2 s."""
    origin = times[0]
    whole = np.bincount(((times - origin) / 0.005).astype(int))
    power = []
    for start, stop in keep:
        for a in np.arange(start, stop - 2.0, 1.0):
            first = int((a - origin) / 0.005)
            train = whole[max(first, 0) :][:400]
            if len(train) < 400:
                continue
            power.append(np.abs(np.fft.rfft((train - train.mean()) * np.hanning(len(train)))) ** 2)
    frequency = np.fft.rfftfreq(400, 0.005)
    band = (frequency >= 4) & (frequency <= 14)
    mean = np.mean(power, axis=0)
    theta = np.abs(frequency - 8.0) <= 0.5
    beside = np.abs(np.abs(frequency - 8.0) - 2.5) <= 0.5
    return frequency[band][mean[band].argmax()], mean[theta].mean() / mean[beside].mean()


def spells(rec: Recording, moving: bool) -> list[tuple[float, float]]:
    mask = np.concatenate([[False], running(rec) == moving, [False]])
    borders = np.flatnonzero(np.diff(mask.astype(int))).reshape(-1, 2)
    return [(rec.time[a], rec.time[b - 1]) for a, b in borders]


@pytest.mark.parametrize("cells", [slice(0, N_CELLS), slice(N_CELLS, None)])
def test_theta_when_running_and_not_at_rest(rec: Recording, cells: slice) -> None:
    assert rec.spike_times is not None
    pooled = np.sort(np.concatenate(rec.spike_times[cells]))
    frequency, height = spectrum_peak(pooled, spells(rec, True))
    assert frequency == pytest.approx(8.0, abs=0.6)
    assert height > 3
    assert spectrum_peak(pooled, spells(rec, False))[1] < 2


def test_phase_precession(rec: Recording) -> None:
    """A cell bursts faster than the rhythm of the population, so that its phase advances through the field."""
    assert rec.spike_times is not None
    lags = np.arange(0.02, 0.25, 0.0025)
    single = np.zeros(len(lags) - 1)
    windows = spells(rec, True)
    for times in rec.spike_times[:N_CELLS]:
        for a, b in windows:
            inside = times[np.searchsorted(times, a) : np.searchsorted(times, b)]
            delay = (inside[None, :] - inside[:, None])[np.triu_indices(len(inside), 1)]
            single += np.histogram(delay, lags)[0]
    smooth = np.convolve(single, np.ones(7) / 7, mode="same")
    center = (lags[:-1] + lags[1:]) / 2
    near = (center > 0.08) & (center < 0.16)
    period = center[near][smooth[near].argmax()]
    assert 0.1 < period < 0.121


def test_bursts_at_rest_replay_the_track(rec: Recording) -> None:
    cells = rec.activity[:, :N_CELLS].sum(axis=1)
    at_rest = ~running(rec)
    burst = at_rest & (cells > 12)
    per_second = burst.sum() / (at_rest.sum() * rec.bin_size)
    assert 0.1 < per_second < 3
    quiet = place_cells(n_units=N_CELLS, duration=300.0, replay_rate=0.0)
    assert quiet.activity[quiet.behavior["direction"] == 0, :N_CELLS].sum(axis=1).max() <= 6
    # Each bin of a burst is read as a place: the places of a burst lie in the order of the track.
    rate = [occupancy_rates(rec, rec.behavior["direction"] == d)[0] for d in (1, -1)]
    tuning = np.concatenate(rate, axis=1) + 0.3
    starts = np.flatnonzero(burst & ~np.roll(burst, 1))
    aligned = []
    for s in starts:
        window = slice(s - 1, s + 5)
        active = np.flatnonzero(cells[window] >= 5)
        if len(active) < 4:
            continue
        read = (rec.activity[window, :N_CELLS][active] @ np.log(tuning) - 0.1 * tuning.sum(axis=0)).argmax(axis=1) % 20
        aligned.append(np.abs(np.corrcoef(active, read)[0, 1]) if np.ptp(read) else 0.0)
    assert len(aligned) > 30
    assert np.median(aligned) > 0.85


def test_excitability_drifts(rec: Recording) -> None:
    def change(recording: Recording) -> np.ndarray:
        moving = np.flatnonzero(running(recording))
        thirds = np.array_split(moving, 3)
        first, last = (recording.activity[part, :N_CELLS].sum(axis=0) for part in (thirds[0], thirds[2]))
        enough = first + last > 60
        return np.log((last + 1) / (first + 1))[enough]

    steady = place_cells(n_units=N_CELLS, duration=1200.0, drift=0.0)
    assert change(rec).std() > 0.35
    assert change(steady).std() < 0.25


def test_position_is_decodable_and_drift_costs_little(rec: Recording) -> None:
    """Place-field Bayes with a flat prior in windows of 250 ms (Zhang et al., 1998)."""
    train, test = rec.split(at=4400.0)
    fields = np.concatenate([occupancy_rates(train, train.behavior["direction"] == d)[0] for d in (1, -1)], axis=1)
    fields = np.maximum(fields, 0.1)
    window = np.ones(10)
    counts = np.array([np.convolve(c, window, mode="same") for c in test.activity[:, :N_CELLS].T]).T
    log_posterior = counts @ np.log(fields) - 0.25 * fields.sum(axis=0)
    decoded = (log_posterior.argmax(axis=1) % 20 + 0.5) / 20 * TRACK
    error = np.abs(decoded - test.behavior["position"])[running(test)]
    assert 0.01 < np.median(error) < 0.1


def test_round_trip_through_nwb(tmp_path: Path) -> None:
    rec = place_cells(n_units=5, duration=60.0, n_interneurons=2)
    rec.to_nwb(tmp_path / "rat.nwb")
    every = Recording.from_nwb(tmp_path / "rat.nwb", units="all", behavior=["position", "speed", "direction"])
    np.testing.assert_array_equal(every.activity, rec.activity)
    np.testing.assert_allclose(every.time, rec.time, rtol=0, atol=1e-9)
    for name, values in rec.behavior.items():
        np.testing.assert_allclose(every.behavior[name], values, atol=1e-9)
    plain = Recording.from_nwb(tmp_path / "rat.nwb")
    assert (plain.n_units, list(plain.behavior), list(plain.epochs)) == (5, ["position"], ["MazeEpoch"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_units": 0}, "n_units must be at least 1; got 0"),
        ({"duration": 0.01}, "duration must be at least one bin, 0.025 s; got 0.01"),
        ({"duration": float("nan")}, "duration must be"),
        ({"track_length": -1.0}, "track_length must be positive"),
        ({"drift": -0.1}, "drift must be 0 or more"),
        ({"bin_size": 0}, "bin_size must be positive"),
        ({"start_time": float("inf")}, "start_time must be a finite"),
        ({"random_state": -1}, "random_state must be a whole number, at least 0; got -1"),
    ],
)
def test_numbers_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        place_cells(**arguments)


def test_twenty_minutes_take_seconds() -> None:
    start = time.process_time()
    place_cells(n_units=80, duration=1200.0)
    # One second of processor time here; four times that means that something is wrong.
    assert time.process_time() - start < 4.0
