"""Weights that a run can be put back to: those of its start, of its last epoch, and of the best one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from kalmanssl.errors import InputError

__all__ = ["Checkpoints", "RunLabel"]


class Checkpoints:
    """Keeps the last epoch in `last.ckpt` and, by a score, the best in `best.ckpt`.

    Parameters
    ----------
    folder : Path
        What earlier runs left there is written over epoch by epoch, and looked at only to resume.
    model : nn.Module
    score : str or None
        Which logged quantity makes an epoch the best, the more the better.
    resume : bool
        Whether the run goes on from what the folder holds.

    Raises
    ------
    InputError
        If `folder` is a file, or there is nothing to resume.
    """

    def __init__(self, folder: Path, model: nn.Module, score: str | None, resume: bool) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"checkpoint_dir must be a folder, but {folder} is a file")
        self.resumed = folder / "last.ckpt" if resume else None
        if self.resumed is not None and not self.resumed.is_file():
            raise InputError(f"nothing to resume: {self.resumed} does not exist; fit without resume first")
        self.start = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        keep: dict[str, Any] = {"enable_version_counter": False, "save_on_train_epoch_end": True}
        self._files = [ModelCheckpoint(folder, "last", **keep)]
        if score is not None:
            self._files.append(ModelCheckpoint(folder, "best", monitor=score, mode="max", **keep))

    @property
    def callbacks(self) -> list[Callback]:
        """What writes the files at the end of every epoch."""
        return list(self._files)

    def restore(self, model: nn.Module) -> str:
        """Put the best weights of this run back, or the last where none were judged, and say which they are."""
        model.cpu()
        for file in reversed(self._files):
            # All processes read what the first of them wrote, whose folder Lightning has told the others.
            path = Path(str(file.dirpath)) / f"{file.filename}.ckpt"
            if (file.best_model_path or self.resumed) and path.is_file():
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
                weights = {name.removeprefix("model."): value for name, value in checkpoint["state_dict"].items()}
                model.load_state_dict(weights)
                return f"the weights are those of epoch {checkpoint['epoch'] + 1}"
        model.load_state_dict(self.start)
        return "no epoch had been finished, so the weights are those of the start"


class RunLabel(Callback):
    """Writes into each checkpoint what made it, so that another run does not go on from it unnoticed.

    Parameters
    ----------
    label : mapping
        What must be the same, in words.
    """

    def __init__(self, **label: Any) -> None:
        # Where something lies in memory, which some things tell of themselves, is no part of what it is.
        self.label = {name: re.sub(r" at 0x[0-9a-f]+", "", str(value)) for name, value in label.items()}

    def on_save_checkpoint(self, trainer: Any, task: Any, checkpoint: dict[str, Any]) -> None:
        """Add the label."""
        checkpoint["run_label"] = self.label

    def on_load_checkpoint(self, trainer: Any, task: Any, checkpoint: dict[str, Any]) -> None:
        """Compare the label.

        Raises
        ------
        InputError
            If the checkpoint was made by another model or with other settings.
        """
        began = checkpoint.get("run_label", self.label)
        other = [name for name, value in self.label.items() if began.get(name) != value]
        if other:
            raise InputError(
                f"the run that is to be resumed had another {' and another '.join(other)}: resume with the model and "
                "the settings that began it, or fit anew"
            )
