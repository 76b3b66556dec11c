"""Sequence models in the form that the suite uses for every model: fit(videos) and transform(videos)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from kalmanssl.entropy import KNNEntropy, StopGradientEntropy
from kalmanssl.models import SequenceModel, Trainable
from kalmanssl.networks import Whitening
from kalmanssl.probes import gradient_cosine
from kalmanssl.training import TrainingSettings, train
from kalmanssl.utils.torch_ops import evaluating

__all__ = [
    "EPOCHS",
    "BestOfStarts",
    "Matcher",
    "Model",
    "Plan",
    "VideoBatches",
    "encode",
    "entropy_cosine",
    "fit_network",
    "fit_whitening",
]

EPOCHS = 10  # parts of a training; the learning curve has one point for each


N_WHITENING = 100  # videos whose frames determine the principal components of the whitening


class Model(Protocol):
    """Any model that the suite can score."""

    def fit(self, videos: np.ndarray, /) -> object:
        """Fit the model to videos (videos, frames, pixels)."""

    def transform(self, videos: np.ndarray, /) -> np.ndarray:
        """Return latents (videos, frames, dims)."""


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes
    ----------
    steps, batch : int
        Number of Adam steps, a multiple of `EPOCHS`, and number of videos in each.
    learning_rate : float
        Peak learning rate of the encoder.
    dynamics_lr_factor, noise_lr_factor : float
        Learning rates of the predictor and of networks that predict noise, as multiples of `learning_rate`.
    final_lr_factor : float
        Learning rates at the end as a fraction of their peak; they fall linearly.
    warm_up : float
        Fraction of the steps in which the learning rates rise.
    gradient_clip : float
        Largest norm of the gradient of one step, over all parameters.
    density_steps : int
        Further steps of the density of the stop-gradient entropy for each step of the model.
    momentum : float
        See `kalmanssl.training.TrainingSettings`.
    """

    steps: int
    batch: int
    learning_rate: float
    dynamics_lr_factor: float = 100.0
    noise_lr_factor: float = 0.03
    final_lr_factor: float = 0.05
    warm_up: float = 0.02
    gradient_clip: float = 10.0
    density_steps: int = 0
    momentum: float = 0.9

    def training(self) -> TrainingSettings:
        """Return the settings of the training loop."""
        return TrainingSettings(
            EPOCHS,
            self.learning_rate,
            dynamics_lr_factor=self.dynamics_lr_factor,
            noise_lr_factor=self.noise_lr_factor,
            schedule="linear",
            warm_up=self.warm_up,
            gradient_clip=self.gradient_clip,
            momentum=self.momentum,
            final_lr_factor=self.final_lr_factor,
        )


class VideoBatches:
    """Batches of videos for `kalmanssl.training.train`: all videos in random order, again and again.

    Parameters
    ----------
    videos : (videos, frames, pixels)
    plan : Plan
    seed : int
        Seed of the order of the videos.
    """

    held_out = None

    def __init__(self, videos: np.ndarray, plan: Plan, seed: int) -> None:
        self.videos, self.steps_per_epoch = videos, plan.steps // EPOCHS
        rng = np.random.default_rng(seed)
        rounds = -(-plan.steps * plan.batch // len(videos))
        order = np.concatenate([rng.permutation(len(videos)) for _ in range(rounds)])
        self.chosen = order[: plan.steps * plan.batch].reshape(plan.steps, plan.batch)

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Yield the batches of an epoch."""
        start = epoch * self.steps_per_epoch
        for chosen in self.chosen[start : start + self.steps_per_epoch]:
            yield torch.from_numpy(self.videos[chosen])

    def sample(self) -> Tensor:
        """Return the first batch."""
        return torch.from_numpy(self.videos[self.chosen[0]])


def fit_network(model: Trainable, videos: np.ndarray, plan: Plan, seed: int, **hooks: Callable[..., None]) -> None:
    """Train a network on videos (videos, frames, pixels); hooks are `on_step` and `on_epoch_end` of `train`."""
    train(
        model, VideoBatches(videos, plan, seed), plan.training(), {}, seed=seed, device="cpu", progress=False, **hooks
    )


def fit_whitening(videos: np.ndarray) -> Whitening:
    """Return the whitening of the frames of videos (videos, frames, pixels)."""
    return Whitening.fit(torch.from_numpy(videos[:N_WHITENING]))


@torch.no_grad()
def encode(network: Callable[[Tensor], Tensor], videos: np.ndarray, batch: int = 64) -> np.ndarray:
    """Apply a network from videos to latents, in batches."""
    return np.concatenate(
        [network(torch.from_numpy(videos[i : i + batch])).numpy() for i in range(0, len(videos), batch)]
    )


def entropy_cosine(model: SequenceModel, batch: Tensor) -> float:
    """Return the cosine between the gradients, with respect to the encoder, of two entropies.

    They are the conditional entropy H[z_t | z_<t] with the prediction as density (stop-gradient), and the
    nearest-neighbor estimate of the entropy of all latents of the batch. A positive cosine means that they agree (LDM
    paper, Fig. 4D).
    """
    output = model(batch)
    entropies = StopGradientEntropy()(output.latent, output.prediction), KNNEntropy()(output.latent.flatten(0, 1))
    return gradient_cosine(entropies, model.encoder.parameters())


def density_steps(model: SequenceModel, plan: Plan) -> Callable[[Tensor], None]:
    """Return a function that fits the density of the stop-gradient entropy, if there is one, to a batch."""
    if model.density is None or not plan.density_steps:
        return lambda batch: None
    density = model.density
    rate = plan.learning_rate * plan.dynamics_lr_factor
    optimizer = torch.optim.Adam(density.parameters(), rate, betas=(plan.momentum, 0.999))

    def fit(batch: Tensor) -> None:
        with torch.no_grad():
            latent = model.encoder(batch)
        for _ in range(plan.density_steps):
            optimizer.zero_grad()
            (-density(latent).log_prob(latent).mean()).backward()
            optimizer.step()
        optimizer.zero_grad()

    return fit


class Matcher:
    """A `SequenceModel` that is trained on videos by latent distribution matching.

    Parameters
    ----------
    build : callable
        Makes the model from the number of pixels.
    plan : Plan
    output : {"latent", "filtered"}
        What `transform` returns: the output of the encoder, or the filtered mean of the state.
    seed : int
        Seed of the order of the videos.
    n_cosines : int
        Number of comparisons of the gradients of the two entropies over the training.
    trained : bool
        False keeps the random initial weights.
    whiten : bool
        Whether the encoder reads whitened frames.

    Attributes
    ----------
    model : SequenceModel
    cosine : list of [step, cosine]
    on_epoch_end : callable or None
        Called with the number of steps done, `EPOCHS` times over the training, with the model in evaluation mode.
    """

    def __init__(
        self,
        build: Callable[[int], SequenceModel],
        plan: Plan,
        *,
        output: Literal["latent", "filtered"] = "latent",
        seed: int = 0,
        n_cosines: int = 0,
        trained: bool = True,
        whiten: bool = False,
    ) -> None:
        self.build, self.plan, self.output, self.seed, self.n_cosines = build, plan, output, seed, n_cosines
        self.trained, self.whiten = trained, whiten
        self.cosine: list[list[float]] = []
        self.on_epoch_end: Callable[[int], None] | None = None
        self.model: SequenceModel

    def initial_model(self, videos: np.ndarray) -> SequenceModel:
        """Return the model before any training, with latents of variance one."""
        if self.whiten:
            whitening = fit_whitening(videos)
            model = self.build(whitening.n_components)
            model.encoder = nn.Sequential(whitening, model.encoder)
        else:
            model = self.build(videos.shape[-1])
        model.standardize_latents(torch.from_numpy(videos[:32]))
        return model.eval()

    def fit(self, videos: np.ndarray) -> Self:
        """Train on videos (videos, frames, pixels)."""
        self.model = self.initial_model(videos)
        if not self.trained:
            return self
        steps_per_epoch = self.plan.steps // EPOCHS
        fit_density = density_steps(self.model, self.plan)
        steps_per_cosine = max(1, self.plan.steps // self.n_cosines) if self.n_cosines else self.plan.steps + 1

        def on_step(step: int, batch: Any) -> None:
            fit_density(batch)
            if step % steps_per_cosine == 0:
                self.cosine.append([step, entropy_cosine(self.model, batch)])

        def on_epoch_end(epoch: int) -> None:
            if self.on_epoch_end is not None:
                with evaluating(self.model):
                    self.on_epoch_end(epoch * steps_per_epoch)

        fit_network(self.model.train(), videos, self.plan, self.seed, on_step=on_step, on_epoch_end=on_epoch_end)
        self.model.eval()
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return latents (videos, frames, dims)."""
        return encode(self._transform, videos)

    def _transform(self, videos: Tensor) -> Tensor:
        latent = self.model.encoder(videos)
        return latent if self.output == "latent" else self.model.predictor.posterior(latent, videos).mean


class BestOfStarts(Matcher):
    """The best of several models that differ in their initial weights, by the objective on held-out videos.

    From some initial weights, training ends in an encoder that gives two positions the same latent, above all if the
    motion has a symmetry. The entropy of such latents is smaller, so that the objective tells, without labels.

    Parameters
    ----------
    starts : sequence of Matcher
    steps : float
        Fraction of the steps of the training before the choice. With 1, the best of the trained models is kept. With
        less, the best initial weights are trained anew, on all videos.

    Attributes
    ----------
    objectives : list of float
        Objective of each start on the held-out videos, the last tenth, nats per frame.
    """

    def __init__(self, starts: Sequence[Matcher], steps: float = 1.0) -> None:
        first = starts[0]
        super().__init__(first.build, first.plan, output=first.output, seed=first.seed, whiten=first.whiten)
        self.starts, self.steps = starts, steps
        self.objectives: list[float] = []

    def fit(self, videos: np.ndarray) -> Self:
        """Train all starts on videos (videos, frames, pixels), and keep the best."""
        held_out = torch.from_numpy(videos[-max(1, len(videos) // 10) :])
        for start in self.starts:
            start.plan = replace(self.plan, steps=round(self.plan.steps * self.steps / EPOCHS) * EPOCHS)
            start.fit(videos[: len(videos) - len(held_out)])
            with torch.no_grad():
                terms = start.model.terms(held_out)
            self.objectives.append(float(terms.alignment + terms.entropy))
        best = self.starts[int(np.argmax(self.objectives))]
        if self.steps < 1:
            best.plan, best.on_epoch_end = self.plan, self._report(best)
            best.fit(videos)
        self.model = best.model
        return self

    def _report(self, best: Matcher) -> Callable[[int], None] | None:
        """Return the function that the best start calls during its training, which shows its model as that of all."""
        report = self.on_epoch_end
        if report is None:
            return None

        def on_epoch_end(step: int) -> None:
            self.model = best.model
            report(step)

        return on_epoch_end
