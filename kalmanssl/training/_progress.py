"""The progress bar of a training: one line on standard error, or a part of the bar of several phases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from kalmanssl.kalman.kernels import watch_compilation
from kalmanssl.training._phases import active_phases
from kalmanssl.utils.progress import COMPILING

__all__ = ["Progress"]


class Progress:
    """Show the steps done, the remaining time and the last score.

    The score is the held-out gain for models that have one, which has the same scale in all stages of a fit. Otherwise
    it is the loss (of the held-out part if there is one).

    Parameters
    ----------
    done, total : int
        Steps already done (after resuming), and steps in all.
    stage : str
        Name of the training.
    score_name : str
        What the held-out score of the model is called; empty if it is minus the loss.
    bins_per_step : int, optional
        Bins in a step, to show the score in nats per bin; by default it is shown in nats per step.
    """

    def __init__(
        self, done: int, total: int, stage: str = "fit", score_name: str = "", bins_per_step: int | None = None
    ) -> None:
        self._done, self._total, self._stage, self._score_name = done, total, stage, score_name
        self._bins_per_step = bins_per_step
        self._score, self._before = "", ""
        self._phases = active_phases()
        self._bar: Any = None
        if self._phases is None:
            self._bar = RichProgress(
                TextColumn(stage),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("steps"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[score]}"),
                console=Console(stderr=True),
            )
            self._line = self._bar.add_task(stage, total=total, completed=done, score="")
        self._watch = watch_compilation(self.show_compilation)

    def __enter__(self) -> Progress:
        if self._phases is not None:
            self._phases.begin_training(self._stage)
        else:
            self._bar.start()
        self._watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.__exit__(None, None, None)
        if self._bar is not None:
            self._bar.stop()  # also after an error, so that its message has a line of its own

    @property
    def score(self) -> str:
        """The score that is shown."""
        return self._score

    def show_compilation(self, begins: bool) -> None:
        """Show that code is compiled, which takes seconds, until it ends."""
        if begins:
            self._before = self._score
        self._show_score(COMPILING if begins else self._before, refresh=True)

    def show_step(self, done: int) -> None:
        """Show how many steps are done."""
        if self._phases is not None:
            self._phases.show_part(self._stage, done / max(self._total, 1))
        else:
            self._bar.update(self._line, completed=done)

    def show_epoch(self, metrics: Mapping[str, float]) -> None:
        """Show the newest gain or loss, or the alignment if the loss is always zero (stop-gradient entropy)."""
        kind = "held_out_" if "held_out_loss" in metrics else ""
        if self._score_name and kind:
            score = metrics["held_out_score"] / (self._bins_per_step or 1)
            unit = "step" if self._bins_per_step is None else "bin"
            error = metrics.get("held_out_score_error", math.nan) / (self._bins_per_step or 1)
            shown = f"{score:.2f} ± {error:.2f}" if math.isfinite(error) else f"{score:.3f}"
            self._show_score(f"held-out {self._score_name} {shown} nats per {unit}")
            return
        name = kind + ("loss" if metrics[kind + "loss"] != 0 else "alignment")
        self._show_score(f"{name.replace('held_out_', 'held-out ')} {metrics[name]:.3f} nats")

    def _show_score(self, score: str, refresh: bool = False) -> None:
        self._score = score
        if self._phases is not None:
            self._phases.show_score(score)
        else:
            self._bar.update(self._line, score=score, refresh=refresh)
