"""Evaluation of a run on a recording: its scores, and the arrays for the figures of a report."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.runs._alarms import Alarm, find_alarms
from kalmanssl.runs._evaluated_bins import EvaluatedBins
from kalmanssl.runs._figure_arrays import TIMES, figure_arrays
from kalmanssl.runs._scores import main_scores, score_bins
from kalmanssl.utils.json_values import without_nan
from kalmanssl.utils.paths import as_path
from kalmanssl.utils.storage import METADATA, load_folder, save_folder
from kalmanssl.utils.stored_values import StoredValues
from kalmanssl.utils.summaries import Summary
from kalmanssl.utils.text import time_span
from kalmanssl.utils.torch_ops import one_thread_everywhere

if TYPE_CHECKING:
    from kalmanssl.runs._run import Run

__all__ = ["Evaluation"]


@dataclass(frozen=True, repr=False)
class Evaluation(Summary):
    """Scores of a run on a recording, and an excerpt for figures.

    Attributes
    ----------
    part : dict
        `source` (the recording), `start_s` and `stop_s`, `smoothed`, `fitted`: whether the model was fitted on this
        time, and `main`: the name of the scores that count. For labels also `labels`, those of the decoder, and
        `other_label_bins`, the number of bins with labels that it was not fitted on, which are not scored.
    scores : dict
        "running", "rest" and "all", each the dict of `kalmanssl.decoding.score_decoding`, or None if there are no such
        bins with known behavior. "all" also has `conditional`, from `kalmanssl.decoding.conditional_coverage`, and
        `trust`, from `kalmanssl.runs.trust_scores`. `references` has the scores of the occupancy alone and of a ridge
        regression, if they were fitted.
    arrays : dict
        Arrays for figures. An excerpt of 40 seconds has `time`, `counts` (its columns in the order of `units`),
        `noise` and `log_likelihood`; with running bins `runs`; with behavior `mean`, `lower`, `upper` and `truth`.
        A subset of all scored bins has `latents` along their principal axes, `variance_explained` by each of these,
        `color` (the behavior, or else the time), `decoded` and `tracked` (the decoded and the true behavior). For
        labels the excerpt has the `probability` of each label instead of `mean`, `lower` and `upper`, and `truth` and
        `color` are numbers of labels. For other behavior there are also errors by time and place, the worst segments,
        and in two dimensions some regions.
    assumptions : dict or None
        `AssumptionReport.to_dict` with None for NaN and infinity, and the time of the checked bins, `start_s` and
        `stop_s`. If the assumptions could not be checked, `verdict` is None and `reason` is the error message. None
        for evaluations saved before these checks existed.
    alarms : list of Alarm
        What a reader must know before the scores, such as a decoder that is worse than a constant.
    """

    part: dict[str, Any]
    scores: dict[str, Any]
    arrays: dict[str, np.ndarray]
    assumptions: dict[str, Any] | None = None
    alarms: list[Alarm] = field(default_factory=list)

    @classmethod
    @one_thread_everywhere()  # the products are small, and threads that wait for one another take the time of others
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
        bins = EvaluatedBins.of(run, recording)
        half = 0.5 * recording.bin_size
        part = {
            "source": recording.source,
            "start_s": float(recording.time[0] - half),
            "stop_s": float(recording.time[-1] + half),
            "smoothed": smooth,
            "fitted": fitted,
            "main": bins.main_part,
        }
        if bins.labels is not None:
            part |= {"labels": bins.labels.tolist(), "other_label_bins": bins.n_other_labels}
        scores = score_bins(run, recording, decoded, bins, smooth)
        arrays = figure_arrays(recording, latents, decoded, bins)
        alarms = find_alarms(run, part, scores, bins)
        return cls(part, scores, arrays, _check_assumptions(run, recording, max_checked_steps), alarms)

    def _summary(self) -> list[tuple[str, str]]:
        how = "on the time of the fit" if self.part["fitted"] else "not fitted on"
        span = time_span(self.part["start_s"], self.part["stop_s"])
        rows = [("recording", str(self.part["source"])), ("time", f"{span}, {how}")]
        rows.append(("latents", "smoothed" if self.part["smoothed"] else "filtered"))
        return rows + main_scores(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save into a folder."""
        arrays = {
            name: array.astype(np.float32 if array.dtype.kind == "f" and name not in TIMES else array.dtype)
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
        part.setdefault("main", "all" if scores.get("running") is None else "running")  # older evaluations lack it
        assumptions = metadata.get("assumptions")
        if assumptions is not None:
            assumptions = dict(stored.group("assumptions").values)
        alarms = []  # also of evaluations saved before alarms existed
        if "alarms" in stored:
            alarms = [Alarm(one.text("name"), one.text("message")) for one in stored.groups("alarms")]
        return cls(part, scores, arrays, assumptions, alarms)

    @property
    def main(self) -> tuple[str, dict[str, Any] | None]:
        """The name and the scores of the bins that count: the running ones, or all bins.

        All bins count if running is unknown, and for a velocity that says itself which bins are running.
        """
        name = self.part["main"]
        return name, self.scores[name]

    @property
    def divided_by_itself(self) -> bool:
        """Whether moving bins are those with large values of the decoded velocity itself, so that all bins count."""
        return self.part["main"] == "all" and self.scores.get("running") is not None

    @property
    def main_error(self) -> str:
        """Key of the error that counts: the median, or the mean for a velocity, whose median is that of rest."""
        return "mean_error" if self.divided_by_itself else "median_error"


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
