"""Measures of the map from true to learned latents: folds, and closeness to an orthogonal map."""

from __future__ import annotations

import numpy as np
import torch
from identifiability.matcher import encode
from identifiability.measures import Fitted
from results_store import Row

from kalmanssl.errors import InputError
from kalmanssl.identifiability import AffineMap, affine_r2, folding_entropy

__all__ = ["folds", "orthogonality", "visible_r2"]


def visible_r2(fitted: Fitted) -> Row:
    """Return R² of the positions that lie in the picture, and their share, with a map fitted on such frames."""
    parts = [(fitted.model.transform(part.videos), part.position, part.visible) for part in (fitted.train, fitted.test)]
    (z, s, seen), (new_z, new_s, new_seen) = parts
    return {
        "r2_visible": affine_r2(z[seen], s[seen], new_z[new_seen], new_s[new_seen]),
        "share_visible": float(new_seen.mean()),
    }


def folds(fitted: Fitted) -> Row:
    """Return the entropy that the encoder loses by folds (Eq. 72), in nats, after and before training, where visible.

    Frames are those of the training videos on which affine maps are fitted, since many are needed. `slope_error` says
    how accurate the slopes are that it is computed from.
    """
    seen = fitted.train.visible
    positions = fitted.train.position[seen]
    networks = {"folding": fitted.model.model}
    if fitted.model.trained:
        networks["folding_before"] = fitted.model.initial_model(fitted.train.videos)
    row: Row = {}
    for name, network in networks.items():
        latents = encode(network.encoder, fitted.train.videos)[seen]
        try:
            found = folding_entropy(positions, latents)
        except InputError:  # the latents hardly depend on the positions, or there are few frames
            continue
        row |= {name: found.nats, f"{name}_slope_error": found.slope_error}
    return row


def orthogonality(fitted: Fitted) -> Row:
    """Return the ratio of the smallest to the largest singular value of the affine map from true to learned latents."""
    with torch.no_grad():
        latent = fitted.model.transform(fitted.train.videos)
    sizes = np.linalg.svd(AffineMap.fit(fitted.train.position, latent).weight, compute_uv=False)
    return {"singular_value_ratio": float(sizes[-1] / sizes[0])}
