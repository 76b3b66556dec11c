"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kalmanssl.errors import CollapseError, DivergenceError, InputError, NotFiniteError
from kalmanssl.models import Terms, Trainable
from kalmanssl.training._batches import HeldOut, TrainingData
from kalmanssl.training._checkpoints import Checkpoints, TrainingState, describe_batch
from kalmanssl.training._collapse import check_collapse
from kalmanssl.training._devices import choose_device, joined_processes, synchronized_batch_norm, to_device
from kalmanssl.training._optimizer import make_optimizer, set_learning_rates
from kalmanssl.training._settings import TrainingSettings
from kalmanssl.utils.blocks import mean_over_blocks
from kalmanssl.utils.distributed import all_gather, average, average_gradients, broadcast, rank_and_size
from kalmanssl.utils.locks import locked
from kalmanssl.utils.paths import make_folder
from kalmanssl.utils.torch_ops import evaluating, fast_products, threads_for

__all__ = ["train"]

OnStep = Callable[[int, Any], None]
OnEpochEnd = Callable[[int], None]


def train(
    model: Trainable,
    data: TrainingData,
    settings: TrainingSettings,
    history: dict[str, list[float]],
    *,
    seed: int,
    device: str = "auto",
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    on_step: OnStep | None = None,
    on_epoch_end: OnEpochEnd | None = None,
) -> None:
    """Train a model in place; it ends on the CPU with the weights of the epoch with the best held-out score.

    To train on several devices, start the script with one process per device:
    ``torchrun --nproc-per-node 4 script.py``. Each process draws batches of its own. Entropies are estimated on the
    batches of all processes together, and so are the statistics of batch normalization on GPUs. All processes end with
    the same weights. Code that must run only once belongs under ``if os.environ.get("RANK", "0") == "0":``.

    Parameters
    ----------
    model : Trainable
        A `SequenceModel`, a `PairModel` or another subclass of `kalmanssl.models.Trainable`.
    data : TrainingData
        Without a held-out part, the model keeps the weights of the last epoch.
    settings : TrainingSettings
    history : dict
        Filled in place with one list per quantity and one entry per epoch: loss, alignment, entropy, behavior (of a
        model with a behavior term), the same with the prefix held_out_, held_out_score (nats per step or pair), its
        standard error over blocks of time held_out_score_error (where the model has scores of windows), and the model's
        diagnostics, such as latent_scale and effective_dimension.
    seed : int
        Seed of what the model itself draws, such as dropout.
    device : str
        "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".
    checkpoint_dir : path, optional
        Folder for `last.safetensors` (to resume) and `best.safetensors`. By default no files are written.
    resume : bool
        Continue after the last epoch in `checkpoint_dir`. The result is that of an uninterrupted run.
    progress : bool
        Show a progress bar on standard error.
    on_step : callable, optional
        Called after each step with the number of steps done and the batch.
    on_epoch_end : callable, optional
        Called after each epoch, when its checkpoint is written, with the number of epochs done.

    Raises
    ------
    CollapseError, DivergenceError, KeyboardInterrupt
        If the latents collapse, the loss diverges, or on Ctrl-C; the model then has the last good weights.
    InputError
        If a setting cannot be used, there is no checkpoint to resume from, or the checkpoint is damaged, of another
        model, of other data or of other settings (except epochs and patience).
    """
    if resume and checkpoint_dir is None:
        raise InputError("resume=True needs the checkpoint_dir of the run that was interrupted", parameter="resume")
    chosen = choose_device(device)
    folder = None if checkpoint_dir is None else make_folder("checkpoint_dir", checkpoint_dir)
    with (
        joined_processes(chosen) as place,
        torch.random.fork_rng([place] if place.type == "cuda" else []),
        _only_writer(folder),
    ):
        checkpoints = Checkpoints(model, folder, _label_of_checkpoints(model, data, settings, seed, folder))
        try:
            with synchronized_batch_norm(model.to(place), place):
                loop = _Loop(
                    model=model,
                    data=data,
                    settings=settings,
                    checkpoints=checkpoints,
                    seed=seed,
                    device=place,
                    on_step=on_step,
                    on_epoch_end=on_epoch_end,
                )
                threads = threads_for(model, _count_rows(loop.reference)) if place.type == "cpu" else nullcontext()
                with threads, fast_products():
                    loop.prepare(history, resume)
                    loop.run(progress)
        except (CollapseError, DivergenceError) as error:
            raise type(error)(f"{error}; {checkpoints.restore(model)}") from error.__cause__
        except BaseException:
            checkpoints.restore(model)
            raise
        finally:
            model.zero_grad()
        checkpoints.restore(model)


def _label_of_checkpoints(
    model: Trainable, data: TrainingData, settings: TrainingSettings, seed: int, folder: Path | None
) -> dict[str, object]:
    """Return what must be the same in a training that continues from the checkpoints."""
    label: dict[str, object] = {
        "model": model,
        "seed": seed,
        "steps_per_epoch": data.steps_per_epoch,
        "settings": replace(settings, epochs=1, patience=1),  # these two may differ after resuming
    }
    if folder is not None and rank_and_size()[1] == 1:  # each process has batches of its own
        label["data"] = describe_batch(data.sample())
    return label


def _only_writer(folder: Path | None) -> AbstractContextManager[None]:
    """Return a context in which no other training can write checkpoints in the folder."""
    if folder is None or rank_and_size()[0] > 0:
        return nullcontext()
    message = f"checkpoint_dir {folder} is used by another fit: wait for its end, or choose another folder"
    return locked(folder, message)


class _Loop:
    """One training: the model with its optimizer and the state between epochs."""

    def __init__(
        self,
        model: Trainable,
        data: TrainingData,
        settings: TrainingSettings,
        checkpoints: Checkpoints,
        seed: int,
        device: torch.device,
        on_step: OnStep | None,
        on_epoch_end: OnEpochEnd | None,
    ) -> None:
        self.model, self.data, self.settings, self.seed = model, data, settings, seed
        self.checkpoints, self.device = checkpoints, device
        self.on_step, self.on_epoch_end = on_step, on_epoch_end
        self.optimizer = make_optimizer(model, settings)
        self.held_out = data.held_out
        self.reference = to_device(data.sample(), device)
        self.total_steps = settings.epochs * data.steps_per_epoch
        self.state = TrainingState()
        self.step = 0

    def prepare(self, history: dict[str, list[float]], resume: bool) -> None:
        """Load the checkpoint if the run is resumed, and make all processes start with the same weights."""
        if resume:
            self.state = self.checkpoints.resume(self.model, self.optimizer, self.settings.epochs)
            self.step = self.state.epochs_done * self.data.steps_per_epoch
        self._synchronize()
        history.update(self.state.history)
        self.state.history = history
        if not self.state.initial_diagnostics:
            self.state.initial_diagnostics = self._diagnose()

    def run(self, progress: bool) -> None:
        """Train until the last epoch, or until the held-out score has not improved for long enough."""
        with self._progress_bar(progress) as bar:
            while (
                self.state.epochs_done < self.settings.epochs
                and self.state.epochs_without_improvement < self.settings.patience
            ):
                metrics = self._train_epoch(bar)
                self._end_epoch(metrics)
                if bar is not None:
                    bar.show_epoch(metrics)
                if self.on_epoch_end is not None:
                    self.on_epoch_end(self.state.epochs_done)

    def _progress_bar(self, shown: bool) -> Any:
        if not shown or rank_and_size()[0] > 0:
            return nullcontext()
        from kalmanssl.training._progress import Progress

        model = self.model
        return Progress(self.step, self.total_steps, model.stage, model.score_name, model.bins_per_step)

    def _train_epoch(self, bar: Any) -> dict[str, float]:
        """Take the steps of one epoch; return the means of the loss and its terms."""
        # Dropout draws from torch's global generator. Seeded here, a resumed run draws the same numbers.
        torch.manual_seed(self.seed + self.state.epochs_done + 1_000_003 * rank_and_size()[0])
        sums: dict[str, float] = {}
        count = 0
        for batch in self.data.batches(self.state.epochs_done):
            moved_batch = to_device(batch, self.device)
            for name, value in self._take_step(moved_batch).items():
                sums[name] = sums.get(name, 0.0) + value
            self.step, count = self.step + 1, count + 1
            if self.on_step is not None:
                self.on_step(self.step, moved_batch)
            if bar is not None:
                bar.show_step(self.step)
        return average({name: total / count for name, total in sums.items()}, self.device)

    def _take_step(self, batch: Any) -> dict[str, float]:
        with self._named_failures():
            terms = self.model.terms(batch)
        loss = terms.loss
        self.model.zero_grad()
        loss.backward()
        average_gradients(self.model.parameters())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        values = _as_floats(terms)
        if not math.isfinite(values["loss"]):
            raise self._diverged(f"the loss became {values['loss']}")
        if not math.isfinite(norm):
            raise self._diverged("the gradient is not finite")
        set_learning_rates(self.optimizer, self.settings, self.step, self.total_steps)
        self.optimizer.step()
        self.model.after_step()
        return values

    def _end_epoch(self, metrics: dict[str, float]) -> None:
        """Score and check the model after an epoch, and keep its weights."""
        state = self.state
        self._synchronize()
        if self.held_out is not None:
            metrics |= self._evaluate_held_out(self.held_out)
        diagnostics = self._diagnose()
        check_collapse(state.initial_diagnostics, diagnostics, state.epochs_done + 1)
        metrics |= diagnostics
        for name, value in metrics.items():
            state.history.setdefault(name, []).append(value)
        self.model.after_epoch(self.settings.epochs)
        state.epochs_done += 1
        is_best = True
        if self.held_out is not None:
            is_best = self._compare_with_best(metrics["held_out_score"])
        self.checkpoints.keep(self.model, self.optimizer, state, is_best)

    def _compare_with_best(self, score: float) -> bool:
        state = self.state
        if math.isfinite(score) and (state.best_score is None or score > state.best_score):
            state.best_score, state.epochs_without_improvement = score, 0
            return True
        state.epochs_without_improvement += 1
        return state.best_score is None

    @torch.no_grad()
    def _evaluate_held_out(self, held_out: HeldOut) -> dict[str, float]:
        """Return the means of loss, terms and score over the held-out batches, and the standard error of the score."""
        sums: dict[str, float] = {}
        scores: list[torch.Tensor] = []
        with evaluating(self.model):
            for batch in held_out.batches:
                moved_batch = to_device(batch, self.device)
                found = _as_floats(self.model.terms(moved_batch))
                scores.append(self.model.held_out_scores(moved_batch, self.reference))
                found["score"] = float(scores[-1].mean())
                for name, value in found.items():
                    sums[f"held_out_{name}"] = sums.get(f"held_out_{name}", 0.0) + value
        means = average({name: total / len(scores) for name, total in sums.items()}, self.device)
        if held_out.blocks is None or scores[0].ndim == 0:
            return means
        return means | _score_error(scores, [block.to(self.device) for block in held_out.blocks])

    def _diagnose(self) -> dict[str, float]:
        """Compute the diagnostics on a held-out batch, or on one of the training part."""
        batch = self.reference if self.held_out is None else to_device(next(iter(self.held_out.batches)), self.device)
        return average(self.model.diagnostics(batch), self.device)

    def _synchronize(self) -> None:
        """Give all processes the weights and buffers of the first one."""
        broadcast([*self.model.parameters(), *self.model.buffers()])

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        """Turn errors of the model after the first step into those of training; before it, the input is at fault."""
        try:
            yield
        except ValueError as error:
            if self.step == 0:
                raise
            if isinstance(error, InputError) and not isinstance(error, NotFiniteError):
                # The entropy cannot be estimated from latents that are all the same.
                raise CollapseError(f"the latents collapsed at step {self.step}: {error}") from error
            raise self._diverged(str(error)) from error

    def _diverged(self, why: str) -> DivergenceError:
        return DivergenceError(
            f"training diverged at step {self.step} ({why}); a lower learning_rate or gradient_clip may help"
        )


def _score_error(scores: Sequence[torch.Tensor], blocks: Sequence[torch.Tensor]) -> dict[str, float]:
    """Return the standard error of the mean score of windows over blocks of time; empty if there is only one block.

    Parameters
    ----------
    scores, blocks : sequences of Tensor
        For each batch its scores (windows, ...), and the number of the block of each window, (windows,) int.
    """
    score, block = (
        all_gather(torch.cat(values)).cpu().numpy()
        for values in ([one.reshape(len(one), -1).mean(1) for one in scores], list(blocks))
    )
    if len(np.unique(block)) < 2:
        return {}
    return {"held_out_score_error": float(mean_over_blocks(score[:, None].astype(float), block)[1][0])}


def _count_rows(batch: Any) -> float:
    """Return the number of rows, along the last axis, of the tensors of a batch; infinity for other objects."""
    if isinstance(batch, torch.Tensor):
        return batch.numel() / max(batch.shape[-1], 1) if batch.ndim else 1
    return sum(map(_count_rows, batch)) if isinstance(batch, list | tuple) else math.inf


def _as_floats(terms: Terms) -> dict[str, float]:
    """Return the loss and its terms as numbers, with one transfer from the device."""
    tensors = {"loss": terms.loss, "alignment": terms.alignment, "entropy": terms.entropy}
    if terms.behavior is not None:
        tensors["behavior"] = terms.behavior
    values = torch.stack([t.detach().to(terms.loss.dtype) for t in tensors.values()]).tolist()
    return dict(zip(tensors, values, strict=True))
