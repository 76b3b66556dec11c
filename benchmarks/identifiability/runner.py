"""Latent distribution matching in the shape that the suite asks of every model: fit(videos), transform(videos)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from kalmanssl.entropy import KNNEntropy, StopGradientEntropy
from kalmanssl.errors import DivergenceError
from kalmanssl.models import SequenceModel
from kalmanssl.probes import gradient_cosine

__all__ = ["Matcher", "Model", "Plan", "batches", "encode", "entropy_cosine", "optimize"]


class Model(Protocol):
    """Anything that the suite can judge."""

    def fit(self, videos: np.ndarray, /) -> object:
        """Learn from videos (videos, frames, pixels)."""

    def transform(self, videos: np.ndarray, /) -> np.ndarray:
        """Return latents (videos, frames, dims)."""


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes
    ----------
    steps, batch : int
        Adam steps, and videos in each.
    rate : float
        Learning rate of the encoder at its highest.
    dynamics, noise : float
        Multiples of it for the predictor and for networks that predict noise.
    warm_up : float
        Share of the steps in which the rates rise from zero.
    last : float
        Share of the rates that is left at the end; in between they fall on a straight line.
    weight_decay : float
    """

    steps: int
    batch: int
    rate: float
    dynamics: float = 100.0
    noise: float = 0.03
    warm_up: float = 0.02
    last: float = 0.05
    weight_decay: float = 0.0

    def factor(self, step: int) -> float:
        """Share of the highest rate at a step."""
        rising = (step + 1) / max(1.0, self.warm_up * self.steps)
        return min(rising, 1.0 - (1.0 - self.last) * step / self.steps)


def batches(videos: np.ndarray, plan: Plan, seed: int) -> Iterator[Tensor]:
    """Draw the batches of a plan: rounds through all videos, each in an order of its own."""
    rng = np.random.default_rng(seed)
    order = np.empty(0, dtype=int)
    for _ in range(plan.steps):
        while len(order) < plan.batch:
            order = np.concatenate([order, rng.permutation(len(videos))])
        chosen, order = order[: plan.batch], order[plan.batch :]
        yield torch.from_numpy(videos[chosen])


def optimize(
    groups: dict[str, list[nn.Parameter]],
    loss: Callable[[Tensor], Tensor],
    videos: np.ndarray,
    plan: Plan,
    seed: int,
    after: Callable[[int, Tensor], None] | None = None,
) -> None:
    """Lower a loss of batches of videos with Adam.

    Parameters
    ----------
    groups : dict
        Parameters by the name of their rate: encoder, dynamics, noise.
    loss : callable
        Of a batch (videos, frames, pixels).
    videos : (videos, frames, pixels)
    plan : Plan
    seed : int
        Of the order of the videos.
    after : callable, optional
        Called after each step with its number and its batch.

    Raises
    ------
    DivergenceError
        If the loss is not finite any more.
    """
    rates = {"encoder": 1.0, "dynamics": plan.dynamics, "noise": plan.noise}
    optimizer = torch.optim.Adam(
        [{"params": some, "lr": plan.rate * rates[name]} for name, some in groups.items() if some],
        weight_decay=plan.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, plan.factor)
    every = [p for some in groups.values() for p in some]
    for step, batch in enumerate(batches(videos, plan, seed)):
        optimizer.zero_grad()
        value = loss(batch)
        if not bool(torch.isfinite(value)):
            raise DivergenceError(f"the loss became {float(value)} at step {step}")
        value.backward()
        nn.utils.clip_grad_norm_(every, 10.0)
        optimizer.step()
        schedule.step()
        if after is not None:
            after(step, batch)


@torch.no_grad()
def encode(network: Callable[[Tensor], Tensor], videos: np.ndarray, at_once: int = 64) -> np.ndarray:
    """Apply a network from videos to latents in portions."""
    return np.concatenate(
        [network(torch.from_numpy(videos[i : i + at_once])).numpy() for i in range(0, len(videos), at_once)]
    )


def entropy_cosine(model: SequenceModel, batch: Tensor) -> float:
    """Cosine between the gradients, for the encoder, of two entropies: stop-gradient and nearest neighbors.

    The stop-gradient term is the conditional entropy H[z_t | z_<t] with the prediction as density; the other is the
    entropy of all latents of the batch. Both are entropies, so that a positive cosine says that they agree (LDM paper,
    Fig. 4D).
    """
    output = model(batch)
    entropies = StopGradientEntropy()(output.latent, output.prediction), KNNEntropy()(output.latent.flatten(0, 1))
    return gradient_cosine(entropies, model.encoder.parameters())


class Matcher:
    """A `SequenceModel` that is trained on videos.

    Parameters
    ----------
    build : callable
        Makes the model from the number of pixels.
    plan : Plan
    read : {"latent", "filtered"}
        What `transform` returns: the encoder's output, or the filter's mean of the state given the past and present.
    seed : int
        Of the order of the videos.
    cosines : int
        How often, over the training, the gradients of the two entropies are compared.
    trained : bool
        False leaves the random weights that it begins with.

    Attributes
    ----------
    model : SequenceModel
    cosine : list of [step, cosine]
    watch : callable or None
        Called with the number of the step, `watches` times over the training.
    """

    def __init__(
        self,
        build: Callable[[int], SequenceModel],
        plan: Plan,
        *,
        read: Literal["latent", "filtered"] = "latent",
        seed: int = 0,
        cosines: int = 0,
        trained: bool = True,
    ) -> None:
        self.build, self.plan, self.read, self.seed, self.cosines = build, plan, read, seed, cosines
        self.trained = trained
        self.cosine: list[list[float]] = []
        self.watch: Callable[[int], None] | None = None
        self.watches = 10
        self.model: SequenceModel

    def begun(self, videos: np.ndarray) -> SequenceModel:
        """Make the model with latents of variance one, before any training."""
        model = self.build(videos.shape[-1])
        model.standardize_latents(torch.from_numpy(videos[:32]))
        return model.eval()

    def fit(self, videos: np.ndarray) -> Self:
        """Train on videos (videos, frames, pixels)."""
        self.model = self.begun(videos)
        if not self.trained:
            return self
        model = self.model.train()
        cosines, watches = (max(1, self.plan.steps // max(1, n)) for n in (self.cosines, self.watches))

        def after(step: int, batch: Tensor) -> None:
            model.after_step()
            if self.cosines and step % cosines == 0:
                self.cosine.append([step, entropy_cosine(model, batch)])
            if self.watch is not None and step % watches == 0:
                model.eval()
                self.watch(step)
                model.train()

        groups = model.parameter_groups()
        optimize(groups, lambda batch: model.terms(batch).loss, videos, self.plan, self.seed, after)
        model.eval()
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return latents (videos, frames, dims)."""
        return encode(self._read, videos)

    def _read(self, videos: Tensor) -> Tensor:
        latent = self.model.encoder(videos)
        return latent if self.read == "latent" else self.model.predictor.posterior(latent, videos).mean
