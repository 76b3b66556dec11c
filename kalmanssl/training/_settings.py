"""Settings of the training loop."""

from __future__ import annotations

from dataclasses import dataclass

from kalmanssl.utils.validation import (
    check_choice,
    check_condition,
    check_fraction,
    check_integer,
    check_not_negative,
    check_number,
    check_positive,
)

__all__ = ["SCHEDULES", "TrainingSettings"]

SCHEDULES = ("cosine", "linear", "constant")
_LARGEST_RATE = 1e6


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the training loop.

    Attributes
    ----------
    epochs : int
        Number of epochs. After each epoch the held-out part is scored and a checkpoint is written.
    learning_rate : float
        Peak learning rate of the encoder (AdamW).
    dynamics_lr_factor, noise_lr_factor : float
        Learning rates as multiples of `learning_rate`: of the dynamics and constant noise (the filter should follow the
        encoder closely, LDM paper section 4), and of networks that predict noise.
    weight_decay : float
        Decoupled weight decay of the encoder and the noise networks.
    gradient_clip : float
        Largest norm of the gradient of one step.
    patience : int
        Training stops after this many epochs without a better held-out score.
    schedule : {"cosine", "linear", "constant"}
        How the learning rates fall after the warm-up.
    warm_up : float
        Fraction of all steps in which the learning rates rise linearly from zero, 0 <= warm_up < 1.
    final_lr_factor : float
        Learning rates at the end as a fraction of their peak, 0 <= final_lr_factor <= 1.
    momentum : float
        Decay rate of the mean of the gradients in AdamW, 0 <= momentum < 1. Objectives in which parts of the model have
        opposite aims, as a separate density of the stop-gradient entropy and the encoder, need less than the usual 0.9.
    """

    epochs: int
    learning_rate: float
    dynamics_lr_factor: float = 1.0
    noise_lr_factor: float = 1.0
    weight_decay: float = 0.0
    gradient_clip: float = 10.0
    patience: int = 1_000_000
    schedule: str = "cosine"
    warm_up: float = 0.05
    final_lr_factor: float = 0.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        for name in ("epochs", "patience"):
            check_integer(name, getattr(self, name), 1)
        for name in ("learning_rate", "dynamics_lr_factor", "noise_lr_factor", "gradient_clip"):
            check_positive(name, getattr(self, name))
        for name in ("warm_up", "momentum"):
            check_fraction(name, getattr(self, name))
        check_not_negative("weight_decay", self.weight_decay)
        check_number("final_lr_factor", self.final_lr_factor)
        check_condition("learning_rate", self.learning_rate, self.learning_rate <= _LARGEST_RATE, "below 1e6")
        for name in ("dynamics_lr_factor", "noise_lr_factor"):
            rate = self.learning_rate * getattr(self, name)
            check_condition(name, getattr(self, name), rate <= _LARGEST_RATE, "such that learning rates are below 1e6")
        # A step of AdamW multiplies weights by 1 - learning_rate * weight_decay.
        is_decay = self.weight_decay * self.learning_rate <= 1
        check_condition("weight_decay", self.weight_decay, is_decay, "at most 1 / learning_rate")
        check_condition("final_lr_factor", self.final_lr_factor, 0 <= self.final_lr_factor <= 1, "between 0 and 1")
        check_choice("schedule", self.schedule, SCHEDULES)
