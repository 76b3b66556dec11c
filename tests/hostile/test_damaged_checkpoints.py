"""Checkpoints that were changed or damaged are refused on resume with one line; a fit without resume replaces them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import FILES, REMOVED, replaced
from estimator_cases import TINY, counts
from refusals import assert_refused
from safetensors import safe_open
from safetensors.torch import save_file

from kalmanssl import KalmanSSL

X = counts()
LAST, BEST = "last.safetensors", "best.safetensors"
INFINITE, NAN = float("inf"), float("nan")


def model(folder: Path, **settings: Any) -> KalmanSSL:
    return KalmanSSL(**{**TINY, "epochs": 3, "validation_fraction": 0.2, "checkpoint_dir": folder, **settings})


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a fit of three epochs."""
    folder = tmp_path_factory.mktemp("begun") / "checkpoints"
    model(folder).fit(X)
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoints, which a test may change."""
    return Path(shutil.copytree(begun, tmp_path / "copy"))


def change(
    path: Path, tensors: Callable[[dict[str, Any]], None] = lambda _: None, state: Callable[[Any], Any] = lambda s: s
) -> None:
    """Change the tensors or the training state in a checkpoint."""
    with safe_open(path, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(file.metadata()["checkpoint"])
    tensors(found)
    save_file(found, path, {"checkpoint": json.dumps(state(metadata))})


def refused(folder: Path, match: str | None = None, **settings: Any) -> None:
    assert_refused(lambda: model(folder, epochs=4, **settings).fit(X, resume=True), match, seconds=20)


def test_checkpoints_that_were_not_changed_are_resumed(folder: Path) -> None:
    assert len(model(folder, epochs=4).fit(X, resume=True).history_["loss"]) == 4


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("file", [LAST, BEST])
def test_damaged_files_are_refused(file: str, name: str, folder: Path) -> None:
    FILES[name](folder / file)
    refused(folder, "safetensors")


TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "missing": lambda t: REMOVED, "nan": lambda t: torch.full_like(t, NAN), "infinite": lambda t: t / 0,
    "shape": lambda t: torch.stack([t, t]), "integers": lambda t: t.to(torch.int64), "double": lambda t: t.double(),
}  # fmt: skip
OPTIMIZER = {name: one for name, one in TENSORS.items() if name != "missing"}


def _replace(name: str, change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], None]:
    def replace(found: dict[str, Any]) -> None:
        full = (
            next(one for one in found if one.startswith("optimizer.") and one.endswith(name))
            if name[0] != "m"
            else name
        )
        value = change(found.pop(full))
        if value is not REMOVED:
            found[full] = value

    return replace


@pytest.mark.parametrize("how", TENSORS)
@pytest.mark.parametrize("file", [LAST, BEST])
def test_changed_weights_are_refused(file: str, how: str, folder: Path) -> None:
    change(folder / file, _replace("model.predictor.A", TENSORS[how]))
    refused(folder, "safetensors")


@pytest.mark.parametrize("how", TENSORS)
def test_changed_states_of_the_optimizer_are_refused(how: str, folder: Path) -> None:
    change(folder / LAST, _replace("exp_avg", TENSORS[how]))
    refused(folder, "safetensors")


@pytest.mark.parametrize("name", ["optimizer.x.exp_avg", "optimizer.9999.exp_avg", "optimizer.0.a.b", "optimizer", "x"])
def test_tensors_of_other_names_are_refused(name: str, folder: Path) -> None:
    change(folder / LAST, lambda found: found.__setitem__(name, torch.zeros(3)))
    refused(folder, "safetensors")


STATES: dict[str, tuple[tuple[str, ...], Any]] = {
    "epochs of text": (("state", "epochs_done"), "x"), "negative epochs": (("state", "epochs_done"), -1),
    "fractional epochs": (("state", "epochs_done"), 1.5), "many epochs": (("state", "epochs_done"), 10**9),
    "no epochs": (("state", "epochs_done"), None), "bool": (("state", "epochs_done"), True),
    "history of text": (("state", "history"), "x"), "history of a list": (("state", "history"), []),
    "history of texts": (("state", "history"), {"loss": ["a"]}), "short history": (("state", "history", "loss"), []),
    "no loss": (("state", "history", "loss"), REMOVED), "diagnostics": (("state", "initial_diagnostics"), [1]),
    "diagnostics of text": (("state", "initial_diagnostics"), {"latent_scale": "x"}),
    "score of text": (("state", "best_score"), "x"), "score of NaN": (("state", "best_score"), NAN),
    "patience of text": (("state", "epochs_without_improvement"), "x"), "unknown": (("state", "unknown"), 1),
    "negative patience": (("state", "epochs_without_improvement"), -3), "no state": (("state",), REMOVED),
    "state of a list": (("state",), []), "no label": (("label",), REMOVED), "label of a list": (("label",), []),
    "format": (("format",), 2), "no format": (("format",), REMOVED),
}  # fmt: skip


@pytest.mark.parametrize("case", STATES)
def test_changed_training_states_are_refused(case: str, folder: Path) -> None:
    place, value = STATES[case]
    change(folder / LAST, state=lambda found: replaced(found, place, value))
    refused(folder)


@pytest.mark.parametrize("state", [[], "x", None, 3], ids=repr)
def test_training_states_of_another_type_are_refused(state: Any, folder: Path) -> None:
    change(folder / LAST, state=lambda found: state)
    refused(folder, "safetensors")


def test_best_weights_of_a_later_epoch_are_refused(folder: Path) -> None:
    change(folder / BEST, state=lambda found: replaced(found, ("state", "epochs_done"), 50))
    refused(folder, "best")
    change(folder / BEST, state=lambda found: replaced(found, ("state", "epochs_done"), "x"))
    refused(folder, "best")


@pytest.mark.parametrize(
    "settings",
    [{"learning_rate": 1e-5}, {"hidden": (9,)}, {"state_dim": 4}, {"random_state": 1}, {"window": 16}],
    ids=str,
)
def test_checkpoints_of_other_settings_are_refused(settings: dict[str, Any], folder: Path) -> None:
    refused(folder, **settings)


def test_checkpoints_of_other_data_are_refused(folder: Path) -> None:
    assert_refused(lambda: model(folder, epochs=4).fit(counts(7), resume=True))


def test_a_fit_without_resume_replaces_damaged_checkpoints(folder: Path) -> None:
    FILES["noise"](folder / LAST)
    FILES["empty"](folder / BEST)
    model(folder).fit(X)
    assert len(model(folder, epochs=4).fit(X, resume=True).history_["loss"]) == 4
