"""Remark 1: of a state that is larger than the latents, only the part that the latents show is determined."""

from __future__ import annotations

import numpy as np
from identifiability.experiments import EXPERIMENTS
from identifiability.networks import KalmanNetwork
from parallel import Logger
from results_store import Row

from kalmanssl.datasets import dot_videos
from kalmanssl.identifiability import affine_r2

__all__ = ["LATENT", "STATE", "row_space"]

LATENT, STATE = 2, 4
SECOND_SEED = 1000  # of the weights of the second model


def row_space(preset: str, seed: int, logger: Logger | None) -> Row:
    """Fit two models with different weights to the same videos, and predict the states of one from those of the other.

    Returns
    -------
    dict
        `shown`: R² of the coordinates of the state that the latents show, C h, from those of the other model;
        `hidden`: R² of the other coordinates from the whole state of the other model; `r2`: of the position. Affine
        maps are fitted on training videos and scored on test videos.
    """
    experiment = EXPERIMENTS["square"]
    size = experiment.sizes[preset]
    parts = [
        dot_videos(n_videos=n, split=split, random_state=seed, **experiment.data)
        for n, split in ((size.n_train, "train"), (size.n_test, "test"))
    ]
    states = []
    for start in (seed, seed + SECOND_SEED):
        model = KalmanNetwork("knn", LATENT, STATE)(LATENT, size.plan, start)
        model.n_cosines = 0
        model.fit(parts[0].videos)
        states.append([model.transform(part.videos).astype(float) for part in parts])
    (one, new_one), (other, new_other) = states
    shown, hidden = slice(0, LATENT), slice(LATENT, STATE)
    return {
        "shown": affine_r2(other[..., shown], one[..., shown], new_other[..., shown], new_one[..., shown]),
        "hidden": affine_r2(other, one[..., hidden], new_other, new_one[..., hidden]),
        "shown_alone": affine_r2(other[..., shown], one[..., hidden], new_other[..., shown], new_one[..., hidden]),
        "r2": affine_r2(one[..., shown], parts[0].position, new_one[..., shown], parts[1].position),
        "hidden_sd": float(np.mean(new_one[..., hidden].std((0, 1))) / np.mean(new_one[..., shown].std((0, 1)))),
    }
