"""Evaluation of a run on a recording: its scores, and the arrays for the figures of a report."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Recording, speed
from kalmanssl.errors import InputError
from kalmanssl.plotting import explained_variance, order_by_peak, principal_axes
from kalmanssl.runs._alarms import Alarm, find_alarms
from kalmanssl.runs._excerpt import excerpt_bins
from kalmanssl.runs._labels import keep_known_labels, label_arrays, label_numbers
from kalmanssl.runs._references import score_references
from kalmanssl.runs._running import position_of, where_running
from kalmanssl.runs._text import axis_name
from kalmanssl.runs._trust_scores import trust_scores
from kalmanssl.runs.report import error_profile, map_arrays
from kalmanssl.utils.scratch import as_path
from kalmanssl.utils.storage import METADATA, load_folder, save_folder
from kalmanssl.utils.stored_values import StoredValues

if TYPE_CHECKING:
    from kalmanssl.data import Latents
    from kalmanssl.decoding import DecodedCategory, DecodedPosition
    from kalmanssl.runs._run import Run

__all__ = ["Evaluation", "without_nan"]

_MAX_EXCERPT_UNITS = 200
_MAX_LATENT_POINTS = 6_000
_MAX_DECODED_POINTS = 30_000


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run on a recording, and an excerpt for figures.

    Attributes
    ----------
    part : dict
        `source` (the recording), `start_s` and `stop_s`, `smoothed`, and `fitted`: whether the model was fitted on this
        time. For labels also `labels`, those of the decoder, and `other_label_bins`, the number of bins with labels
        that it was not fitted on, which are not scored.
    scores : dict
        "running", "rest" and "all", each the dict of `kalmanssl.decoding.score_decoding`, or None if there are no such
        bins with known behavior. "all" also has `conditional`, from `kalmanssl.decoding.conditional_coverage`, and
        `trust`, from `kalmanssl.runs.trust_scores`. `references` has the scores of the occupancy alone and of a ridge
        regression, if they were fitted.
    arrays : dict
        Arrays for figures. Of an excerpt of 40 seconds: `time`, `counts` (its columns in the order of `units`),
        `noise`, `log_likelihood`; with running bins `runs`; with behavior `mean`, `lower`, `upper` and `truth`. Of
        the scored bins of the whole part, subsampled: `latents` along their principal axes, `variance_explained` by
        each of these, `color` (the behavior, or else the time), `decoded` and `tracked` (the decoded and the true
        behavior). For labels the excerpt has `probability` of each label instead of `mean`, `lower` and `upper`;
        `truth` and `color` are numbers of labels. Numbers also have errors by time and place, the worst segments, and
        in two dimensions some regions.
    assumptions : dict or None
        `AssumptionReport.to_dict` with None for NaN and infinity, and the time of the checked bins, `start_s` and
        `stop_s`. If the assumptions could not be checked, `verdict` is None and `reason` is the error message. None
        for evaluations saved before these checks existed.
    alarms : list of Alarm
        What a reader must know before the scores, such as a decoder that is worse than a constant; see
        `kalmanssl.runs.find_alarms`.
    """

    part: dict[str, Any]
    scores: dict[str, Any]
    arrays: dict[str, np.ndarray]
    assumptions: dict[str, Any] | None = None
    alarms: list[Alarm] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        run: Run,
        recording: Recording,
        *,
        smooth: bool = False,
        fitted: bool = False,
        max_checked_steps: int = 20_000,
    ) -> Evaluation:
        """Infer the latents of a recording, decode and score the behavior, and check the assumptions.

        Parameters
        ----------
        run : Run
        recording : Recording
            With the units of the fit. Scores need its behavior.
        smooth : bool
            Use the smoothed latents instead of the filtered ones. The checks of the assumptions always use filtered
            latents, because the assumptions are about predictions from the past.
        fitted : bool
            Whether the model was fitted on this recording; only stored.
        max_checked_steps : int
            The assumptions are checked on this many filter steps in the middle of the recording. With 20 000 steps,
            sampling error is at most a third of each failure threshold (for 32 latents). More steps need more memory,
            because each step has its own covariance if the noise depends on the input.

        Returns
        -------
        Evaluation

        Raises
        ------
        InputError
            If the units or the bin size differ from those of the fit.
        """
        latents = run.model.transform(recording, smooth=smooth)
        decoded = None if run.decoder is None else run.decoder.predict(latents)
        truth = recording.behavior.get(run.behavior) if run.behavior else None
        labels = None if run.decoder is None else run.decoder.labels_
        numbers, other_label_bins = truth, 0  # of labels; for other behavior, the behavior itself
        if labels is not None and truth is not None:
            truth, other_label_bins = keep_known_labels(truth, labels)
            numbers = label_numbers(truth, labels)
        runs = where_running(run.settings, recording, run.behavior, run.metadata.get("running_speed"))
        known = None if numbers is None else np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
        scored = known if runs is None or known is None else known & runs
        half = 0.5 * recording.bin_size
        part = {
            "source": recording.source,
            "start_s": float(recording.time[0] - half),
            "stop_s": float(recording.time[-1] + half),
            "smoothed": smooth,
            "fitted": fitted,
        }
        if labels is not None:
            part |= {"labels": labels.tolist(), "other_label_bins": other_label_bins}
        arrays = _excerpt(recording, latents, runs, numbers, ordered=labels is None)
        arrays |= _overview(latents, scored, numbers)
        if decoded is not None:
            excerpt = np.searchsorted(recording.time, arrays["time"])
            arrays |= _decoded_arrays(decoded, excerpt, truth, scored)
            if labels is None and truth is not None and known is not None and known.any():
                arrays |= error_profile(decoded, truth, runs, recording.bin_size) | map_arrays(decoded, excerpt)
        scores = _scores(decoded, truth, runs, known, scored)
        if labels is None and truth is not None and known is not None:
            _add_references(run, recording, scores, truth, runs, known)
        if scores["all"] is not None and decoded is not None and truth is not None:
            scores["all"]["conditional"] = _conditional(run, recording, decoded, truth)
            if labels is None:
                scores["all"]["trust"] = trust_scores(
                    decoded, truth, runs, float(run.latent_decoder(smooth).trust.threshold)
                )
        alarms = find_alarms(run, part, scores, runs, numbers, recording.time)
        return cls(part, scores, arrays, _check_assumptions(run, recording, max_checked_steps), alarms)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save into a folder."""
        arrays = {
            name: array.astype(np.float32 if array.dtype.kind == "f" and name != "time" else array.dtype)
            for name, array in self.arrays.items()
        }
        metadata = {
            "part": self.part,
            "scores": self.scores,
            "assumptions": self.assumptions,
            "alarms": [asdict(alarm) for alarm in self.alarms],
        }
        save_folder(path, "evaluation", arrays, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Load from a folder written by `save`. Raise `InputError` if a file is missing or damaged."""
        arrays, metadata = load_folder(path, "evaluation")
        stored = StoredValues(metadata, as_path("path", path) / METADATA, "run")
        part, scores = (dict(stored.group(name).values) for name in ("part", "scores"))
        assumptions = metadata.get("assumptions")
        if assumptions is not None:
            assumptions = dict(stored.group("assumptions").values)
        alarms = []  # also of evaluations saved before alarms existed
        if "alarms" in stored:
            alarms = [Alarm(one.text("name"), one.text("message")) for one in stored.groups("alarms")]
        return cls(part, scores, arrays, assumptions, alarms)

    @property
    def main(self) -> tuple[str, dict[str, Any] | None]:
        """The name and the scores of the running bins, or of all bins if running is unknown."""
        name = "running" if self.scores["running"] is not None else "all"
        return name, self.scores[name]


def without_nan(value: Any) -> Any:
    """Replace NaN and infinity in nested dicts and lists by None, because JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scores(
    decoded: DecodedPosition | DecodedCategory | None,
    truth: np.ndarray | None,
    runs: np.ndarray | None,
    known: np.ndarray | None,
    scored: np.ndarray | None,
) -> dict[str, Any]:
    """Score the decoded behavior on the running bins and on all bins."""
    from kalmanssl.decoding import score_decoding

    scores: dict[str, Any] = {"running": None, "rest": None, "all": None}
    if decoded is None or truth is None or known is None or not known.any():
        return scores
    scores["all"] = score_decoding(decoded, truth)
    if runs is not None and scored is not None and scored.any():
        scores["running"] = score_decoding(decoded, truth, mask=runs)
        if (known & ~runs).any():
            scores["rest"] = score_decoding(decoded, truth, mask=~runs)
    return scores


def _add_references(
    run: Run,
    recording: Recording,
    scores: dict[str, Any],
    truth: np.ndarray,
    runs: np.ndarray | None,
    known: np.ndarray,
) -> None:
    """Add the scores of the references to those of each part."""
    masks = {"all": known} if runs is None else {"all": known, "running": known & runs, "rest": known & ~runs}
    for name, mask in masks.items():
        if scores[name] is not None:
            references = score_references(run.metadata.get("reference"), recording, truth, mask, name)
            scores[name]["references"] = without_nan(references)


def _conditional(
    run: Run, recording: Recording, decoded: DecodedPosition | DecodedCategory, truth: np.ndarray
) -> dict[str, Any]:
    """Return the coverage of intervals or sets by speed, behavior and lag since the end of the fitted part."""
    from kalmanssl.decoding import DecodedCategory, conditional_coverage

    labels = isinstance(decoded, DecodedCategory)
    conditions: dict[str, np.ndarray] = {}
    if len(truth) > 1 and not labels:
        conditions["speed"] = speed(
            position_of(recording, str(run.behavior)), recording.time, period=run.settings.period
        )
    for dim, column in enumerate(truth.reshape(len(truth), -1).T):
        conditions[str(run.behavior) if truth.ndim == 1 else f"{run.behavior}, {axis_name(dim)}"] = column
    lag = recording.time - run.metadata["recording"]["fitted_until_s"]
    if (lag > 0).all():
        conditions["lag"] = lag
    return without_nan(conditional_coverage(decoded, truth, conditions))


def _check_assumptions(run: Run, recording: Recording, max_steps: int) -> dict[str, Any]:
    """Check the assumptions of identifiability, or return the reason why they cannot be checked."""
    from kalmanssl.identifiability import check_assumptions

    # The middle is neither the part closest to the fitted time nor the part farthest from it.
    count = max_steps * run.model.bins_per_step_
    first = max(0, (len(recording) - count) // 2)
    time, half = recording.time[first : first + count], 0.5 * recording.bin_size
    span = {"start_s": float(time[0] - half), "stop_s": float(time[-1] + half)}
    checked = recording if len(time) == len(recording) else recording.restrict(span["start_s"], span["stop_s"])
    try:
        return without_nan(check_assumptions(run.model, checked).to_dict()) | span
    except InputError as error:  # for example a recording that is too short; its scores are still valid
        return {"verdict": None, "reason": str(error)} | span


def _excerpt(
    recording: Recording, latents: Latents, runs: np.ndarray | None, truth: np.ndarray | None, ordered: bool
) -> dict[str, np.ndarray]:
    """Return the data and latents of an excerpt with much running, or with much activity.

    If `ordered`, units are in the order of the one-dimensional behavior where they fire most.
    """
    best = excerpt_bins(recording, recording.activity.sum(axis=1) if runs is None else runs)
    busiest = np.argsort(-recording.activity.sum(axis=0), kind="stable")[:_MAX_EXCERPT_UNITS]
    chosen = np.sort(busiest)
    if ordered and truth is not None and truth.reshape(len(truth), -1).shape[1] == 1:
        where = slice(None) if runs is None or not runs.any() else runs
        chosen = chosen[order_by_peak(recording.activity[where][:, chosen], truth.reshape(-1)[where])]
    arrays = {
        "time": latents.time[best],
        "counts": recording.activity[best][:, chosen],
        "units": chosen,
        "noise": latents.noise[best],
        "log_likelihood": latents.log_likelihood[best],
    }
    if runs is not None:
        arrays["runs"] = runs[best]
    if truth is not None:
        arrays["truth"] = truth[best].reshape(len(truth[best]), -1)
    return {name: np.asarray(array) for name, array in arrays.items()}


def _overview(latents: Latents, scored: np.ndarray | None, truth: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the latents along their principal axes, with the behavior, or else the time, as color."""
    where = np.ones(len(latents), dtype=bool) if scored is None or not scored.any() else scored
    some = _thin(np.flatnonzero(where), _MAX_LATENT_POINTS)
    axes = principal_axes(latents.mean, where)
    color = latents.time if truth is None else truth.reshape(len(truth), -1)[:, 0]
    return {
        "latents": (latents.mean[some] - latents.mean[where].mean(axis=0)) @ axes,
        "variance_explained": explained_variance(latents.mean[where], axes),
        "color": color[some],
    }


def _decoded_arrays(
    decoded: DecodedPosition | DecodedCategory,
    excerpt: np.ndarray,
    truth: np.ndarray | None,
    scored: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Return the decoded behavior in the bins of the excerpt, and decoded and true behavior in the scored bins."""
    from kalmanssl.decoding import DecodedCategory

    if isinstance(decoded, DecodedCategory):
        return label_arrays(decoded, excerpt)
    lower, upper = decoded.interval(decoded.level)
    arrays = {
        name: values[excerpt].reshape(len(excerpt), -1)
        for name, values in (("mean", decoded.mean), ("lower", lower), ("upper", upper))
    }
    if truth is not None and scored is not None and scored.any():
        some = _thin(np.flatnonzero(scored), _MAX_DECODED_POINTS)
        arrays["decoded"] = decoded.mean[some].reshape(len(some), -1)
        arrays["tracked"] = truth[some].reshape(len(some), -1)
    return arrays


def _thin(index: np.ndarray, most: int) -> np.ndarray:
    """Keep every n-th index so that at most `most` remain."""
    return index[:: max(1, -(-len(index) // most))]
