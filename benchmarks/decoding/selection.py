"""Choice of the settings of a decoder by cross-validation on contiguous blocks of the training part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from decoding.predictions import Prediction
from decoding.tasks import Task

__all__ = ["Decoder", "Selection", "blocks", "choose"]

MARGIN = 1.0  # s; training bins this close to a held-out block are left out
SWEEPS = 3


class Decoder(Protocol):
    """A method that is fitted once and decodes with different settings."""

    def fit(self, rows: np.ndarray) -> None:
        """Fit on these bins of the training part, (bins,) int."""
        ...

    def prepare(self, part: str, block: slice) -> Any:
        """Return what all settings need to decode the block of "train" or "test"."""
        ...

    def decode(self, prepared: Any, **settings: Any) -> Prediction:
        """Return the prediction of a prepared block."""
        ...


@dataclass(frozen=True)
class Selection:
    """Chosen settings.

    Attributes
    ----------
    best : dict
    crps : float
        Geometric mean of the CRPS on all bins and on running bins of the held-out blocks, in the unit of the recording.
    tried : int
        Number of combinations that were scored.
    held_out : list of (Prediction, truth, mask)
        Predictions of the held-out blocks with the chosen settings.
    """

    best: dict[str, Any]
    crps: float
    tried: int
    held_out: list[tuple[Prediction, np.ndarray, np.ndarray]]


def blocks(task: Task, count: int, max_bins: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield contiguous blocks with equal numbers of bins to fit on, and the bins to fit on outside each.

    Parameters
    ----------
    task : Task
    count : int
        Number of blocks.
    max_bins : int, optional
        Length of the part of a block that is decoded, from its start.
    """
    rows = np.flatnonzero(task.fit_mask)
    time = task.data.train.time
    for part in np.array_split(rows, count):
        start, stop = int(part[0]), int(part[-1]) + 1
        near = (time[rows] > time[start] - MARGIN) & (time[rows] < time[stop - 1] + MARGIN)
        yield slice(start, stop if max_bins is None else min(stop, start + max_bins)), rows[~near]


def choose(
    make: Callable[[Task], Decoder],
    candidates: Mapping[str, Sequence[Any]],
    task: Task,
    folds: int = 5,
    max_bins: int | None = None,
) -> Selection:
    """Choose settings by the CRPS on held-out blocks, each scored by a fit on the others.

    The score is the geometric mean of the CRPS on all bins and on running bins of every block: both are reported, and
    no block dominates, although the first minutes in a new place can be decoded ten times worse than the rest.

    Settings are optimized one after the other, from the middle of their candidates, until none changes (at most three
    sweeps). A key of several names, joined by a space, optimizes these together; its candidates are tuples.
    Decoders with a method `calibrate` are scored with the errors of all held-out blocks.
    """
    fitted, running = [], []
    for block, rows in blocks(task, folds, max_bins):
        decoder = make(task)
        decoder.fit(rows)
        fitted.append((decoder, decoder.prepare("train", block), task.train[block], task.fit_mask[block]))
        running.append(task.data.running_train[block])

    def decode(settings: Mapping[str, Any]) -> list[tuple[Prediction, np.ndarray, np.ndarray]]:
        named = unpack(settings)
        found = [(decoder.decode(ready, **named), truth, mask) for decoder, ready, truth, mask in fitted]
        if not hasattr(fitted[0][0], "calibrate"):
            return found
        for decoder, *_ in fitted:
            decoder.calibrate(found)
        return [(decoder.decode(ready, **named), truth, mask) for decoder, ready, truth, mask in fitted]

    scores: dict[tuple[Any, ...], float] = {}

    def score(settings: Mapping[str, Any]) -> float:
        key = tuple(settings.values())
        if key not in scores:
            values = [
                prediction.crps(truth)[bins].mean()
                for (prediction, truth, mask), run in zip(decode(settings), running, strict=True)
                for bins in (mask, mask & run)
                if bins.any()
            ]
            scores[key] = float(np.exp(np.mean(np.log(values))))
        return scores[key]

    best = {name: values[len(values) // 2] for name, values in candidates.items()}
    for _ in range(SWEEPS):
        before = dict(best)
        for name, values in candidates.items():
            best = min(({**best, name: value} for value in values), key=score)
        if best == before:
            break
    return Selection(unpack(best), score(best), len(scores), decode(best))


def unpack(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by single names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        names = name.split()
        found.update(zip(names, value, strict=True) if len(names) > 1 else [(name, value)])
    return found
