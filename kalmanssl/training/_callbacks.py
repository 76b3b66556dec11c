"""What is watched and kept at the end of every epoch of training."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from kalmanssl.errors import CollapseError

__all__ = ["CollapseWatch", "History"]


class CollapseWatch(Callback):
    """Stops a run whose latents lose their variance or become copies of each other.

    Both are compared with what they were before training: the scale is free (a learned noise scale follows it) and the
    data may have few dimensions themselves. So only a loss of orders of magnitude is called a collapse.
    """

    smallest_scale = 1e-3
    smallest_surplus = 1e-2  # of the effective dimension over one

    def __init__(self) -> None:
        self.start: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, task: Any) -> None:
        """Look at the latents before training."""
        self.start = self.start or task.model.diagnostics(task.probe())

    def on_train_epoch_end(self, trainer: pl.Trainer, task: Any) -> None:
        """Log how the latents are, and raise if they collapsed."""
        now = task.model.diagnostics(task.probe())
        for name, value in now.items():
            task.log(name, value, sync_dist=True)
        symptom = None
        if now["latent_scale"] < self.smallest_scale * self.start["latent_scale"]:
            symptom = f"their spread is {now['latent_scale']:.2g}, it began at {self.start['latent_scale']:.2g}"
        elif now["effective_dimension"] - 1 < self.smallest_surplus * (self.start["effective_dimension"] - 1):
            symptom = "all of them carry the same signal"
        if symptom:
            raise CollapseError(
                f"the latents collapsed: after epoch {trainer.current_epoch + 1} {symptom} "
                "(try another entropy, such as 'logdet', or a lower dynamics_lr_factor)"
            )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: how the latents began."""
        return {"start": self.start}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with the beginning of the run that is resumed."""
        self.start = state["start"]


class History(Callback):
    """Keeps what was logged at the end of every epoch."""

    def __init__(self, epochs: dict[str, list[float]]) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Append the values of this epoch."""
        for name, value in trainer.callback_metrics.items():
            self.epochs.setdefault(name, []).append(float(value))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the epochs so far."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin with the epochs of the run that is resumed."""
        self.epochs.update(state["epochs"])
