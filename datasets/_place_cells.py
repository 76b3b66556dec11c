"""A simulated recording from hippocampus: a rat on a linear track, its place cells and interneurons.

The simulation has place fields that differ between the two running directions, theta rhythm with phase precession while
the rat runs, replay bursts of about a tenth of a second while it rests at the ends of the track, and cells whose
excitability drifts over minutes, so that a decoder fitted on the first half is tested on a changed code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from scipy.special import i0e

from kalmanssl.data import Recording, count_events
from kalmanssl.utils.validation import check_condition, check_positive, check_seed

__all__ = ["place_cells"]

_STEP = 0.005  # s, time step of the movement
_THETA = 8.0  # Hz
_CELL_LOCKING = 1.5  # concentration of the von Mises distribution of spikes over theta phase
_INTERNEURON_LOCKING = 0.8
_PRECESSION = 0.5 * np.pi  # rad of theta phase per advance by two widths of the field
_REST_RATE = 0.1  # spikes/s of a place cell outside its fields
_REPLAY_GAIN = 4.0  # ratio of the rate in a replay to the rate while running through the field
_DRIFT_TIME = 400.0  # s, correlation time of the excitability


def place_cells(
    n_units: int = 80,
    duration: float = 1200.0,
    random_state: int | None = 0,
    bin_size: float = 0.025,
    n_interneurons: int = 6,
    track_length: float = 1.6,
    drift: float = 0.4,
    replay_rate: float = 0.4,
    start_time: float = 3600.0,
) -> Recording:
    """Simulate a rat that runs back and forth on a linear track, with the spikes of its place cells.

    Spikes are inhomogeneous Poisson events. While the rat runs in one direction, a place cell fires at

        rate(t) = excitability(t) * peak * exp(-(x - center)^2 / (2 width^2)) * theta(t)

    where center and peak depend on the direction, and theta(t) is a von Mises factor around a phase that advances as
    the rat moves through the field (phase precession). At rest the cells are nearly silent, except for bursts of 80 to
    200 ms in which they fire as if the rat ran through a part of the track. The logarithm of the excitability of each
    cell is an independent Ornstein-Uhlenbeck process.

    Parameters
    ----------
    n_units : int
        Number of place cells ("excitatory").
    duration : float
        Length of the recording, seconds; rounded down to whole bins.
    random_state : int or None
        Seed; the same seed gives the same recording, None a different one each time.
    bin_size : float
        Width of a bin, seconds.
    n_interneurons : int
        Number of interneurons ("inhibitory"), listed after the place cells.
    track_length : float
        Length of the track, meters.
    drift : float
        Standard deviation of the logarithm of the excitability; 0 for no drift.
    replay_rate : float
        Replay bursts per second of rest; 0 for none.
    start_time : float
        Start in the session's clock, seconds.

    Returns
    -------
    Recording
        With behavior "position" (meters along the track), "speed" (meters per second) and "direction" (1
        when running to the far end, -1 when running back, 0 at rest), and the epoch "MazeEpoch".

    Raises
    ------
    InputError
        If an argument is out of range.
    """
    check_positive("bin_size", bin_size)
    check_condition("n_units", n_units, n_units >= 1, "at least 1")
    check_condition("n_interneurons", n_interneurons, n_interneurons >= 0, "0 or more")
    check_condition("duration", duration, bin_size <= duration < np.inf, f"at least one bin, {bin_size:g} s")
    check_condition("track_length", track_length, 0 < track_length < np.inf, "positive, meters")
    check_condition("drift", drift, 0 <= drift < np.inf, "0 or more")
    check_condition("replay_rate", replay_rate, 0 <= replay_rate < np.inf, "0 or more, bursts per second of rest")
    check_condition("start_time", start_time, np.isfinite(start_time), "a finite time in seconds")
    check_seed(random_state)
    rng = np.random.default_rng(random_state)
    rat = _run_back_and_forth(rng, duration, track_length)
    replays = _Replays.draw(rng, rat, track_length, replay_rate)
    fields = _Fields.draw(rng, n_units, track_length)
    # Excitability changes over minutes, so one value per second is enough.
    seconds = np.arange(int(np.ceil(duration)) + 1, dtype=float)
    excitability = np.exp(drift * _wander(rng, len(seconds), n_units, 1.0 / _DRIFT_TIME) - 0.5 * drift**2)

    spikes = []
    for unit in range(n_units):
        gain = excitability[:, unit]
        running = rat.runs.draw(rng, fields.highest(unit) * gain.max())
        rate = fields.rate(unit, rat.at(running)) * np.interp(running, seconds, gain)
        kept = [_thin(rng, running, rate, fields.highest(unit) * gain.max())]
        bound = _REPLAY_GAIN * fields.peak[unit].max() * gain.max()
        bursting = replays.spans.draw(rng, bound)
        replayed, direction = replays.at(bursting)
        rate = _REPLAY_GAIN * fields.tuning(unit, replayed, direction) * np.interp(bursting, seconds, gain)
        kept += [_thin(rng, bursting, rate, bound), _Spans.whole(duration).draw(rng, _REST_RATE)]
        spikes.append(start_time + np.sort(np.concatenate(kept)))
    for _ in range(n_interneurons):
        spikes.append(start_time + _interneuron(rng, rat, replays, duration))

    stop = start_time + duration
    counts, time, counted = count_events(spikes, [(start_time, stop)], bin_size)
    moment = rat.at(time - start_time)
    return Recording(
        activity=counts,
        time=time,
        bin_size=float(bin_size),
        unit_ids=tuple(str(1 + unit) for unit in range(n_units + n_interneurons)),
        behavior={"position": moment.position, "speed": moment.speed, "direction": moment.direction},
        behavior_unit={"position": "meters", "speed": "meters/second", "direction": ""},
        epochs={"MazeEpoch": np.array([[start_time, stop]])},
        spike_times=counted,
        cell_type=("excitatory",) * n_units + ("inhibitory",) * n_interneurons,
        source=f"place_cells(random_state={random_state})",
        notes=("simulated",),
    )


def _wander(rng: np.random.Generator, steps: int, paths: int, pull: float) -> np.ndarray:
    """Stationary Ornstein-Uhlenbeck paths of unit variance, (steps, paths); pull is step / correlation time."""
    keep = np.exp(-pull)
    noise = rng.standard_normal((steps, paths))
    noise[1:] *= np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], noise, axis=0)


def _thin(rng: np.random.Generator, times: np.ndarray, rate: np.ndarray, bound: float) -> np.ndarray:
    """Keep each candidate with probability rate / bound."""
    return times[rng.random(len(times)) * bound < rate]


@dataclass(frozen=True)
class _Spans:
    """Intervals of time, seconds from the start of the recording, (n,) each."""

    start: np.ndarray
    stop: np.ndarray

    @classmethod
    def whole(cls, duration: float) -> _Spans:
        return cls(np.zeros(1), np.array([duration]))

    def draw(self, rng: np.random.Generator, rate: float) -> np.ndarray:
        """Draw events of a Poisson process with constant rate inside the intervals, sorted, seconds."""
        ends = np.cumsum(self.stop - self.start)
        total = ends[-1] if len(ends) else 0.0
        passed = np.sort(rng.uniform(0, total, rng.poisson(rate * total)))
        span = np.searchsorted(ends, passed, side="right").clip(max=len(ends) - 1)
        return self.stop[span] - (ends[span] - passed) if len(passed) else passed

    def which(self, times: np.ndarray) -> np.ndarray:
        """Return the index of the interval that contains each time; -1 before the first."""
        return np.searchsorted(self.start, times, side="right") - 1


@dataclass(frozen=True)
class _Moment:
    """State of the rat at given times: position (m), speed (m/s), direction (-1, 0, 1), theta phase (rad)."""

    position: np.ndarray
    speed: np.ndarray
    direction: np.ndarray
    phase: np.ndarray


@dataclass(frozen=True)
class _Rat:
    """Trajectory of the rat on a fine time grid (all (steps,)), and the intervals of running and rest."""

    grid: np.ndarray
    position: np.ndarray
    speed: np.ndarray
    phase: np.ndarray
    runs: _Spans
    rests: _Spans

    def at(self, times: np.ndarray) -> _Moment:
        run = self.runs.which(times)
        # Runs alternate between outward and back.
        direction = np.where(run < 0, 0.0, 1.0 - 2.0 * (run % 2))
        if len(self.runs.start):
            direction[times >= self.runs.stop[run]] = 0.0
        return _Moment(
            np.interp(times, self.grid, self.position),
            np.interp(times, self.grid, self.speed),
            direction,
            np.interp(times, self.grid, self.phase),
        )


def _run_back_and_forth(rng: np.random.Generator, duration: float, length: float) -> _Rat:
    """Simulate rest at one end, a run to the other end with varying speed, rest there, and so on."""
    n_steps = int(np.ceil(duration / _STEP)) + 2
    pieces: list[np.ndarray] = []
    runs, rests = [], []
    here, far, done = 0.0, length, 0
    while done < n_steps:
        steps = 1 + int(rng.gamma(3.0, 2.0) / _STEP)
        pieces.append(here + np.sign(length / 2 - here) * _fidget(rng, steps))
        rests.append((done, done + steps))
        done += steps
        steps = 1 + int(length * rng.uniform(1.3, 2.8) / _STEP)
        part = (np.arange(steps) + 0.5) / steps
        waves = np.sin(np.pi * np.outer([1, 2, 3, 4], part) + rng.uniform(0, 2 * np.pi, (4, 1)))
        speed = np.sin(np.pi * part) ** 0.6 * np.exp(0.2 * rng.standard_normal(4) @ waves)
        if rng.random() < 0.15:  # the rat hesitates on the way
            speed *= 1 - 0.9 * np.exp(-0.5 * ((part - rng.uniform(0.2, 0.8)) / 0.05) ** 2)
        pieces.append(here + (far - here) * np.cumsum(speed) / speed.sum())
        runs.append((done, done + steps))
        done += steps
        here, far = far, here
    position = np.clip(np.concatenate(pieces)[:n_steps], 0.0, length)
    frequency = _THETA + 0.3 * _wander(rng, n_steps, 1, _STEP)[:, 0]
    speed = np.abs(np.gradient(position, _STEP))
    phase = 2 * np.pi * _STEP * np.cumsum(frequency)
    grid = _STEP * np.arange(n_steps)
    return _Rat(grid, position, speed, phase, _spans(runs, duration), _spans(rests, duration))


def _fidget(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Simulate small head movements during rest, meters inward from the end of the track."""
    part = np.arange(steps) / steps
    sway = np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * _STEP * np.arange(steps) + rng.uniform(0, 2 * np.pi))
    return rng.uniform(0.005, 0.025) * np.sin(np.pi * part) ** 2 * (1 + sway)


def _spans(steps: list[tuple[int, int]], duration: float) -> _Spans:
    times = _STEP * np.array(steps, dtype=float)
    times = np.minimum(times[times[:, 0] < duration], duration)
    return _Spans(times[:, 0], times[:, 1])


@dataclass(frozen=True)
class _Replays:
    """Replay bursts: times, start and end positions on the track, and running direction."""

    spans: _Spans
    origin: np.ndarray
    target: np.ndarray
    direction: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, rat: _Rat, length: float, rate: float) -> _Replays:
        start = rat.rests.draw(rng, rate)
        stop = start + rng.uniform(0.08, 0.2, len(start))
        rest = rat.rests.which(start)
        # Bursts start at least half a second apart and end before the next run.
        apart = np.diff(start, prepend=-np.inf) > 0.5
        fits = (stop < rat.rests.stop[rest]) & apart
        start, stop = start[fits], stop[fits]
        n = len(start)
        here = np.where(rat.at(start).position < length / 2, 0.0, length)
        there = here + (length - 2 * here) * rng.uniform(0.5, 1.0, n)
        outward = rng.random(n) < 0.7
        origin, target = np.where(outward, here, there), np.where(outward, there, here)
        return cls(_Spans(start, stop), origin, target, np.sign(target - origin))

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the replayed position and direction at times inside bursts."""
        if not len(times):
            return times, times
        burst = self.spans.which(times)
        start, stop = self.spans.start[burst], self.spans.stop[burst]
        part = (times - start) / (stop - start)
        return self.origin[burst] + (self.target - self.origin)[burst] * part, self.direction[burst]


@dataclass(frozen=True)
class _Fields:
    """Place fields of each cell in both running directions, (units, 2): meters and spikes/s."""

    center: np.ndarray
    width: np.ndarray
    peak: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, n_units: int, length: float) -> _Fields:
        first = rng.uniform(-0.05, 1.05, n_units) * length
        # For half of the cells the fields of both directions are close to each other.
        near = first + 0.1 * length * rng.standard_normal(n_units)
        other = np.where(rng.random(n_units) < 0.5, near, rng.uniform(-0.05, 1.05, n_units) * length)
        width = length * rng.uniform(0.05, 0.11, (n_units, 2))
        strong = 14.0 * np.exp(0.5 * rng.standard_normal(n_units))
        weak = strong * rng.beta(0.8, 1.6, n_units)
        swap = rng.random((n_units, 1)) < 0.5
        center = np.stack([first, other], axis=1)
        peak = np.stack([strong, weak], axis=1)
        return cls(np.where(swap, center[:, ::-1], center), width, np.where(swap, peak[:, ::-1], peak))

    def highest(self, unit: int) -> float:
        """Return an upper bound of the rate while running, without excitability."""
        return float(self.peak[unit].max() / i0e(_CELL_LOCKING))

    def tuning(self, unit: int, position: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Return the rate at a position, without theta modulation and excitability."""
        side = (direction < 0).astype(int)
        away = (position - self.center[unit, side]) / self.width[unit, side]
        return self.peak[unit, side] * np.exp(-0.5 * away**2)

    def rate(self, unit: int, rat: _Moment) -> np.ndarray:
        """Return the rate while running, without excitability."""
        side = (rat.direction < 0).astype(int)
        advance = rat.direction * (rat.position - self.center[unit, side]) / (2 * self.width[unit, side])
        locking = _CELL_LOCKING * (np.cos(rat.phase + _PRECESSION * advance) - 1)
        return self.tuning(unit, rat.position, rat.direction) * np.exp(locking) / i0e(_CELL_LOCKING)


def _interneuron(rng: np.random.Generator, rat: _Rat, replays: _Replays, duration: float) -> np.ndarray:
    """Simulate an interneuron: it fires always, faster and theta-locked during runs, and faster in replays."""
    at_rest = rng.uniform(5.0, 12.0)
    running = rng.uniform(1.5, 2.5) * at_rest
    phase = rng.uniform(0.0, 1.0)
    bound = running / i0e(_INTERNEURON_LOCKING)
    times = rat.runs.draw(rng, bound)
    locking = _INTERNEURON_LOCKING * (np.cos(rat.at(times).phase - phase) - 1)
    kept = [_thin(rng, times, bound * np.exp(locking), bound)]
    kept += [rat.rests.draw(rng, at_rest), replays.spans.draw(rng, 3 * at_rest)]
    times = np.sort(np.concatenate(kept))
    return times[times < duration]
