"""Agreement of the latents of several fits that differ only in their seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.runs._gain import held_out_gain
from kalmanssl.utils.validation import check_integer

if TYPE_CHECKING:
    from kalmanssl.data import Recording

__all__ = ["MOST_SEEDS", "check_seeds", "is_agreement", "seed_agreement", "seeds_sentence"]

MOST_SEEDS = 20
_SHARE = 0.8  # of the fitted part for the maps if nothing is held out
_SAME, _ALIKE = 0.9, 0.6  # R², for the words
_SHARED = 0.8  # squared canonical correlation from which on a direction is in both fits


def check_seeds(seeds: int | None) -> None:
    """Raise `InputError` unless the number of fits is None or from 2 to 20."""
    if seeds is not None:
        check_integer("seeds", seeds, 2, MOST_SEEDS)


def seed_agreement(
    model: Any, count: int, first_seed: int, fit: Callable[[int], Any], training: Recording, rest: Recording | None
) -> dict[str, Any]:
    """Fit more models with other seeds, and compare their latents.

    Parameters
    ----------
    model : KalmanSSL
        The fit of the first seed.
    count : int
        Number of fits, this one included.
    first_seed : int
        The others have the seeds after it.
    fit : callable
        Returns the fitted model of a seed.
    training, rest : Recording
        The fitted part, on which affine maps between the latents are fitted, and the held-out part, on which they are
        scored. If it is None, the last fifth of the fitted part is used instead.

    Returns
    -------
    dict
        `seeds`; `consistency`, the mean R² of the latents of one fit from those of another by an affine map (see
        `kalmanssl.identifiability.consistency`); `pairs`, that of each pair of seeds in both directions; `latents`, the
        number of latents; `shared`, the mean number of directions that two fits share; `gains`, the held-out gain of
        each fit, nats per bin, or None, and `gain_errors`, their standard errors over blocks of time, or None.
    """
    from kalmanssl.identifiability import affine_r2

    seeds = [first_seed + number for number in range(count)]
    models = [model, *(fit(seed) for seed in seeds[1:])]
    if rest is None:
        parts = [
            [values[: int(_SHARE * len(values))], values[int(_SHARE * len(values)) :]]
            for values in (one.transform(training).latent for one in models)
        ]
    else:
        parts = [[one.transform(part).latent for part in (training, rest)] for one in models]
    pairs, shared = {}, []
    for a in range(count):
        for b in range(count):
            if a != b:
                r2 = affine_r2(parts[a][0], parts[b][0], parts[a][1], parts[b][1])
                pairs[f"{seeds[a]} to {seeds[b]}"] = round(float(r2), 4)
            if a < b:
                shared.append(int((_canonical_r2(parts[a], parts[b]) >= _SHARED).sum()))
    gains = [held_out_gain(one) for one in models]
    return {
        "seeds": seeds,
        "consistency": round(float(np.mean(list(pairs.values()))), 4),
        "pairs": pairs,
        "latents": int(parts[0][0].shape[1]),
        "shared": round(float(np.mean(shared)), 1),
        "gains": [None if gain is None else round(gain.value, 4) for gain in gains],
        "gain_errors": [round(gain.error, 4) if gain and math.isfinite(gain.error) else None for gain in gains],
        "held_out": rest is not None,
    }


def _canonical_r2(one: list[np.ndarray], other: list[np.ndarray]) -> np.ndarray:
    """Return the squared correlations of canonical variables on the second part; they are fitted on the first part.

    Unlike R², which weights the latents of the other fit equally although some of them can have hardly any structure,
    they do not depend on the coordinates of either fit (Hotelling 1936).
    """
    means = [fit.mean(axis=0) for fit, _ in (one, other)]
    (q_one, r_one), (q_other, r_other) = (
        np.linalg.qr(fit - mean) for (fit, _), mean in zip((one, other), means, strict=True)
    )
    left, _, right = np.linalg.svd(q_one.T @ q_other)
    x = (one[1] - means[0]) @ np.linalg.pinv(r_one) @ left
    y = (other[1] - means[1]) @ np.linalg.pinv(r_other) @ right.T
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    total = np.maximum((x**2).sum(axis=0) * (y**2).sum(axis=0), 1e-300)
    return np.asarray((x * y).sum(axis=0) ** 2 / total)


def seeds_sentence(found: dict[str, Any] | None) -> str:
    """Say in words how well the latents of several fits agree; empty without them."""
    if not found:
        return ""
    r2, pairs = found["consistency"], list(found["pairs"].values())
    word = "agree well" if r2 >= _SAME else "agree in part" if r2 >= _ALIKE else "do not agree"
    advice = "" if r2 >= _SAME else ": do not interpret single latents; the decoded behavior has its own scores"
    shared = ""
    if "shared" in found:  # not in older runs
        shared = (
            f"; two fits share {found['shared']:g} of {found['latents']} directions, with a squared canonical "
            f"correlation of at least {_SHARED:g}"
        )
    where = "held-out bins" if found["held_out"] else "the last fifth of the fitted part"
    return (
        f"the latents of {len(found['seeds'])} fits with other seeds {word}{advice} (R² of those of one fit from those "
        f"of another by an affine map, on {where}: mean {r2:.2f}, {min(pairs):.2f} to {max(pairs):.2f}{shared}); "
        "all fits start at the same linear components of the activity, so disagreement is a warning, and agreement "
        "is no proof"
    )


def is_agreement(value: Any) -> bool:
    """Return whether a value of a file has the form of `seed_agreement`."""
    try:
        seeds_sentence(value)
        return bool(value["pairs"]) and all(isinstance(seed, int) for seed in value["seeds"])
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        return False
