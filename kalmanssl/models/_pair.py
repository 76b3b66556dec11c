"""Pair models: the latents of two views of the same thing should be similar, and their distribution wide."""

from __future__ import annotations

import copy
import math
import os
from typing import Any, Self

import torch
from torch import Tensor, nn

from kalmanssl.distributions import Conditional
from kalmanssl.entropy import StopGradientEntropy
from kalmanssl.errors import InputError
from kalmanssl.models._objective import LDM, Terms
from kalmanssl.models._pair_checks import PriorKind, check_fits, check_latents, check_views, check_width
from kalmanssl.models._pair_spaces import PairLatentModel
from kalmanssl.models._sequence import latent_statistics
from kalmanssl.models._trainable import Trainable
from kalmanssl.utils.module_io import load_weights, save_weights
from kalmanssl.utils.precision import no_autocast, to_float32
from kalmanssl.utils.text import format_parts
from kalmanssl.utils.torch_ops import evaluating

__all__ = ["PairModel"]


class PairModel(Trainable):
    """Backbone, projector, latent model of pairs, and objective.

    Both views go through the same networks. ``terms((x, x'))`` evaluates the objective on a batch of pairs, and
    `kalmanssl.training.train` trains the model. `kalmanssl.recipes` has published methods by name. The networks may
    compute in half precision, with ``torch.autocast`` or half-precision weights; latents and objective are computed in
    single precision.

    To save a model, and to load it into a model that is built in the same way::

        model.save("folder")
        model = recipes.simclr().build(encoder, encoder.n_features).load("folder")

    Parameters
    ----------
    backbone : nn.Module
        Maps data (pairs, ...) to features (pairs, features), which are used after training.
    projector : nn.Module
        Maps features to (pairs, dim), which the latent model projects into its space.
    latent_model : PairLatentModel
        See `kalmanssl.models.PairLatentModel`.
    objective : LDM
        Its entropy estimator must support the space of the latent model.
    predictor : nn.Module, optional
        Maps the output of the projector to the center of P(z' | z), (pairs, dim). By default the center is z.
    prior : {"model", "empirical"}
        Whether P(z) is that of the latent model or the distribution of z itself. A predictor and the stop-gradient
        entropy need "empirical".
    momentum : float, optional
        The predicted latents z' come from an exponential moving average of backbone and projector, without gradients.
        After each step the average keeps this fraction of itself. The fraction rises to 1 as half a cosine over the
        training, once per epoch (BYOL; Grill et al. 2020, arXiv 2006.07733, section 3.3, where it rises at every step).
    pool_views : bool
        Estimate the entropy of a latent from both views together instead of from each view.
    constant_predictor_lr : bool
        Train the predictor with a constant learning rate, without warmup and decay (SimSiam).

    Raises
    ------
    InputError
        If the parts cannot be combined.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        latent_model: PairLatentModel,
        objective: LDM,
        *,
        predictor: nn.Module | None = None,
        prior: PriorKind = "model",
        momentum: float | None = None,
        pool_views: bool = False,
        constant_predictor_lr: bool = False,
    ) -> None:
        super().__init__()
        check_fits(latent_model, objective, predictor, prior, momentum)
        if constant_predictor_lr and predictor is None:
            raise InputError(
                "constant_predictor_lr needs a predictor, but there is none", parameter="constant_predictor_lr"
            )
        self.backbone, self.projector, self.predictor = backbone, projector, predictor
        self.latent_model, self.objective = latent_model, objective
        self.prior, self.momentum, self.pool_views = prior, momentum, pool_views
        self.constant_predictor_lr = constant_predictor_lr
        self._is_checked = False  # whether the latents of a batch were found to be in the space
        self.target: nn.Module | None = None
        if momentum is not None:
            self.target = copy.deepcopy(nn.Sequential(backbone, projector)).requires_grad_(False)
            # Buffers, because a resumed run needs them.
            self.register_buffer("ema_rate", torch.tensor(1 - momentum))
            self.register_buffer("epochs_done", torch.tensor(0))

    ema_rate: Tensor  # 1 - momentum at this epoch
    epochs_done: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Encode data (pairs, ...) as latents (pairs, dim) in the space of the latent model.

        Raises
        ------
        InputError
            If the output of the backbone does not fit the projector.
        """
        return self._project(self._encode(x))

    def terms(self, pair: tuple[Tensor, Tensor]) -> Terms:
        """Evaluate the objective on a batch of pairs (x, x'), the mean over both directions.

        Raises
        ------
        InputError
            If the views differ in shape or are empty, the output of the backbone does not fit the projector, or the
            latents are not finite, all the same, or not in the space of the latent model.
        """
        x, other = pair
        check_views(x, other)
        # One pass for both views, so that batch normalization sees them together.
        both = torch.cat([x, other])
        raw = self._encode(both)
        check_latents(raw.detach(), len(both))
        latent = self._project(raw)
        if not self._is_checked:
            check_width(latent, self.objective.entropy)
            self.latent_model.check(latent.detach())
            self._is_checked = True
        predicted, target = self._predicted_and_target(both, raw, latent)
        with no_autocast(raw.device):
            return self._both_directions(len(x), latent, predicted, target)

    def _predicted_and_target(self, both: Tensor, raw: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the center of the other latent of each pair, and the latent that is predicted.

        `raw` are the outputs of the projector for the data `both`, and `latent` their projections into the space.
        """
        predicted = latent if self.predictor is None else self._project(self.predictor(raw))
        return predicted, latent if self.target is None else self._target_latent(both)

    def _both_directions(self, pairs: int, latent: Tensor, predicted: Tensor, target: Tensor) -> Terms:
        if self._has_stop_gradient:
            target = target.detach()  # the entropy would cancel the gradient of the alignment
        if self.pool_views or self._has_stop_gradient:  # means over samples, so one call is enough for both directions
            return self._terms(target.roll(pairs, 0), predicted, latent)
        # The gradients of chunks are joined in one pass; those of slices would be padded with zeros and added.
        targets, centers, latents = (some.chunk(2) for some in (target, predicted, latent))
        forward = self._terms(targets[1], centers[0], latents[0])
        if self.latent_model.symmetric and self.prior == "model":
            return forward
        backward = self._terms(targets[0], centers[1], latents[1])
        return Terms(0.5 * (forward.alignment + backward.alignment), 0.5 * (forward.entropy + backward.entropy))

    @property
    def _has_stop_gradient(self) -> bool:
        return isinstance(self.objective.entropy, StopGradientEntropy)

    def _terms(self, latent: Tensor, center: Tensor, given: Tensor) -> Terms:
        conditional: Conditional = self.latent_model.conditional(center)
        log_prior = self.latent_model.log_prior(given) if self.prior == "model" else None
        return self.objective(latent, conditional, given, log_prior)

    def held_out_scores(self, batch: Any, reference: Any) -> Tensor:
        """Score held-out pairs: the negative loss, or for the stop-gradient entropy the `predictive_gain`; a scalar.

        The loss with the stop-gradient entropy has the constant value 0, so it cannot rank epochs.
        """
        return self.predictive_gain(batch) if self._has_stop_gradient else super().held_out_scores(batch, reference)

    @torch.no_grad()
    def predictive_gain(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        """Compute how much better a latent is predicted by the other latent of its pair than by those of all pairs.

        ⟨log P(z'_i | z_i) - log mean_j P(z'_i | z_j)⟩ in nats per pair, the mean over both directions. It is the
        InfoNCE lower bound of the mutual information of z and z': at most the log of the number of pairs, and 0 for
        collapsed latents. Compare it only between batches with the same number of pairs.

        Parameters
        ----------
        pair : tuple of Tensor
            Both views (pairs, ...).

        References
        ----------
        van den Oord et al. (2018), arXiv 1807.03748, Eq. 4.
        """
        both = torch.cat(pair)
        raw = self._encode(both)
        predicted, target = self._predicted_and_target(both, raw, self._project(raw))
        with no_autocast(raw.device):
            (first, second), centers = target.chunk(2), predicted.chunk(2)
            gains = [
                _gain(self.latent_model.conditional(center), other)
                for center, other in zip(centers, (second, first), strict=True)
            ]
            return torch.stack(gains).mean()

    @torch.no_grad()
    def _target_latent(self, x: Tensor) -> Tensor:
        assert self.target is not None
        return self._project(self.target(x))

    def _encode(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        try:
            return self.projector(features)
        except RuntimeError as error:
            first = next((part for part in self.projector.modules() if isinstance(part, nn.Linear)), None)
            if first is None or features.shape[1:] == (first.in_features,):
                raise
            raise InputError(
                f"the backbone returned {tuple(features.shape)}, but the projector needs (pairs, {first.in_features}): "
                "build it with that n_features, or append nn.Flatten() to the backbone"
            ) from error

    def _project(self, raw: Tensor) -> Tensor:
        """Project outputs of a network into the space, in single precision because half would distort distances."""
        with no_autocast(raw.device):
            return self.latent_model.project(to_float32(raw))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by learning-rate group; the predictor belongs to "dynamics" or "constant_lr"."""
        groups = {"encoder": [*self.backbone.parameters(), *self.projector.parameters()]}
        if self.predictor is not None:
            groups["constant_lr" if self.constant_predictor_lr else "dynamics"] = list(self.predictor.parameters())
        return groups

    @torch.no_grad()
    def after_step(self) -> None:
        """Update the moving average of the networks, after each optimizer step."""
        if self.target is None:
            return
        networks = nn.Sequential(self.backbone, self.projector)
        for slow, fast in zip(self.target.parameters(), networks.parameters(), strict=True):
            slow.lerp_(fast, self.ema_rate.to(slow.dtype))
        for old, new in zip(self.target.buffers(), networks.buffers(), strict=True):
            old.copy_(new)

    def after_epoch(self, epochs: int) -> None:
        """Anneal the latent model and decrease the rate of the moving average, after each epoch."""
        self.latent_model.after_epoch(epochs)
        if self.momentum is not None:
            done = int(self.epochs_done) + 1
            done = done if done < epochs else 0  # a later training starts a new schedule
            self.epochs_done.fill_(done)
            self.ema_rate.fill_((1 - self.momentum) * (math.cos(math.pi * done / epochs) + 1) / 2)

    @torch.no_grad()
    def diagnostics(self, pair: tuple[Tensor, Tensor]) -> dict[str, float]:
        """Return the `kalmanssl.models.latent_statistics` of the first views."""
        with evaluating(self):
            return latent_statistics(self(pair[0]))

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write weights, all other state (target, annealing) and metadata into a folder.

        Parameters
        ----------
        path : path
        overwrite : bool
            Replace an existing folder once the new one is complete.

        Raises
        ------
        InputError
            If `path` exists and `overwrite` is false, or cannot be written.
        """
        save_weights(path, "pair model", self, self._metadata(), overwrite)

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Load the state that `save` wrote into this model, which must be built in the same way; runs no code.

        Raises
        ------
        InputError
            If the folder is missing or damaged, or its model was built differently; this model is then unchanged.
        """
        load_weights(path, "pair model", self, self._metadata())
        return self

    def _metadata(self) -> dict[str, str]:
        return {name: str(part) for name, part in self._parts().items()}

    def __repr__(self) -> str:
        """Return one line for each part of the model."""
        return format_parts("PairModel", self._parts())

    def _parts(self) -> dict[str, Any]:
        return {
            "latent model": self.latent_model,
            "entropy": self.objective.entropy,
            "mutual information": self.objective.mutual_information,
            "prior": self.prior,
            "predictor": None if self.predictor is None else _sizes(self.predictor),
            "constant learning rate of the predictor": self.constant_predictor_lr,
            "moving-average target": None if self.momentum is None else f"{self.momentum}, rising to 1",
            "pooled views": self.pool_views,
            "backbone": _sizes(self.backbone),
            "projector": _sizes(self.projector),
        }


def _gain(conditional: Conditional, latent: Tensor) -> Tensor:
    """Return the mean of log P(z_i | center_i) - log mean_j P(z_i | center_j), one shift at a time to save memory."""
    log_probs = torch.stack([conditional.log_prob(latent.roll(j, 0)).roll(-j, 0) for j in range(len(latent))])
    return (log_probs[0] - log_probs.logsumexp(0) + math.log(len(latent))).mean()


def _sizes(module: nn.Module) -> str:
    """Return the type of a network and its number of parameters."""
    count = sum(p.numel() for p in module.parameters())
    return f"{type(module).__name__}, {count:,} parameters"
