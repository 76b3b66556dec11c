"""Measures of fitted models with a Kalman predictor: dynamics, and intervals of the position."""

from __future__ import annotations

import numpy as np
import torch
from identifiability.measures import Fitted
from results_store import Row

from kalmanssl.identifiability import AffineMap

__all__ = ["dynamics", "position_intervals"]

TWO_SIDED_95 = 1.959964


def dynamics(fitted: Fitted) -> Row:
    """Return the spectral radius of A, the largest angle of its eigenvalues in degrees, and the size of the latents."""
    if not fitted.model.trained:
        return {}
    model = fitted.model.model
    values = np.linalg.eigvals(model.predictor.A.detach().numpy())
    with torch.no_grad():
        latent = model.encoder(torch.from_numpy(fitted.test.videos))
    drawn = {"eigenvalues": [[float(v.real), float(v.imag)] for v in values]}
    return {
        "spectral_radius": float(np.abs(values).max()),
        "angle": float(np.degrees(np.abs(np.angle(values[np.abs(values).argmax()])))),
        "latent_sd": float(latent.std((0, 1)).mean()),
        "drawn": drawn,
    }


def position_intervals(fitted: Fitted) -> Row:
    """Return the coverage and width of 95 % intervals of the position from the covariance of the filter (Fig. A4C).

    The decoder is least squares on filtered means, with the covariance W P W'. `coverage_residual` adds the residual
    variance of the decoder. The first ten frames are left out.
    """
    if not fitted.model.trained:
        return {}
    predictor, first = fitted.model.model.predictor, 10
    states = []
    for part in (fitted.train, fitted.test):
        videos = torch.from_numpy(part.videos)
        with torch.no_grad():
            states.append(predictor.posterior(fitted.model.model.encoder(videos), videos))
    means = [state.mean.numpy()[:, first:].astype(float) for state in states]
    true = [part.position[:, first:] for part in (fitted.train, fitted.test)]
    decoder = AffineMap.fit(means[0], true[0])
    covs = states[1].covs.numpy().astype(float)[states[1].cov_index.numpy()[:, first:]]
    variance = np.einsum("ik,btkl,il->bti", decoder.weight, covs, decoder.weight)
    residual = np.var((decoder(means[0]) - true[0]).reshape(-1, true[0].shape[-1]), axis=0)
    error, row = np.abs(decoder(means[1]) - true[1]), {}
    for name, total in (("", variance), ("_residual", np.maximum(variance, 0) + residual)):
        half = TWO_SIDED_95 * np.sqrt(total)
        row |= {f"coverage_95{name}": float((error <= half).mean()), f"width_95{name}": float(2 * half.mean())}
    row["error_width_correlation"] = float(np.corrcoef(error.ravel(), np.sqrt(variance).ravel())[0, 1])
    columns = (
        true[1][0, :, 0],
        decoder(means[1])[0, :, 0],
        np.sqrt(variance)[0, :, 0],
        fitted.test.noise_variance[0, first:],
    )
    return row | {"drawn": {"interval": np.stack(columns, -1).round(4).tolist()}}
