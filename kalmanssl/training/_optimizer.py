"""The optimizer and its learning rates."""

from __future__ import annotations

import math

import torch

from kalmanssl.models import Trainable
from kalmanssl.training._settings import TrainingSettings

__all__ = ["lr_factor", "make_optimizer", "set_learning_rates"]


def make_optimizer(model: Trainable, settings: TrainingSettings) -> torch.optim.AdamW:
    """Create AdamW with one parameter group for each group of the model."""
    factors = {
        "encoder": 1.0,
        "dynamics": settings.dynamics_lr_factor,
        "constant_lr": settings.dynamics_lr_factor,
        "noise": settings.noise_lr_factor,
    }
    groups = []
    for name, parameters in model.parameter_groups().items():
        if parameters:
            peak = settings.learning_rate * factors[name]
            decay = 0.0 if name in ("dynamics", "constant_lr") else settings.weight_decay
            groups.append({"params": parameters, "name": name, "lr": peak, "peak_lr": peak, "weight_decay": decay})
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    return torch.optim.AdamW(groups, betas=(settings.momentum, 0.999), fused=on_cpu)


def lr_factor(settings: TrainingSettings, step: int, total: int) -> float:
    """Return the learning rates at a step (from 0) as a fraction of their peak; `total` is the number of steps."""
    warm_up = max(int(total * settings.warm_up + 1e-9), 1)
    done = min(step / total, 1.0)
    lowest = settings.final_lr_factor
    remaining = {
        "cosine": lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * done)),
        "linear": 1 - (1 - lowest) * done,
        "constant": 1.0,
    }
    return min((step + 1) / warm_up, remaining[settings.schedule])


def set_learning_rates(optimizer: torch.optim.Optimizer, settings: TrainingSettings, step: int, total: int) -> None:
    """Set the learning rates of a step; those of the group "constant_lr" stay at their peak."""
    factor = lr_factor(settings, step, total)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * (1.0 if group["name"] == "constant_lr" else factor)
