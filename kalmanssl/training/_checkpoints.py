"""Checkpoints: weights and training state, in memory and in files that are read without running code from them.

A file is one safetensors file with the training state as JSON in its header. It is written under a temporary name and
renamed when complete.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.module_io import check_weights
from kalmanssl.utils.storage import replace_file, without_prefix
from kalmanssl.utils.stored_values import StoredValues, is_number

__all__ = ["Checkpoints", "TrainingState", "delete_checkpoints", "describe_batch", "has_checkpoint"]

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
            found = "is not a file" if path.exists() else "does not exist"
            raise InputError(f"nothing to resume: {path} {found}; fit without resume first", parameter="resume")
        tensors, metadata = _read(path)
        state = _training_state(metadata, path)
        weights = _weights_of(model, tensors, path)
        self._check_label(metadata, path)
        if state.epochs_done > epochs:
            raise InputError(
                f"{path} has {state.epochs_done} epochs already, more than epochs={epochs}: resume with more epochs",
                parameter="epochs",
            )
        own = without_prefix(tensors, "optimizer.")
        if len(weights) + len(own) < len(tensors):
            raise _does_not_fit(path, ValueError("it has tensors that are no weights"))
        moments = _moments(optimizer, own, path)
        kept = _Weights(state.epochs_done, weights)
        if state.best_score is not None:
            path = self.folder / BEST
            tensors, metadata = _read(path)
            self._check_label(metadata, path)
            # The best weights are written first, so an interrupt can leave those of one epoch more.
            epoch = _stored(metadata, path).group("state").integer("epochs_done", 1, state.epochs_done + 1)
            kept = _Weights(epoch, _weights_of(model, tensors, path))
        model.load_state_dict(weights)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        self._kept = kept
        return state

    def _check_label(self, metadata: Any, path: Path) -> None:
        """Check that a checkpoint is of the same model and settings."""
        label = _stored(metadata, path).group("label").values
        # Checkpoints of earlier versions and of several processes have no description of the data.
        compared = [name for name in self.label if name != "data" or name in label]
        different = [name for name in compared if label.get(name) != self.label[name]]
        if len(different) > 1 and "data" in different:
            different.remove("data")  # other seeds and settings draw other batches of the same data
        if different:
            raise InputError(
                f"the run that is to be resumed had another {' and another '.join(different)}: resume with the model "
                "and the settings that began it, or start a new fit"
            )

    def _write(self, name: str, tensors: dict[str, Tensor], state: TrainingState) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        assert self.folder is not None
        metadata = {"checkpoint": json.dumps({"format": 1, "label": self.label, "state": asdict(state)})}

        def write(path: Path) -> None:
            try:
                save_file(tensors, path, metadata)
            except SafetensorError as error:  # a full disk, for example
                raise OSError(first_line(error)) from error

        replace_file(self.folder / name, write, overwrite=True)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder has a checkpoint to resume from."""
    return (folder / LAST).exists()


def delete_checkpoints(folder: Path) -> None:
    """Delete the checkpoints in a folder, those of the last epoch first."""
    for name in (LAST, BEST):
        (folder / name).unlink(missing_ok=True)


def describe_batch(batch: Any) -> str:
    """Return the shapes and moments of the tensors in a batch as text, which differs between data sets."""
    if isinstance(batch, Tensor):
        values = batch.detach().double()
        spread = values.std(correction=0) if values.numel() else values.sum()
        return f"{tuple(values.shape)} mean {values.mean():.4g} sd {spread:.4g}"
    if isinstance(batch, Mapping):
        return "; ".join(describe_batch(one) for one in batch.values())
    return "; ".join(describe_batch(one) for one in batch) if isinstance(batch, list | tuple) else type(batch).__name__


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of all parameters, named by the number of the parameter."""
    return {
        f"optimizer.{number}.{name}": value.detach().to("cpu", copy=True).contiguous()
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def _moments(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], path: Path
) -> dict[int, dict[str, Tensor]]:
    """Return the stored state of each parameter of the optimizer, by the number of the parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        valid = number.isdecimal() and len(number) < 10 and int(number) < len(parameters) and key.isidentifier()
        if valid:
            parameter = parameters[int(number)]
            valid = value.dtype == (parameter.dtype if value.ndim else torch.float32)
            valid &= value.shape in (parameter.shape, torch.Size())
            valid &= bool(torch.isfinite(value).all()) and not (
                key in ("step", "exp_avg_sq") and bool((value < 0).any())
            )
        if not valid:
            raise _does_not_fit(path, ValueError(f"its optimizer.{name[:80]} is not that of a parameter"))
        state.setdefault(int(number), {})[key] = value
    if len({tuple(sorted(values)) for values in state.values()}) > 1:
        raise _does_not_fit(path, ValueError("the state of its optimizer is not complete"))
    return state


def _read(path: Path) -> tuple[dict[str, Tensor], Any]:
    from safetensors import SafetensorError, safe_open

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe could block
            raise OSError("it is not a file")
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["checkpoint"])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _does_not_fit(path, error) from error


def _stored(metadata: Any, path: Path) -> StoredValues:
    """Return the training state in the header of a file with checked access."""
    values = StoredValues(metadata, path, "run")
    values.integer("format", 1, 1)
    return values


def _training_state(metadata: Any, path: Path) -> TrainingState:
    """Return the training state in the header of a file."""
    stored = _stored(metadata, path).group("state")
    unknown = set(stored.values) - {one.name for one in fields(TrainingState)}
    if unknown:
        raise stored.error("state", "the state of a training", sorted(map(str, unknown))[0])
    epochs, history = stored.integer("epochs_done", 1), stored.numbers_by_name("history")
    if "loss" not in history or any(len(values) != epochs for values in history.values()):
        raise stored.error("history", f"complete, with {epochs} epochs", {k: len(v) for k, v in history.items()})
    initial = stored.group("initial_diagnostics")
    diagnostics = {str(name): initial.number(name) for name in initial.values}
    for name in ("latent_scale", "effective_dimension"):
        initial.number(name)
    best = stored.get("best_score", lambda value: value is None or is_number(value), "a number or null")
    if best is not None:
        stored.number_in("best_score", -1e300, 1e300, "a finite number")
    return TrainingState(epochs, history, diagnostics, best, stored.integer("epochs_without_improvement"))


def _weights_of(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the weights in a file, which must have the names, shapes and types of those of the model."""
    weights = without_prefix(tensors, "model.")
    try:
        check_weights(weights, model.state_dict(), path, "model", same_types=True)
    except InputError as error:
        raise _does_not_fit(path, error) from error
    return weights


def _does_not_fit(path: Path, error: BaseException) -> InputError:
    return InputError(
        f"{path} does not fit this model ({first_line(error)}): "
        "resume with the settings that began the run, or start a new fit"
    )
