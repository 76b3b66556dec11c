"""Training of an ensemble of networks whose outputs are logits of histograms.

The gradient is computed by compiled code. Without a compiler it is that of autograd, which takes twice as long.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kalmanssl.decoding.grids import Grid
from kalmanssl.decoding.readouts._histogram_loss import histogram_loss
from kalmanssl.decoding.readouts._mlp_settings import MLPReadoutSettings
from kalmanssl.kalman.kernels import has_compiler

__all__ = ["Layers", "NetworkGradient", "TrainingBins", "train_networks"]


@dataclass(frozen=True)
class TrainingBins:
    """What the networks are trained on.

    Attributes
    ----------
    x : (time, features)
        Standardized latents.
    root : (distinct, features, features) or None
        Square roots of the distinct posterior covariances; None if they are not used.
    index : (time,) or None
        Posterior covariance of each bin.
    place : list of (time, dims)
        The behavior on each grid, in cells.
    draws : (time,) or None
        Cumulative probability of drawing each bin; None if all are equally likely.
    """

    x: Tensor
    root: Tensor | None
    index: Tensor | None
    place: list[Tensor]
    draws: Tensor | None

    def draw(
        self, leading: dict[int, Tensor], n_inputs: Sequence[int], batch_size: int, generator: torch.Generator
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Draw bins for each network; return the inputs of each, and the behavior on each grid, (networks, bins, dims).

        The latents are drawn from the posterior if it is known. `leading` has the first features of all bins.
        """
        shape = (len(n_inputs), batch_size)
        if self.draws is None:
            picked = torch.randint(0, len(self.x), shape, generator=generator)
        else:
            level = torch.rand(shape, generator=generator, dtype=torch.float64)
            picked = torch.searchsorted(self.draws, level).clamp_max(len(self.x) - 1)
        inputs = [leading[n].index_select(0, own) for n, own in zip(n_inputs, picked, strict=True)]
        if self.root is not None and self.index is not None:
            for own, bins, n in zip(inputs, picked, n_inputs, strict=True):
                noise = torch.randn(*own.shape, 1, generator=generator)
                own += (self.root[self.index[bins], :n, :n] @ noise)[..., 0]
        return inputs, [place[picked] for place in self.place]


class Layers:
    """Weights and biases of all layers, as views of one vector.

    Attributes
    ----------
    vector : (parameters,)
    weights : list of (networks, inputs, outputs)
    biases : list of (networks, 1, outputs)
    """

    def __init__(self, n_networks: int, sizes: Sequence[int]) -> None:
        shapes = [(n_networks, inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)]
        counts = [math.prod(shape) for shape in shapes] + [n_networks * outputs for _, _, outputs in shapes]
        self.vector = torch.zeros(sum(counts))
        parts = self.vector.split(counts)
        self.weights = [part.view(shape) for part, shape in zip(parts, shapes, strict=False)]
        self.biases = [part.view(n_networks, 1, -1) for part in parts[len(shapes) :]]

    def draw(self, generator: torch.Generator) -> None:
        """Draw the weights before the training."""
        for layer, weight in enumerate(self.weights):
            gain = math.sqrt((0.1 if layer == len(self.weights) - 1 else 2.0) / weight.shape[1])
            weight.copy_(gain * torch.randn(weight.shape, generator=generator))


def train_networks(
    bins: TrainingBins,
    n_inputs: Sequence[int],
    grids: Sequence[Grid],
    settings: MLPReadoutSettings,
    generator: torch.Generator,
) -> Layers:
    """Train networks with AdamW and a one-cycle schedule of the learning rate.

    Parameters
    ----------
    bins : TrainingBins
    n_inputs : sequence of int
        How many of the first features each network receives.
    grids : sequence of Grid
        Grids of the histograms, whose logits follow one another in the output.
    settings : MLPReadoutSettings
    generator : torch.Generator
        All random numbers come from it.
    """
    s = settings
    layers = Layers(s.n_networks, [bins.x.shape[1], s.hidden, s.hidden, sum(grid.size for grid in grids)])
    layers.draw(generator)
    gradient = NetworkGradient(layers, n_inputs, grids, s)
    leading = {n: bins.x[:, :n].contiguous() for n in set(n_inputs)}
    enough = math.ceil(s.n_epochs * len(bins.x) / s.batch_size)
    n_steps = min(s.n_steps, max(s.min_steps, enough))
    parameter = torch.nn.Parameter(layers.vector)
    parameter.grad = gradient.layers.vector
    joint = any(len(grid.axes) > 1 for grid in grids)
    rate = s.learning_rate_joint if joint else s.learning_rate
    optimizer = torch.optim.AdamW([parameter], lr=rate, weight_decay=s.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=n_steps, pct_start=s.warmup_fraction)
    for _ in range(n_steps):
        gradient.update(*bins.draw(leading, n_inputs, s.batch_size, generator), generator)
        optimizer.step()
        schedule.step()
    return layers


class NetworkGradient:
    """The gradient of the loss of a batch with respect to the parameters of all networks.

    Parameters
    ----------
    parameters : Layers
    n_inputs, grids, settings
        As for `train_networks`.

    Attributes
    ----------
    layers : Layers
        The gradient.
    """

    def __init__(
        self, parameters: Layers, n_inputs: Sequence[int], grids: Sequence[Grid], settings: MLPReadoutSettings
    ) -> None:
        self.parameters, self.n_inputs, self.grids = parameters, n_inputs, grids
        self.log_score_weight = settings.log_score_weight
        sizes = [parameters.weights[0].shape[1], *(weight.shape[2] for weight in parameters.weights)]
        self.layers = Layers(len(n_inputs), sizes)
        # Each random byte decides on a hidden unit, since a number for each takes longer than the rest of the layer.
        self.threshold = min(round(256 * settings.dropout), 255)
        self.scale = 1 / (1 - settings.dropout)
        shape = len(n_inputs), settings.batch_size
        self._values = [torch.empty(*shape, size) for size in sizes[1:]]
        self._gradients = [torch.empty(*shape, size) for size in sizes[1:]]
        self._random = torch.empty(
            math.ceil(sum(values.numel() for values in self._values[:-1]) / 8), dtype=torch.int64
        )

    def update(self, inputs: list[Tensor], place: list[Tensor], generator: torch.Generator) -> None:
        """Compute the gradient.

        Parameters
        ----------
        inputs : list of (bins, inputs)
            One for each network.
        place : list of (networks, bins, dims)
            Behavior, in cells of each grid.
        generator : torch.Generator
            Hidden units are dropped at random.
        """
        self._random.random_(-(2**63), None, generator=generator)
        if has_compiler():
            self._compute(inputs, place, self._bytes())
        else:
            self._differentiate(inputs, place, self._bytes())

    def _bytes(self) -> list[Tensor]:
        """Return the random bytes of each hidden layer, (networks, bins, units)."""
        everything, first, parts = self._random.view(torch.uint8), 0, []
        for values in self._values[:-1]:
            parts.append(everything[first : first + values.numel()].view(values.shape))
            first += values.numel()
        return parts

    def _compute(self, inputs: list[Tensor], place: list[Tensor], random: list[Tensor]) -> None:
        from kalmanssl.decoding.readouts._mlp_kernels import activate_kernel, activation_gradient_kernel

        weights, biases = self.parameters.weights, self.parameters.biases
        to_weights, to_biases = self.layers.weights, self.layers.biases
        scale, last = np.float32(self.scale), len(weights) - 1
        for layer, values in enumerate(self._values):
            if layer == 0:
                for network, x in enumerate(inputs):
                    torch.mm(x, weights[0][network, : x.shape[1]], out=values[network])
            else:
                torch.bmm(self._values[layer - 1], weights[layer], out=values)
            if layer < last:
                bias = biases[layer][:, 0].numpy()
                activate_kernel(values.numpy(), bias, random[layer].flatten().numpy(), self.threshold, scale)
        self._values[last] += biases[last]
        self._compute_outputs(place)
        torch.sum(self._gradients[last], dim=1, keepdim=True, out=to_biases[last])
        for layer in range(last, 0, -1):
            before, gradient = self._values[layer - 1], self._gradients[layer]
            torch.bmm(before.mT, gradient, out=to_weights[layer])
            into = torch.bmm(gradient, weights[layer].mT, out=self._gradients[layer - 1])
            activation_gradient_kernel(into.numpy(), before.numpy(), scale, to_biases[layer - 1][:, 0].numpy())
        for network, x in enumerate(inputs):
            torch.mm(x.T, self._gradients[0][network], out=to_weights[0][network, : x.shape[1]])

    def _compute_outputs(self, place: list[Tensor]) -> None:
        """Compute the gradient with respect to the logits."""
        from kalmanssl.decoding.readouts._mlp_kernels import histogram_gradient_kernel

        logits, gradient = (part[-1].flatten(0, 1) for part in (self._values, self._gradients))
        first = 0
        for grid, at in zip(self.grids, place, strict=True):
            columns = slice(first, first + grid.size)
            mass = torch.softmax(logits[:, columns], dim=-1)
            ranked = not any(axis.nominal for axis in grid.axes)
            histogram_gradient_kernel(
                mass.view(-1, *((1, *grid.shape)[-2:])).numpy(),
                at.flatten(0, 1).numpy(),
                np.array([axis.period is not None for axis in grid.axes]),
                ranked,
                np.float32(self.log_score_weight if ranked else 1.0),
                np.float32(1 / len(mass)),
                gradient[:, columns].numpy(),
            )
            first += grid.size

    @torch.enable_grad()
    def _differentiate(self, inputs: list[Tensor], place: list[Tensor], random: list[Tensor]) -> None:
        """Compute the gradient without a compiler."""
        p = self.parameters
        weights, biases = ([part.detach().requires_grad_() for part in parts] for parts in (p.weights, p.biases))
        first = [x @ weights[0][network, : x.shape[1]] for network, x in enumerate(inputs)]
        values = torch.stack(first) + biases[0]
        for layer, own in enumerate(random, start=1):
            kept = (own >= self.threshold) * self.scale
            values = torch.baddbmm(biases[layer], torch.relu(values) * kept, weights[layer])
        logits = values.split([grid.size for grid in self.grids], dim=-1)
        losses = [
            histogram_loss(part, at, grid, self.log_score_weight)
            for part, at, grid in zip(logits, place, self.grids, strict=True)
        ]
        gradient = torch.autograd.grad(torch.stack(losses).sum(), [*weights, *biases])
        for into, part in zip([*self.layers.weights, *self.layers.biases], gradient, strict=True):
            into.copy_(part)
