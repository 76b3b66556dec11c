"""Choice of a peer's settings by cross-validation on blocks of the training part."""

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

# Candidates decode this long before and after each run, seconds: what lies further off does not reach the run.
LEAD = 2.0


@dataclass(frozen=True)
class Selection:
    """Outcome of a search: the settings with the smallest mean CRPS and the score of each candidate."""

    best: dict[str, Any]
    crps: float
    tried: int


def blocks(train: Recording, running: np.ndarray, count: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Contiguous blocks of equally many runs: each as a slice of `train` and the running mask outside it."""
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
    """Try every combination of settings; score the running bins of each block by a fit on the other blocks.

    Parameters
    ----------
    make : callable
        ``make(**settings)`` returns a fresh decoder.
    grid : mapping
        Candidate values of every setting.
    train : Recording
        The training part alone: nothing else is looked at.
    running : (time,) bool
        Its running bins.
    folds : int
        Number of blocks of contiguous time.
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
