"""Search for settings by their score on held-out bins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from kalmanssl.decoding.held_out._paired_comparison import is_lower

__all__ = ["SearchResult", "closest", "vary_one_at_a_time"]

_Settings = TypeVar("_Settings", bound=Any)  # a frozen dataclass


@dataclass(frozen=True)
class SearchResult(Generic[_Settings]):
    """What `vary_one_at_a_time` has found.

    Attributes
    ----------
    best : dataclass
        The settings where the search ended.
    score : (blocks,)
        Score of the best settings.
    tried : tuple of dataclass
        All settings that were scored.
    scores : tuple of (blocks,)
        Their scores.
    """

    best: _Settings
    score: np.ndarray
    tried: tuple[_Settings, ...]
    scores: tuple[np.ndarray, ...]


def closest(candidates: Sequence[float], value: float) -> float:
    """Return the candidate with the smallest ratio to a value."""
    return min(candidates, key=lambda candidate: abs(math.log(candidate / value)))


def vary_one_at_a_time(
    best: _Settings,
    candidates: Mapping[str, Sequence[float]],
    score: Callable[[_Settings], np.ndarray],
    n_rounds: int,
    min_standard_errors: float,
) -> SearchResult[_Settings]:
    """Search for the settings with the lowest total score, varying one at a time.

    Parameters
    ----------
    best : dataclass
        Where the search begins.
    candidates : dict of sequence of float
        Candidates for each setting, by the name of the field.
    score : callable
        Returns what each block of time contributes to the score, (blocks,).
    n_rounds : int
        Largest number of rounds over all settings.
    min_standard_errors : float
        Improvement that a change of a setting must bring, as for `is_lower`.
    """
    tried: dict[tuple[float, ...], tuple[_Settings, np.ndarray]] = {}

    def known_score(settings: _Settings) -> np.ndarray:
        key = tuple(getattr(settings, name) for name in candidates)
        if key not in tried:
            tried[key] = settings, score(settings)
        return tried[key][1]

    lowest = known_score(best)
    for _ in range(n_rounds):
        before = best
        for name, values in candidates.items():
            varied = [replace(best, **{name: value}) for value in values]
            candidate = min(varied, key=lambda settings: float(known_score(settings).sum()))
            if is_lower(known_score(candidate), lowest, min_standard_errors):
                best, lowest = candidate, known_score(candidate)
        if best is before:
            break
    settings, scores = zip(*tried.values(), strict=True)
    return SearchResult(best, lowest, settings, scores)
