"""Further measures of our models: recovery by the predictor, calibration, assumptions of the theorem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from results_store import Row

from identifiability.matcher import Matcher
from kalmanssl.datasets import DotVideos
from kalmanssl.distributions import VonMisesFisher
from kalmanssl.errors import InputError
from kalmanssl.identifiability import check_assumptions, recovery

__all__ = ["Fitted", "assumption_row", "recovery_row"]


@dataclass(frozen=True)
class Fitted:
    """A fitted model, the videos on which affine maps are fitted, and the test videos."""

    model: Matcher
    train: DotVideos
    test: DotVideos


def recovery_row(fitted: Fitted, angles: tuple[float, ...]) -> Row:
    """Return the scores of the encoder's latents and of the predictor, see `kalmanssl.identifiability.Recovery`.

    Parameters
    ----------
    fitted : Fitted
    angles : tuple of float
        Frequencies of the true system, radians per frame, for comparison with the eigenvalues of a Kalman predictor.

    Returns
    -------
    dict
        With the key "recovery". The first frame is left out, since it has no prediction.
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
    result = recovery(fitted.train.position[:, 1:], latent, fitted.test.position[:, 1:], new_latent, **learned)
    return {"recovery": result.to_dict()}


@torch.no_grad()
def _predicted(model: Matcher, videos: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return latents, predicted means and covariances (None on the sphere) of all frames except the first."""
    output = model.model(torch.from_numpy(videos))
    conditional = output.prediction.conditional
    on_sphere = isinstance(conditional, VonMisesFisher)
    mean = conditional.mean.expand(output.latent.shape)
    cov = None if on_sphere else conditional.cov.expand(*mean.shape, mean.shape[-1])[:, 1:].numpy()
    return output.latent[:, 1:].numpy(), mean[:, 1:].numpy(), cov


def assumption_row(fitted: Fitted) -> Row:
    """Return a verdict and a value for each assumption of Theorem 1 on test videos, or why there is none."""
    if not fitted.model.trained:
        return {}
    try:
        report = check_assumptions(fitted.model.model, fitted.test.videos, true=fitted.test.position)
    except InputError as error:
        return {"assumptions": {}, "assumptions_skipped": str(error)}
    return {"assumptions": {one.name: {"verdict": one.verdict, "value": one.value} for one in report.assumptions}}
