"""Checks of equations on maps that are known: entropy of a folded variable, and its estimate from samples."""

from __future__ import annotations

import math

import numpy as np
import torch
from parallel import Logger
from results_store import Row

from kalmanssl.entropy import KNNEntropy
from kalmanssl.identifiability import folding_entropy

__all__ = ["SAMPLES", "fold_checks"]

SAMPLES = {"tiny": 2000, "quick": 20_000, "full": 20_000}
MEAN = 0.5  # of the Gaussian that is folded at 0


def fold_checks(preset: str, seed: int, logger: Logger | None) -> Row:
    """Check Eq. 72, H[f(x)] = H[x] + <log|J|> - H_fold, and the estimate of H_fold from samples.

    Returns
    -------
    dict
        `identity_error`: difference of both sides for f(x) = |x| with x ~ N(0.5, 1), nats. `fold_formula`: H_fold of
        that map by Eq. 71. `injective`, `two_to_one`: estimates for a bent but injective map of the square, which loses
        0, and for a map that folds it in the middle, which loses log 2.
    """
    rng, n = np.random.default_rng(seed), SAMPLES[preset]
    x = MEAN + rng.standard_normal(n)
    entropy = KNNEntropy(clip_quantile=None)
    here, there = (np.exp(-0.5 * (sign * np.abs(x) - MEAN) ** 2) for sign in (np.sign(x), -np.sign(x)))
    fold = float(-np.log(here / (here + there)).mean())
    folded = float(entropy(torch.from_numpy(np.abs(x)[:, None])))
    whole = 0.5 * math.log(2 * math.pi * math.e)
    square = rng.uniform(-1.0, 1.0, (n, 2))
    bent = np.stack([square[:, 0] + 0.3 * square[:, 1] ** 2, square[:, 1] + 0.2 * np.sin(2 * square[:, 0])], 1)
    halved = np.stack([np.abs(square[:, 0]), square[:, 1]], 1)
    return {
        "identity_error": folded - (whole - fold),
        "fold_formula": fold,
        "injective": folding_entropy(square, bent).nats,
        "two_to_one": folding_entropy(square, halved).nats,
    }
