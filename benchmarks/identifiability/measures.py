"""What is measured of a model of ours beyond the scores that every model gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from kept import Row

from identifiability.runner import Matcher
from kalmanssl.datasets import DotVideos
from kalmanssl.distributions import VonMisesFisher
from kalmanssl.errors import InputError
from kalmanssl.identifiability import check_assumptions, recovery

__all__ = ["Fitted", "assumed", "recovered"]


@dataclass(frozen=True)
class Fitted:
    """A model of ours that was fitted, the videos its maps are fitted on, and those it is tested on."""

    model: Matcher
    train: DotVideos
    test: DotVideos


def recovered(fitted: Fitted, angles: tuple[float, ...]) -> Row:
    """Score the encoder's latents and the predictor behind them, see `kalmanssl.identifiability.Recovery`.

    Parameters
    ----------
    fitted : Fitted
    angles : tuple of float
        Frequencies of the true system, radians per frame, which the eigenvalues of a Kalman predictor are compared
        with.

    Returns
    -------
    dict
        With the key "recovery". The first frame, which nothing predicts, is left out.
    """
    predictor = fitted.model.model.predictor
    (latent, mean, _), (new_latent, new_mean, new_cov) = (
        _predicted(fitted.model, part.videos) for part in (fitted.train, fitted.test)
    )
    learned: dict[str, Any] = {}
    if fitted.model.trained:
        means, new_means = ((fitted.train.predicted[:, 1:], mean), (fitted.test.predicted[:, 1:], new_mean))
        learned = {"train_means": means, "test_means": new_means, "test_covs": new_cov}
        if hasattr(predictor, "A") and angles:
            learned |= {"transition": predictor.A.detach().numpy(), "angles": angles}
    found = recovery(fitted.train.position[:, 1:], latent, fitted.test.position[:, 1:], new_latent, **learned)
    return {"recovery": found.to_dict()}


@torch.no_grad()
def _predicted(model: Matcher, videos: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Latents, predicted means and covariances (none on the sphere) of all frames but the first."""
    output = model.model(torch.from_numpy(videos))
    conditional = output.prediction.conditional
    on_sphere = isinstance(conditional, VonMisesFisher)
    mean = conditional.mean.expand(output.latent.shape)
    cov = None if on_sphere else conditional.cov.expand(*mean.shape, mean.shape[-1])[:, 1:].numpy()
    return output.latent[:, 1:].numpy(), mean[:, 1:].numpy(), cov


def assumed(fitted: Fitted) -> Row:
    """Which assumptions of Theorem 1 hold on test videos: a verdict and a number for each, or why none is given."""
    if not fitted.model.trained:
        return {}
    try:
        report = check_assumptions(fitted.model.model, fitted.test.videos, true=fitted.test.position)
    except InputError as error:
        return {"assumptions": {}, "assumptions_skipped": str(error)}
    return {"assumptions": {one.name: {"verdict": one.verdict, "value": one.value} for one in report.assumptions}}
