"""How a run does on a recording: its scores, and what a report shows of it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Recording, running_bins
from kalmanssl.errors import InputError
from kalmanssl.plotting import order_by_peak, principal_axes
from kalmanssl.utils.storage import load_folder, save_folder

if TYPE_CHECKING:
    from kalmanssl.data import Latents
    from kalmanssl.runs._run import Run, RunSettings

__all__ = ["Evaluation", "running", "without_nan"]

_SHOWN_SECONDS = 40.0
_SHOWN_BINS = 6000
_SHOWN_UNITS = 200
# At this many, chance is a third or less of every bound for failing (of 32 latents). More take memory, since noise that
# follows the input gives every step a covariance of its own.
_CHECKED_STEPS = 20_000


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run on a recording, with an excerpt to draw.

    Attributes
    ----------
    part : dict
        `source` of the recording, `start_s`, `stop_s`, `smoothed`, and `fitted`: whether the model saw this time.
    scores : dict
        "running" and "all", each the dict of `kalmanssl.decoding.score_decoding`, or None where there is nothing to
        score.
    arrays : dict
        For pictures. Of a stretch of some seconds: `time`, `counts` in the order of `units`, `noise`,
        `log_likelihood`, and with behavior `mean`, `lower`, `upper`,
        `truth`, and `runs`, where it ran. Of running bins of the whole part:
        `latents` along their principal axes, `color` (behavior), `decoded`, `tracked`.
    assumptions : dict, or None
        Whether the assumptions of identifiability hold: `AssumptionReport.to_dict` with null for what is not finite,
        and `start_s`, `stop_s` of the bins it is about. Where they could not be checked, `verdict` is None and `reason`
        says why. None if the evaluation was saved before there were such checks.
    """

    part: dict[str, Any]
    scores: dict[str, Any]
    arrays: dict[str, np.ndarray]
    assumptions: dict[str, Any] | None = None

    @classmethod
    def of(cls, run: Run, recording: Recording, *, smooth: bool = False, fitted: bool = False) -> Evaluation:
        """Filter and decode a recording and score what was decoded.

        Parameters
        ----------
        run : Run
        recording : Recording
            With the units of the fit; with behavior if scores are wanted.
        smooth : bool
            Let the latents know the whole recording instead of only its past. The assumptions are about predictions
            from the past, and so always checked without this.
        fitted : bool
            Say that the model was fitted on this.

        Raises
        ------
        InputError
            If the units or the bins are others than those of the fit.
        """
        from kalmanssl.decoding import score_decoding

        path = run.model.transform(recording, smooth=smooth)
        truth = recording.behavior.get(run.behavior) if run.behavior else None
        runs = running(run.settings, recording, run.behavior)
        known = None if truth is None else np.isfinite(truth.reshape(len(truth), -1)).all(axis=1)
        scored = known if runs is None or known is None else known & runs
        scores: dict[str, Any] = {"running": None, "all": None}
        decoded = None
        if run.decoder is not None:
            decoded = run.decoder.predict(path)
            if truth is not None and known is not None and known.any():
                scores["all"] = score_decoding(decoded, truth)
                if runs is not None and scored is not None and scored.any():
                    scores["running"] = score_decoding(decoded, truth, mask=runs)
        half = 0.5 * recording.bin_size
        part = {
            "source": recording.source,
            "start_s": float(recording.time[0] - half),
            "stop_s": float(recording.time[-1] + half),
            "smoothed": smooth,
            "fitted": fitted,
        }
        arrays = _excerpt(recording, path, runs, truth)
        arrays |= _overview(path, scored, truth)
        if decoded is not None:
            shown = np.searchsorted(recording.time, arrays["time"])
            lower, upper = decoded.interval(decoded.level)
            arrays |= {
                name: values[shown].reshape(len(shown), -1)
                for name, values in (("mean", decoded.mean), ("lower", lower), ("upper", upper))
            }
            if truth is not None and scored is not None and scored.any():
                some = _thin(np.flatnonzero(scored), _SHOWN_BINS * 5)
                arrays["decoded"] = decoded.mean[some].reshape(len(some), -1)
                arrays["tracked"] = truth[some].reshape(len(some), -1)
        return cls(part, scores, arrays, _assumptions(run, recording))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save as a folder."""
        arrays = {
            name: array.astype(np.float32 if array.dtype.kind == "f" and name != "time" else array.dtype)
            for name, array in self.arrays.items()
        }
        metadata = {"part": self.part, "scores": self.scores, "assumptions": self.assumptions}
        save_folder(path, "evaluation", arrays, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Open what `save` wrote; an `InputError` says what is missing or damaged."""
        arrays, metadata = load_folder(path, "evaluation")
        return cls(metadata["part"], metadata["scores"], arrays, metadata.get("assumptions"))

    @property
    def main(self) -> tuple[str, dict[str, Any] | None]:
        """The scores that count: of running bins where these are known, else of all bins; with the name of which."""
        name = "running" if self.scores["running"] is not None else "all"
        return name, self.scores[name]


def running(settings: RunSettings, recording: Recording, behavior: str | None) -> np.ndarray | None:
    """Bins (time,) bool in which the animal runs, or None if the settings do not say what running is."""
    position = recording.behavior.get(behavior) if behavior else None
    if position is None or (settings.end_zones is None and settings.min_speed is None):
        return None
    if settings.end_zones is not None:
        low, high = settings.end_zones
        if settings.min_speed is not None:
            raise InputError(
                "give end_zones (a linear track) or min_speed (otherwise), not both", parameter="min_speed"
            )
        return running_bins(position, end_zones=(low, high))
    if settings.period is not None:  # the jump at the seam is no speed
        position = np.unwrap(np.where(np.isnan(position), 0, position), period=settings.period, axis=0) + (
            0 * position  # brings the NaN back
        )
    return running_bins(position, recording.time, min_speed=settings.min_speed)


def without_nan(value: Any) -> Any:
    """Make NaN and infinity in nested dicts and lists None, which is all that JSON has for them."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _assumptions(run: Run, recording: Recording) -> dict[str, Any]:
    """Check the assumptions of identifiability; where that cannot be done, say why."""
    from kalmanssl.identifiability import check_assumptions

    # From the middle, which is neither nearest to what was fitted nor farthest from it.
    count = _CHECKED_STEPS * run.model.bins_per_step
    first = max(0, (len(recording) - count) // 2)
    time, half = recording.time[first : first + count], 0.5 * recording.bin_size
    span = {"start_s": float(time[0] - half), "stop_s": float(time[-1] + half)}
    checked = recording if len(time) == len(recording) else recording.restrict(span["start_s"], span["stop_s"])
    try:
        return without_nan(check_assumptions(run.model, checked).to_dict()) | span
    except InputError as error:  # too short, or constant: what else an evaluation says is still worth having
        return {"verdict": None, "reason": str(error)} | span


def _excerpt(
    recording: Recording, path: Latents, runs: np.ndarray | None, truth: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The stretch of a contiguous part in which the animal runs most (or that is most active)."""
    count = max(2, round(_SHOWN_SECONDS / recording.bin_size))
    interest = recording.activity.sum(axis=1) if runs is None else runs
    best = slice(0, min(count, len(recording)))
    most = -1.0
    for segment in recording.segments():
        size = min(count, segment.stop - segment.start)
        total = np.concatenate([[0.0], np.cumsum(interest[segment], dtype=float)])
        within = total[size:] - total[:-size]
        at = int(within.argmax())
        if within[at] > most:
            most, best = float(within[at]), slice(segment.start + at, segment.start + at + size)
    busiest = np.argsort(-recording.activity.sum(axis=0), kind="stable")[:_SHOWN_UNITS]
    chosen = np.sort(busiest)
    if truth is not None and truth.reshape(len(truth), -1).shape[1] == 1:
        where = slice(None) if runs is None or not runs.any() else runs
        chosen = chosen[order_by_peak(recording.activity[where][:, chosen], truth.reshape(-1)[where])]
    arrays = {
        "time": path.time[best],
        "counts": recording.activity[best][:, chosen],
        "units": chosen,
        "noise": path.noise[best],
        "log_likelihood": path.log_likelihood[best],
    }
    if runs is not None:
        arrays["runs"] = runs[best]
    if truth is not None:
        arrays["truth"] = truth[best].reshape(len(truth[best]), -1)
    return {name: np.asarray(array) for name, array in arrays.items()}


def _overview(path: Latents, scored: np.ndarray | None, truth: np.ndarray | None) -> dict[str, np.ndarray]:
    """Latents along the axes in which they spread most, colored by behavior, else by time."""
    where = np.ones(len(path), dtype=bool) if scored is None or not scored.any() else scored
    some = _thin(np.flatnonzero(where), _SHOWN_BINS)
    axes = principal_axes(path.mean, where)
    color = path.time if truth is None else truth.reshape(len(truth), -1)[:, 0]
    return {"latents": (path.mean[some] - path.mean[where].mean(axis=0)) @ axes, "color": color[some]}


def _thin(index: np.ndarray, most: int) -> np.ndarray:
    return index[:: max(1, -(-len(index) // most))]
