"""Pairs: two views of one thing, encoded alike, whose latents should resemble each other and fill their space."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from kalmanssl.distributions import Conditional
from kalmanssl.entropy import EntropyEstimator, StopGradientEntropy
from kalmanssl.errors import InputError, NotFiniteError
from kalmanssl.models._objective import LDM, Terms
from kalmanssl.models._pair_spaces import PairLatentModel
from kalmanssl.models._sequence import spread
from kalmanssl.models._trainable import Trainable
from kalmanssl.utils.module_io import load_weights, save_weights
from kalmanssl.utils.precision import is_half, no_autocast, to_float32
from kalmanssl.utils.torch_ops import evaluating, rows_not_finite
from kalmanssl.utils.validation import check_number

__all__ = ["PairModel", "Prior", "listed"]

Prior = Literal["model", "empirical"]


class PairModel(Trainable):
    """Backbone and projector, a latent model of pairs, and an objective.

    Both views go through the same networks; ``terms((x, x'))`` evaluates the objective on a batch of pairs, and
    `kalmanssl.training.train` does the rest. `kalmanssl.recipes` has the published ones by name. The networks may
    compute in half precision, by ``torch.autocast`` or by their weights: latents and objective are in single precision.

    To keep a model, and to have it back in one that is built alike::

        model.save("folder")
        model = recipes.simclr().build(encoder, encoder.n_features).load("folder")

    Parameters
    ----------
    backbone : nn.Module
        From data (pairs, ...) to features (pairs, features): what is kept and probed afterward.
    projector : nn.Module
        From features to (pairs, dim), which the latent model puts into its space.
    latent_model : PairLatentModel
        See `kalmanssl.models`.
    objective : LDM
        Its entropy must be one for this space.
    predictor : nn.Module, optional
        From the projector's output to the center of P(z' | z), (pairs, dim); without it the center is z itself.
    prior : {"model", "empirical"}
        Whether P(z) is that of the latent model, or whatever distribution z has. A predictor and the stop-gradient need
        the empirical one.
    momentum : float, optional
        The latents z' that are predicted come from a copy of backbone and projector which follows them: after each step
        it keeps this share of itself, which rises to 1 as half a cosine over the training, from epoch to epoch (BYOL;
        Grill et al. 2020, arXiv 2006.07733, section 3.3, where it does so from step to step). No gradient goes there.
    pool_views : bool
        Estimate the entropy of a latent from both views at once, instead of each view by itself.
    steady_predictor : bool
        Train the predictor at one rate, without warming up and falling (SimSiam).

    Raises
    ------
    InputError
        If parts do not fit together; the message says which and why.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        latent_model: PairLatentModel,
        objective: LDM,
        *,
        predictor: nn.Module | None = None,
        prior: Prior = "model",
        momentum: float | None = None,
        pool_views: bool = False,
        steady_predictor: bool = False,
    ) -> None:
        super().__init__()
        _check_fits(latent_model, objective, predictor, prior, momentum)
        if steady_predictor and predictor is None:
            raise InputError("steady_predictor is about the rate of a predictor, but there is none: give a predictor")
        self.backbone, self.projector, self.predictor = backbone, projector, predictor
        self.latent_model, self.objective = latent_model, objective
        self.prior, self.momentum, self.pool_views = prior, momentum, pool_views
        self.steady_predictor = steady_predictor
        self._seen = False  # whether latents were checked once to be in their space
        self.target: nn.Module | None = None
        if momentum is not None:
            self.target = copy.deepcopy(nn.Sequential(backbone, projector)).requires_grad_(False)
            # Buffers, so that a resumed run goes on where it was. The pace is what the copy does not keep of itself.
            self.register_buffer("pace", torch.tensor(1 - momentum))
            self.register_buffer("epochs_done", torch.tensor(0))

    pace: Tensor
    epochs_done: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Encode data (pairs, ...) as latents (pairs, dim) in the space of the latent model.

        Raises
        ------
        InputError
            If the projector does not take what the backbone returns.
        """
        return self._placed(self._encoded(x))

    def terms(self, pair: tuple[Tensor, Tensor]) -> Terms:
        """Evaluate the objective on a batch of pairs (x, x'), the mean over both directions.

        Raises
        ------
        InputError
            If the views have not the same shape or are none, the projector does not take what the backbone returns, or
            the networks return NaN, or latents that are all the same or not for this latent model.
        """
        x, other = pair
        _check_views(x, other)
        # One pass for both views, so that batch normalization sees them together.
        both = torch.cat([x, other])
        raw = self._encoded(both)
        _check_latents(raw.detach(), len(both))
        latent = self._placed(raw)
        if not self._seen:
            _check_width(latent, self.objective.entropy)
            self.latent_model.check(latent.detach())
            self._seen = True
        predicted = latent if self.predictor is None else self._placed(self.predictor(raw))
        target = latent if self.target is None else self._followed(both)
        with no_autocast(raw.device):
            return self._both_ways(len(x), latent, predicted, target)

    def _both_ways(self, pairs: int, latent: Tensor, predicted: Tensor, target: Tensor) -> Terms:
        stop_gradient = isinstance(self.objective.entropy, StopGradientEntropy)
        if stop_gradient:
            target = target.detach()  # the entropy would take back the gradient that the alignment gives it
        if self.pool_views or stop_gradient:  # which is a mean over samples: both directions are one
            return self._terms(target.roll(pairs, 0), predicted, latent)
        # Gradients of chunks are put together in one pass; those of slices would be padded with zeros and added.
        targets, centers, latents = (some.chunk(2) for some in (target, predicted, latent))
        there = self._terms(targets[1], centers[0], latents[0])
        if self.latent_model.symmetric and self.prior == "model":
            return there
        back = self._terms(targets[0], centers[1], latents[1])
        return Terms(0.5 * (there.alignment + back.alignment), 0.5 * (there.entropy + back.entropy))

    def _terms(self, latent: Tensor, center: Tensor, given: Tensor) -> Terms:
        conditional: Conditional = self.latent_model.conditional(center)
        log_prior = self.latent_model.log_prior(given) if self.prior == "model" else None
        return self.objective(latent, conditional, given, log_prior)

    @torch.no_grad()
    def _followed(self, x: Tensor) -> Tensor:
        assert self.target is not None
        return self._placed(self.target(x))

    def _encoded(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        try:
            return self.projector(features)
        except RuntimeError as error:
            first = next((part for part in self.projector.modules() if isinstance(part, nn.Linear)), None)
            if first is None or features.shape[1:] == (first.in_features,):
                raise
            raise InputError(
                f"the backbone returned {tuple(features.shape)}, the projector takes (pairs, {first.in_features}): "
                "build it with that n_features, or end the backbone by nn.Flatten()"
            ) from error

    def _placed(self, raw: Tensor) -> Tensor:
        """Outputs of a network put into the space; distances from it would not survive half precision."""
        with no_autocast(raw.device):
            return self.latent_model.project(to_float32(raw))

    def held_out_score(self, batch: tuple[Tensor, Tensor], reference: object) -> Tensor:
        """Return the negative loss of held-out pairs, or their alignment with the stop-gradient entropy.

        The loss of the stop-gradient entropy has the value zero at every step.
        """
        terms = self.terms(batch)
        return terms.alignment if isinstance(self.objective.entropy, StopGradientEntropy) else -terms.loss

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by learning-rate group: "encoder", and the predictor as "dynamics" or "constant_lr"."""
        groups = {"encoder": [*self.backbone.parameters(), *self.projector.parameters()]}
        if self.predictor is not None:
            groups["constant_lr" if self.steady_predictor else "dynamics"] = list(self.predictor.parameters())
        return groups

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the copy of the networks follow them."""
        if self.target is None:
            return
        networks = nn.Sequential(self.backbone, self.projector)
        for slow, fast in zip(self.target.parameters(), networks.parameters(), strict=True):
            slow.lerp_(fast, self.pace.to(slow.dtype))
        for kept, new in zip(self.target.buffers(), networks.buffers(), strict=True):
            kept.copy_(new)

    def after_epoch(self, epochs: int) -> None:
        """Anneal what the latent model anneals, and let the copy of the networks follow more slowly."""
        self.latent_model.after_epoch(epochs)
        if self.momentum is not None:
            done = int(self.epochs_done) + 1
            done = done if done < epochs else 0  # a training after this one begins anew
            self.epochs_done.fill_(done)
            self.pace.fill_((1 - self.momentum) * (math.cos(math.pi * done / epochs) + 1) / 2)

    @torch.no_grad()
    def diagnostics(self, pair: tuple[Tensor, Tensor]) -> dict[str, float]:
        """Numbers that tell healthy latents from collapsed ones, see `kalmanssl.models.spread`."""
        with evaluating(self):
            return spread(self(pair[0]))

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write weights, all other state (target, annealing) and metadata into a folder.

        Parameters
        ----------
        path : path
        overwrite : bool
            Replace an existing folder; the old one goes only when the new one is complete.

        Raises
        ------
        InputError
            If `path` exists and `overwrite` is false, or cannot be written.
        """
        save_weights(path, "pair model", self, self._card(), overwrite)

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Put what `save` wrote into this model, which must be built alike, and return it; no code is run.

        Raises
        ------
        InputError
            If the folder is missing or damaged, or its model was built in another way; nothing is changed then.
        """
        load_weights(path, "pair model", self, self._card())
        return self

    def _card(self) -> dict[str, str]:
        return {name: str(part) for name, part in self._parts().items()}

    def __repr__(self) -> str:
        """Say what the model is made of, a line for each part."""
        return listed("PairModel", self._parts())

    def _parts(self) -> dict[str, Any]:
        return {
            "latent model": self.latent_model,
            "entropy": self.objective.entropy,
            "mutual information": self.objective.mutual_information,
            "prior": self.prior,
            "predictor": None if self.predictor is None else _sizes(self.predictor),
            "steady predictor": self.steady_predictor,
            "moving-average target": None if self.momentum is None else f"{self.momentum}, rising to 1",
            "views pooled": self.pool_views,
            "backbone": _sizes(self.backbone),
            "projector": _sizes(self.projector),
        }


def listed(title: str, parts: Mapping[str, Any]) -> str:
    """Return a title and a line for each part that is there, in two columns."""
    kept = {name: part for name, part in parts.items() if part not in (None, False)}
    width = max(map(len, kept))
    return "\n".join([title, *(f"  {name:{width}}  {part}" for name, part in kept.items())])


def _check_views(x: Tensor, other: Tensor) -> None:
    if len(x) != len(other):
        raise InputError(f"a pair must have as many first views as second ones, got {len(x)} and {len(other)}")
    if x.shape != other.shape:
        raise InputError(f"both views must have the same shape, got {tuple(x.shape)} and {tuple(other.shape)}")
    if len(x) == 0:
        raise InputError(f"the batch has no pairs: its views have the shape {tuple(x.shape)}")


def _check_latents(raw: Tensor, count: int) -> None:
    if raw.ndim != 2 or len(raw) != count:
        raise InputError(f"the networks must return ({count}, dim) for {count} views, got {tuple(raw.shape)}")
    bad = rows_not_finite(raw)
    if bad:
        raise NotFiniteError(
            f"{bad} of {len(raw)} latents are NaN or infinite: check the data, or lower the learning rate"
        )
    # A network turns equal rows into ones that differ by rounding, whose entropy would be that of rounding.
    if _alike(raw[:2]) and _alike(raw):
        raise InputError(f"the latents of all {len(raw)} are the same: the images are, or the latents have collapsed")


def _alike(rows: Tensor) -> bool:
    # In half precision sums are rounded at their end alone, and a hundred roundings are as much as the latents differ.
    roundings = 2 if is_half(rows) else 100
    return bool((rows - rows[0]).abs().max() <= roundings * torch.finfo(rows.dtype).eps * rows.abs().max())


def _check_width(latent: Tensor, entropy: EntropyEstimator | StopGradientEntropy) -> None:
    name = entropy.dim_setting
    if name and getattr(entropy, name) not in (None, latent.shape[1]):
        raise InputError(
            f"the latents have {latent.shape[1]} coordinates, but the entropy is {entropy!r}: {name} must be as many"
        )


def _check_fits(
    latent_model: PairLatentModel, objective: LDM, predictor: nn.Module | None, prior: Prior, momentum: float | None
) -> None:
    if prior not in get_args(Prior):
        raise InputError(f"prior must be one of {', '.join(get_args(Prior))}, got {prior!r}")
    entropy = objective.entropy
    if isinstance(entropy, EntropyEstimator) and latent_model.space not in entropy.spaces:
        raise InputError(
            f"{type(entropy).__name__} estimates entropies on the {' and the '.join(entropy.spaces)}, but the latents "
            f"are on the {latent_model.space}: see kalmanssl.entropy.make_entropy"
        )
    if latent_model.space != "euclidean" and entropy.dim_setting and getattr(entropy, entropy.dim_setting) is None:
        raise InputError(
            f"{entropy!r} on the {latent_model.space} needs {entropy.dim_setting}, the coordinates of one latent: "
            f"kalmanssl.entropy.make_entropy(name, {latent_model.space!r}, dim) sets it"
        )
    if predictor is not None and prior == "model":
        raise InputError("a predictor learns P(z' | z), which goes with prior='empirical' alone")
    if isinstance(entropy, StopGradientEntropy) and (predictor is None or prior == "model"):
        raise InputError(
            "the stop-gradient entropy needs a predictor, and prior='empirical': without one the latents collapse, "
            "since the conditional has nothing to learn"
        )
    if momentum is not None and not isinstance(entropy, StopGradientEntropy):
        raise InputError(
            "a moving-average target has no gradient, so no entropy of samples could spread it: it goes with the "
            "stop-gradient entropy, StopGradientEntropy()"
        )
    if momentum is not None:
        check_number("momentum", momentum)
        if not 0 <= momentum < 1:
            raise InputError(f"momentum must lie in [0, 1), got {momentum}")


def _sizes(module: nn.Module) -> str:
    count = sum(p.numel() for p in module.parameters())
    return f"{type(module).__name__}, {count:,} parameters"
