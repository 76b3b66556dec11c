"""Checkpoints: weights and training state, in memory and in files that are read without running code from them.

A file is one safetensors file with the training state as JSON in its header. It is written under a temporary name and
renamed when complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.storage import replace_file

__all__ = ["Checkpoints", "TrainingState"]

LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass
class TrainingState:
    """Everything that training needs besides weights and optimizer to continue after an epoch.

    Attributes
    ----------
    epochs_done : int
    history : dict of lists
        One entry per quantity and epoch.
    initial_diagnostics : dict
        Diagnostics of the latents before training.
    best_score : float or None
        Highest held-out score so far.
    epochs_without_improvement : int
        Epochs since then.
    """

    epochs_done: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    initial_diagnostics: dict[str, float] = field(default_factory=dict)
    best_score: float | None = None
    epochs_without_improvement: int = 0


@dataclass(frozen=True)
class _Weights:
    """Weights after a number of epochs, on the CPU."""

    epochs_done: int
    tensors: dict[str, Tensor]


class Checkpoints:
    """Keeps the weights of the start, of the last and of the best epoch; writes the latter two if there is a folder.

    Parameters
    ----------
    model : nn.Module
        Its present weights are those of the start.
    folder : Path or None
        Folder for `last.safetensors` and `best.safetensors`. Files of earlier runs there are overwritten.
    label : mapping
        What must be the same in a run that is resumed: name and object, compared as text.

    Raises
    ------
    InputError
        If `folder` is a file.
    """

    def __init__(self, model: nn.Module, folder: Path | None, label: Mapping[str, object]) -> None:
        if folder is not None and folder.exists() and not folder.is_dir():
            raise InputError(f"checkpoint_dir must be a folder, but {folder} is a file", parameter="checkpoint_dir")
        self.folder = folder
        # The text of an object may contain its address in memory, which differs between runs.
        self.label = {name: re.sub(r" at 0x[0-9a-f]+", "", str(value)) for name, value in label.items()}
        self._kept = _Weights(0, _copied(model.state_dict()))

    def keep(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState, is_best: bool) -> None:
        """Keep the weights of the epoch just done.

        Parameters
        ----------
        model : nn.Module
        optimizer : Optimizer
        state : TrainingState
        is_best : bool
            Whether these are the weights to restore at the end.
        """
        weights = _Weights(state.epochs_done, _copied(model.state_dict()))
        if is_best:
            self._kept = weights
        if self.folder is None or rank_and_size()[0] > 0:
            return
        # The best weights first: an interrupt between the two files repeats the epoch, which gives the same weights.
        if is_best and state.best_score is not None:
            self._write(BEST, _prefixed("model", weights.tensors), TrainingState(state.epochs_done))
        self._write(LAST, _prefixed("model", weights.tensors) | _optimizer_tensors(optimizer), state)

    def restore(self, model: nn.Module) -> str:
        """Move the model to the CPU, restore the best weights (or the last, without a held-out part), and name them."""
        model.cpu()
        model.load_state_dict(self._kept.tensors)
        if self._kept.epochs_done == 0:
            return "no epoch had been finished, so the weights are those of the start"
        return f"the weights are those of epoch {self._kept.epochs_done}"

    def resume(self, model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> TrainingState:
        """Load weights and optimizer state of the last epoch in the folder, and return the training state.

        Raises
        ------
        InputError
            If there is no checkpoint, it is damaged, another model or other settings made it, or it has already more
            than `epochs` epochs.
        """
        assert self.folder is not None
        path = self.folder / LAST
        if not path.is_file():
            raise InputError(f"nothing to resume: {path} does not exist; fit without resume first", parameter="resume")
        tensors, metadata = _read(path)
        try:
            state, label = TrainingState(**metadata["state"]), metadata["label"]
            weights = _without_prefix("model", tensors)
            _check_same_shapes(weights, model.state_dict())
        except (KeyError, TypeError, ValueError) as error:
            raise _does_not_fit(path, error) from error
        different = [name for name, value in self.label.items() if label.get(name) != value]
        if different:
            raise InputError(
                f"the run that is to be resumed had another {' and another '.join(different)}: resume with the model "
                "and the settings that began it, or fit anew"
            )
        if state.epochs_done > epochs:
            raise InputError(
                f"{path} has {state.epochs_done} epochs already, more than epochs={epochs}: resume with more epochs",
                parameter="epochs",
            )
        model.load_state_dict(weights)
        _load_optimizer(optimizer, tensors)
        self._kept = _Weights(state.epochs_done, weights)
        if state.best_score is not None:
            tensors, metadata = _read(self.folder / BEST)
            self._kept = _Weights(metadata["state"]["epochs_done"], _without_prefix("model", tensors))
        return state

    def _write(self, name: str, tensors: dict[str, Tensor], state: TrainingState) -> None:
        from safetensors.torch import save_file

        assert self.folder is not None
        metadata = {"checkpoint": json.dumps({"format": 1, "label": self.label, "state": asdict(state)})}
        replace_file(self.folder / name, lambda path: save_file(tensors, path, metadata), overwrite=True)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of all parameters, named by the number of the parameter."""
    return {
        f"optimizer.{number}.{name}": value.detach().to("cpu", copy=True).contiguous()
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _without_prefix("optimizer", tensors).items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()["checkpoint"])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _does_not_fit(path, error) from error


def _check_same_shapes(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name in (*expected, *(name for name in found if name not in expected)):
        there, here = (tuple(some[name].shape) if name in some else "missing" for some in (found, expected))
        if there != here:
            raise ValueError(f"its {name} is {there}, that of the model {here}")


def _does_not_fit(path: Path, error: BaseException) -> InputError:
    return InputError(
        f"{path} does not fit this model ({first_line(error)}): "
        "resume with the settings that began the run, or fit anew"
    )
