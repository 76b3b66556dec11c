"""The progress bar of a fit: one line on standard error."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from kalmanssl.kalman.kernels import watch_compilation

__all__ = ["COMPILING", "Progress"]

COMPILING = "compiling (first use on this machine)"


class Progress:
    """Show the steps done, the remaining time and the last loss (of the held-out part if there is one).

    Parameters
    ----------
    done, total : int
        Steps already done (after resuming), and steps in all.
    stage : str
        Name of the training.
    """

    def __init__(self, done: int, total: int, stage: str = "fit") -> None:
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
        self._score = ""
        self._watch = watch_compilation(self.show_compilation)

    def __enter__(self) -> Progress:
        self._bar.start()
        self._watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.__exit__(None, None, None)
        # Also after an error, so that its message has a line of its own.
        self._bar.stop()

    def show_compilation(self, begins: bool) -> None:
        """Show that code is compiled, which takes seconds, until it ends."""
        if begins:
            self._score = self._bar.tasks[0].fields["score"]
        self._bar.update(self._line, score=COMPILING if begins else self._score, refresh=True)

    def show_step(self, done: int) -> None:
        """Show how many steps are done."""
        self._bar.update(self._line, completed=done)

    def show_epoch(self, metrics: Mapping[str, float]) -> None:
        """Show the newest loss, or the alignment if the loss is always zero (stop-gradient entropy)."""
        kind = "held_out_" if "held_out_loss" in metrics else ""
        name = kind + ("loss" if metrics[kind + "loss"] != 0 else "alignment")
        self._bar.update(self._line, score=f"{name.replace('_', ' ')} {metrics[name]:.3f} nats")
