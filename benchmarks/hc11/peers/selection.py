"""Choice of the settings of a peer by cross-validation on blocks of the training part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import binary_dilation

if TYPE_CHECKING:
    from kalmanssl.data import Recording

__all__ = ["Selection", "blocks", "choose"]

# Bins further than this from any run, s, are not decoded: they do not influence the predictions during the run.
LEAD = 2.0


@dataclass(frozen=True)
class Selection:
    """The settings with the smallest mean CRPS, this score, and the number of candidates."""

    best: dict[str, Any]
    crps: float
    tried: int


def blocks(train: Recording, running: np.ndarray, count: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield contiguous blocks with equal numbers of runs, as slices of `train`, and the running mask outside each."""
    starts = np.flatnonzero(np.diff(running.astype(int), prepend=0) == 1)
    cuts = [0, *(int(part[0]) for part in np.array_split(starts, count)[1:]), len(running)]
    for start, stop in pairwise(cuts):
        outside = running.copy()
        outside[start:stop] = False
        yield slice(start, stop), outside


def choose(
    make: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]],
    train: Recording,
    running: np.ndarray,
    folds: int = 5,
) -> Selection:
    """Choose settings by cross-validation: each block is scored by a fit on the others.

    Parameters
    ----------
    make : callable
        `make(**settings)` returns a new decoder.
    grid : mapping
        Candidate values of every setting.
    train : Recording
        The training part.
    running : (time,) bool
        Its running bins.
    folds : int
        Number of contiguous blocks.
    """
    names = list(grid)
    nearby = binary_dilation(running, iterations=round(LEAD / train.bin_size))
    candidates = [dict(zip(names, values, strict=True)) for values in product(*grid.values())]
    totals = np.zeros(len(candidates))
    truth = train.behavior["position"]
    for block, outside in blocks(train, running, folds):
        keep = np.flatnonzero(nearby[block]) + block.start
        behavior = {"position": truth[keep]}
        held_out = replace(
            train, activity=train.activity[keep], time=train.time[keep], behavior=behavior, spike_times=None
        )
        mask = running[keep]
        for i, settings in enumerate(candidates):
            prediction = make(**settings).fit(train, outside).predict(held_out)
            totals[i] += prediction.crps(truth[keep])[mask].sum()
    best = int(totals.argmin())
    return Selection(candidates[best], float(totals[best] / running.sum()), len(candidates))
