"""The bins of an evaluation: what the animal did, where this is known, and in which of them it moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.runs._labels import keep_known_labels, label_numbers
from kalmanssl.runs._running import divided_by_itself, where_running

if TYPE_CHECKING:
    from kalmanssl.runs._run import Run

__all__ = ["EvaluatedBins"]


@dataclass(frozen=True)
class EvaluatedBins:
    """The behavior of a recording that a run decodes.

    Attributes
    ----------
    time : (time,)
        Centers of the bins, seconds.
    truth : (time,) or (time, dims), or None
        Behavior, NaN where it is unknown; or labels, None where they are unknown or the decoder was not fitted on them.
        None if the run decodes no behavior, or the recording does not have it.
    numbers : as `truth`
        Numbers of the labels, NaN where they are unknown; of other behavior the behavior itself.
    labels : (labels,) or None
        Labels of the decoder, if the behavior consists of labels.
    n_other_labels : int
        Number of bins with labels that the decoder was not fitted on.
    known : (time,) bool
        In which bins the behavior is known; none without behavior.
    runs : (time,) bool, or None
        In which bins the animal moves; None if the run does not say what that is.
    main_part : {"running", "all"}
        The part whose scores count. All bins count if none of them is known to be running, and for a velocity that says
        itself which bins are running: these have large values, and even a good decoder underestimates large values.
    """

    time: np.ndarray
    truth: np.ndarray | None
    numbers: np.ndarray | None
    labels: np.ndarray | None
    n_other_labels: int
    known: np.ndarray
    runs: np.ndarray | None
    main_part: str

    @classmethod
    def of(cls, run: Run, recording: Recording) -> EvaluatedBins:
        """Return the bins of a recording."""
        truth = recording.behavior.get(run.behavior) if run.behavior else None
        labels = run.labels
        numbers, n_other_labels = truth, 0
        if labels is not None and truth is not None:
            truth, n_other_labels = keep_known_labels(truth, labels)
            numbers = label_numbers(truth, labels)
        if numbers is None:
            known = np.zeros(len(recording), dtype=bool)
        else:
            known = np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
        runs = where_running(run.settings, recording, run.behavior, run.metadata.get("running_speed"))
        all_count = runs is None or not (known & runs).any() or divided_by_itself(run)
        main_part = "all" if all_count else "running"
        return cls(recording.time, truth, numbers, labels, n_other_labels, known, runs, main_part)

    @property
    def main(self) -> np.ndarray:
        """Bins that figures show, (time,) bool: those of the main part, with known behavior."""
        return self.parts.get(self.main_part, self.known)

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Bins (time,) bool with known behavior by the name of their scores: all, running and rest; empty ones not."""
        parts = {"all": self.known}
        if self.runs is not None and (self.known & self.runs).any():
            parts |= {"running": self.known & self.runs, "rest": self.known & ~self.runs}
        return {name: bins for name, bins in parts.items() if bins.any()}
