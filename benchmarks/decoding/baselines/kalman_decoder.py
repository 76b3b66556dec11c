"""The Kalman decoder of position and velocity.

Wu, Gao, Bienenstock, Donoghue and Black 2006, Neural Computation 18:80. Activity is linear in position and velocity
with Gaussian noise; both follow a linear model that is fitted to the behavior. An angle is represented by sine and
cosine.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from decoding.baselines.smoothing import sliding_sum
from decoding.baselines.state_space import segment_starts
from decoding.predictions import SamplePrediction
from decoding.tasks import Task

__all__ = ["KalmanDecoder"]

DRAWS = 100


class KalmanDecoder:
    """Kalman filter of position and velocity.

    Settings: `window`, the number of bins over which activity is averaged, the present one last; `lag`, the number of
    bins by which it leads the behavior; `noise`, a factor for the variance of the activity, since neighboring bins are
    not independent.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def _states(self) -> np.ndarray:
        """Return position and velocity in the training part, (time, states); NaN where unknown."""
        rec, period = self.task.data.train, self.task.target.period
        position = rec.behavior.get("position", rec.behavior[self.task.target.behavior]).reshape(len(rec.time), -1)
        if period is not None:
            angle = 2 * np.pi * position / period
            position = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
        velocity = np.empty_like(position, dtype=float)
        for part in rec.segments():
            long = part.stop - part.start > 1
            velocity[part] = np.gradient(position[part], rec.time[part], axis=0) if long else np.nan
        if "velocity" in rec.behavior:
            velocity = rec.behavior["velocity"].reshape(len(rec.time), -1)
        return np.concatenate([position, velocity], axis=1)

    def fit(self, rows: np.ndarray) -> None:
        """Fit the movement, and the activity for each lag."""
        rec, states = self.task.data.train, self._states()
        rows = rows[np.isfinite(states[rows]).all(axis=1)]
        self.mean, self.sd = states[rows].mean(axis=0), states[rows].std(axis=0)
        states = (states - self.mean) / self.sd
        starts = segment_starts(rec.time, rec.bin_size)
        chosen = np.zeros(len(states), dtype=bool)
        chosen[rows] = True
        pairs = rows[(rows > 0) & ~starts[rows] & chosen[np.maximum(rows - 1, 0)]]
        now, before = states[pairs], states[pairs - 1]
        self.A = np.linalg.lstsq(before, now, rcond=None)[0].T
        self.Q = np.cov((now - before @ self.A.T).T) + 1e-9 * np.eye(len(self.A))
        self.P0 = np.cov(states[rows].T)
        self.rows, self.states = rows, states
        self._emissions: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def _emission(self, window: int, lag: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return C' R^-1, C' R^-1 C and the mean activity, from the regression of activity on states."""
        if (window, lag) not in self._emissions:
            rec = self.task.data.train
            activity = _delay(_average(rec.activity, window, rec.segments()), lag)[self.rows]
            design = np.column_stack([self.states[self.rows], np.ones(len(self.rows))])
            weights = np.linalg.lstsq(design, activity, rcond=None)[0]
            C, offset = weights[:-1].T, weights[-1]
            R = np.cov((activity - design @ weights).T)
            R = R + 1e-3 * np.trace(R) / len(R) * np.eye(len(R))
            gain = np.linalg.solve(R, C).T
            self._emissions[window, lag] = gain, gain @ C, offset
        return self._emissions[window, lag]

    def prepare(self, part: str, block: slice) -> Any:
        """Return activity and segments of a block."""
        rec = self.task.data.part(part)
        return rec.activity[block], segment_starts(rec.time[block], rec.bin_size)

    def decode(self, prepared: Any, window: int = 4, lag: int = 2, noise: float = 3.0) -> SamplePrediction:
        """Return samples of the filtered states."""
        activity, starts = prepared
        gain, precision, offset = self._emission(window, lag)
        edges = [*np.flatnonzero(starts), len(starts)]
        averaged = _average(activity, window, [slice(a, b) for a, b in pairwise(edges)])
        evidence = (_delay(averaged, lag) - offset) @ gain.T / noise
        means, covs = self._filter(evidence, precision / noise, starts)
        normal = np.random.default_rng(0).normal(size=(DRAWS // 2, len(self.A)))
        normal = np.concatenate([normal, -normal])
        samples = means[:, None] + np.einsum("sd,ted->tse", normal, np.linalg.cholesky(covs))
        return SamplePrediction(self._target(samples * self.sd + self.mean), self.task.target.period)

    def _filter(self, evidence: np.ndarray, precision: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return filtered means and covariances, in standardized units, (time, states) and (time, states, states)."""
        dim = len(self.A)
        means, covs = np.empty((len(evidence), dim)), np.empty((len(evidence), dim, dim))
        m, P = np.zeros(dim), self.P0
        for t, e in enumerate(evidence):
            m, P = (np.zeros(dim), self.P0) if starts[t] else (self.A @ m, self.A @ P @ self.A.T + self.Q)
            P = np.linalg.inv(np.linalg.inv(P) + precision)
            P = (P + P.T) / 2
            m = m + P @ (e - precision @ m)
            means[t], covs[t] = m, P
        return means, covs

    def _target(self, states: np.ndarray) -> np.ndarray:
        """Return the decoded behavior of states (time, samples, states)."""
        period, half = self.task.target.period, states.shape[-1] // 2
        if period is not None:
            return (np.arctan2(states[..., :1], states[..., 1:2]) * period / (2 * np.pi)) % period
        return states[..., half:] if self.task.target.behavior == "velocity" else states[..., :half]


def _average(activity: np.ndarray, window: int, segments: list[slice]) -> np.ndarray:
    """Return square roots of the counts, averaged over the present and earlier bins of the segment."""
    seen = sliding_sum(np.ones((len(activity), 1)), window, segments)
    return sliding_sum(np.sqrt(activity), window, segments) / seen


def _delay(activity: np.ndarray, lag: int) -> np.ndarray:
    """Return the activity `lag` bins earlier; the first bins repeat the first one."""
    return activity[np.maximum(np.arange(len(activity)) - lag, 0)]
