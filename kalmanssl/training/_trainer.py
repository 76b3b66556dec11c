"""Training: batches in, fitted weights out, with everything that can go wrong on the way noticed and named.

Lightning runs the loop (devices, checkpoints, resuming, early stopping). This module adds what is particular to
latent distribution matching: rates per group of parameters, the cap on the spectral radius, and a watch for latents
that collapse and losses that diverge.
"""

from __future__ import annotations

import logging
import math
import pickle
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader

from kalmanssl.errors import CollapseError, DivergenceError, InputError, NotFiniteError, first_line
from kalmanssl.models import Terms, Trainable
from kalmanssl.training._batches import TrainingData
from kalmanssl.training._callbacks import CollapseWatch, History
from kalmanssl.training._checkpoints import Checkpoints, RunLabel
from kalmanssl.training._progress import Progress
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.validation import check_number, check_positive, check_whole

__all__ = ["TrainingSettings", "train"]


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Attributes
    ----------
    epochs : int
        Rounds at whose end the held-out part is scored and a checkpoint is written.
    learning_rate : float
        Peak rate of the encoder (Adam); it rises over the first twentieth of the steps and falls to zero as a cosine.
    dynamics_lr_factor, noise_lr_factor : float
        Multiples of `learning_rate` for the dynamics and constant noise (the filter should follow the encoder
        closely, LDM paper section 4) and for networks that predict noise.
    weight_decay : float
        Decoupled weight decay of the encoder and the noise networks.
    gradient_clip : float
        Largest norm of the gradient of one step.
    patience : int
        Epochs without a better held-out score after which training stops.
    """

    epochs: int
    learning_rate: float
    dynamics_lr_factor: float = 1.0
    noise_lr_factor: float = 1.0
    weight_decay: float = 0.0
    gradient_clip: float = 10.0
    patience: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("epochs", "patience"):
            check_whole(name, getattr(self, name), 1)
        for name in ("learning_rate", "dynamics_lr_factor", "noise_lr_factor", "gradient_clip"):
            check_positive(name, getattr(self, name))
        check_number("weight_decay", self.weight_decay)
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay must not be negative, got {self.weight_decay}")


def train(
    model: Trainable,
    data: TrainingData,
    settings: TrainingSettings,
    history: dict[str, list[float]],
    *,
    seed: int,
    accelerator: str = "auto",
    devices: int = 1,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    watch: Callable[[int], None] | None = None,
) -> None:
    """Train `model` in place; it ends with the weights that scored best on what was held out.

    Parameters
    ----------
    model : Trainable
        A `SequenceModel` or a `PairModel`.
    data : TrainingData
        Without a held-out part the last weights stay.
    settings : TrainingSettings
    history : dict
        Filled in place with one list per quantity, one entry per epoch: loss, alignment, entropy, held_out_loss,
        held_out_alignment, held_out_entropy, held_out_score (nats per step), latent_scale, effective_dimension,
        spectral_radius.
    seed : int
        Of what the model itself draws, such as dropout.
    accelerator : str
        A Lightning accelerator: "auto", "cpu", "gpu".
    devices : int
        How many of them share the work. Each takes batches of its own, and entropies are those of all together; so are
        the statistics of batch normalization, on GPUs. The script that calls this is run by a process for each of them,
        all of which end with the same weights: what it shall do but once belongs under
        ``if os.environ.get("LOCAL_RANK", "0") == "0":``.
    checkpoint_dir : path, optional
        Where `last.ckpt` (to resume) and `best.ckpt` are kept; by default they are dropped after training.
    resume : bool
        Go on from ``checkpoint_dir/last.ckpt``.
    progress : bool
        Show a progress bar on standard error.
    watch : callable, optional
        Called after each epoch with how many are done.

    Raises
    ------
    CollapseError, DivergenceError, KeyboardInterrupt
        Each after the last good weights were put back into `model`.
    InputError
        If a setting cannot be used, there is no checkpoint to resume from, or another model or other settings (but for
        epochs and patience) made it.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kalmanssl-") as scratch,
        torch.random.fork_rng(),
        _quiet(),
        _interruptible(),
        _alone_again(),
    ):
        if resume and checkpoint_dir is None:
            raise InputError("resume=True needs the checkpoint_dir of the run that was interrupted")
        score = None if data.held_out is None else "held_out_score"
        kept = Checkpoints(Path(checkpoint_dir or scratch), model, score, resume)
        label = RunLabel(
            model=model,
            seed=seed,
            steps_per_epoch=data.steps_per_epoch,
            settings=replace(settings, epochs=1, patience=1),  # which may be changed on the way
        )
        # The order matters: a collapsed epoch must raise before it can be kept.
        callbacks: list[Callback] = [CollapseWatch(), History(history), label, *kept.callbacks]
        if score is not None:
            callbacks.append(
                EarlyStopping(score, mode="max", patience=settings.patience, check_on_train_epoch_end=True)
            )
        if progress:
            callbacks.append(Progress())
        trainer = _trainer(accelerator, devices, settings.epochs, callbacks)
        task = _Task(model, data, settings, seed, watch)
        try:
            trainer.fit(task, ckpt_path=kept.resumed, weights_only=True)
        except SystemExit:  # how Lightning ends a run that was interrupted from the keyboard
            kept.restore(model)
            raise KeyboardInterrupt from None
        except (CollapseError, DivergenceError) as error:
            raise type(error)(f"{error}; {kept.restore(model)}") from None
        except MisconfigurationException as error:
            raise InputError(f"{kept.resumed or 'training'}: {first_line(error)}") from error
        except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
            if kept.resumed is not None and trainer.global_step == 0:
                raise InputError(
                    f"{kept.resumed} does not fit this model ({first_line(error)}): "
                    "resume with the settings that began the run, or fit anew"
                ) from error
            raise
        kept.restore(model)
        trainer.strategy.barrier()  # the folder may go with the first process


def _trainer(accelerator: str, devices: int, epochs: int, callbacks: list[Callback]) -> pl.Trainer:
    try:
        return pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            sync_batchnorm=devices > 1 and accelerator != "cpu" and torch.cuda.is_available(),
            max_epochs=epochs,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"accelerator={accelerator!r} with devices={devices!r}: {first_line(error)}") from error


class _Task(pl.LightningModule):
    """What Lightning needs to know of a model."""

    def __init__(
        self,
        model: Trainable,
        data: TrainingData,
        settings: TrainingSettings,
        seed: int,
        watch: Callable[[int], None] | None,
    ) -> None:
        super().__init__()
        self.watch = watch
        self.model = model
        self.data = data
        self.settings = settings
        self.seed_ = seed
        self.reference = data.sample()

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data.batches(self.current_epoch), batch_size=None)

    def val_dataloader(self) -> DataLoader | list[Any]:
        return [] if self.data.held_out is None else DataLoader(self.data.held_out, batch_size=None)

    def probe(self) -> Any:
        """Data on which the latents are watched: the held-out part, or one batch of the training part."""
        batch = self.reference if self.data.held_out is None else next(iter(self.data.held_out))
        return move_data_to_device(batch, self.device)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            # Dropout draws from torch's own generator: seeded here, a resumed run goes on as an uninterrupted one.
            torch.manual_seed(self.seed_ + self.current_epoch + 1_000_003 * self.global_rank)
        try:
            terms = self.model.terms(batch)
        except NotFiniteError as error:
            if self.global_step == 0:
                raise
            raise self._diverged(str(error)) from error
        except InputError as error:  # an entropy that cannot be estimated, once latents fell together
            if self.global_step == 0:
                raise
            raise CollapseError(f"the latents collapsed at step {self.global_step}: {error}") from error
        except ValueError as error:  # the filter refuses what is not finite
            raise self._diverged(str(error)) from error
        if not torch.isfinite(terms.loss):
            raise self._diverged(f"the loss became {terms.loss.item()}")
        self._log_terms("", terms)
        return terms.loss

    def _diverged(self, why: str) -> DivergenceError:
        return DivergenceError(
            f"training diverged at step {self.global_step} ({why}); a lower learning_rate or gradient_clip may help"
        )

    def validation_step(self, batch: Any) -> None:
        self._log_terms("held_out_", self.model.terms(batch))
        reference = move_data_to_device(self.reference, self.device)
        self.log("held_out_score", self.model.held_out_score(batch, reference), batch_size=1, sync_dist=True)

    def _log_terms(self, prefix: str, terms: Terms) -> None:
        for name in ("loss", "alignment", "entropy"):
            self.log(prefix + name, getattr(terms, name), on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        norm = nn.utils.clip_grad_norm_(self.parameters(), self.settings.gradient_clip)
        if not torch.isfinite(norm):
            raise self._diverged("the gradient is not finite")

    def on_train_batch_end(self, *_: Any) -> None:
        self.model.after_step()

    def on_train_epoch_end(self) -> None:
        self.model.after_epoch(self.settings.epochs)
        if self.watch is not None:
            self.watch(self.current_epoch + 1)

    def configure_optimizers(self) -> Any:
        s = self.settings
        rates = {
            "encoder": 1.0,
            "dynamics": s.dynamics_lr_factor,
            "constant_lr": s.dynamics_lr_factor,
            "noise": s.noise_lr_factor,
        }
        named = {name: parameters for name, parameters in self.model.parameter_groups().items() if parameters}
        groups = [
            {
                "params": parameters,
                "lr": s.learning_rate * rates[name],
                "weight_decay": 0.0 if name in ("dynamics", "constant_lr") else s.weight_decay,
            }
            for name, parameters in named.items()
        ]
        total = s.epochs * self.data.steps_per_epoch
        warm_up = max(total // 20, 1)

        def factor(step: int) -> float:
            return min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0))))

        optimizer = torch.optim.AdamW(groups)
        factors = [(lambda step: 1.0) if name == "constant_lr" else factor for name in named]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about machines and loaders; its errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _alone_again() -> Iterator[None]:
    """End the group of processes that a run began, so that none waits for the others in what comes after it."""
    before = rank_and_size()
    try:
        yield
    finally:
        if rank_and_size() != before:
            distributed.destroy_process_group()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Give Ctrl-C back to the caller: Lightning leaves it switched off after an interrupt."""
    try:
        handler = signal.getsignal(signal.SIGINT)
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and handler is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, handler)
