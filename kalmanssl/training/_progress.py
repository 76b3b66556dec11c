"""The progress bar of a fit: one line on standard error for the whole run."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Progress"]


class Progress(Callback):
    """Steps done, time left, and the last loss, on the held-out blocks if there are any."""

    def __init__(self) -> None:
        self.bar = RichProgress(
            TextColumn("fit"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[score]}"),
            console=Console(stderr=True),
        )

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Open the bar, in one of the processes that train together."""
        self.bar.disable = not trainer.is_global_zero
        total = (trainer.max_epochs or 0) * trainer.num_training_batches
        self.line = self.bar.add_task("fit", total=total, completed=trainer.global_step, score="")
        self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Move on one step."""
        self.bar.update(self.line, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Show the newest loss; with the stop-gradient, whose loss is always zero, the alignment."""
        found = trainer.callback_metrics
        kind = "held_out_" if "held_out_loss" in found else ""
        name = kind + ("loss" if found[kind + "loss"] != 0 else "alignment")
        self.bar.update(self.line, score=f"{name.replace('_', ' ')} {float(found[name]):.3f} nats")

    def on_train_end(self, *_: Any) -> None:
        """Close the bar."""
        self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        """Close the bar, so that the message stands on a line of its own."""
        self.bar.stop()
