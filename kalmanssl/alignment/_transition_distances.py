"""Comparison of a match with different ones by how the mapped latents move; the match is not chosen by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kalmanssl.alignment._distances import DIFFERENT, agreement, sliced_wasserstein
from kalmanssl.alignment._maps import fit_map
from kalmanssl.alignment._matching import SessionMatch
from kalmanssl.alignment._sequences import SessionLatents

__all__ = ["transition_distances"]

_MAX_PAIRS = 10_000  # of each side of a comparison
_N_DIRECTIONS = 100


def transition_distances(
    match: SessionMatch, chosen: int, session: SessionLatents, fitted: Sequence[SessionLatents], lag: int
) -> tuple[float, float | None]:
    """Compute how far the transitions of a session are from those of fitted sessions, for this and for other matches.

    A transition is the pair of smoothed latents at two times, a lag apart in one segment. The latents of the session
    are mapped by each candidate of the match to any fitted session. Those that agree with the chosen one are the same
    solution.

    Parameters
    ----------
    match : SessionMatch
    chosen : int
        Number of the candidate that is used.
    session : SessionLatents
        Before the map.
    fitted : sequence of SessionLatents
        The sessions that it was matched to.
    lag : int
        Bins; less in short segments.

    Returns
    -------
    own : float
        Smallest sliced Wasserstein distance between the transitions, over candidates that are the chosen solution, in
        standard deviations of those of the fitted sessions.
    other : float or None
        The same of candidates that are a different solution; None if there are none.
    """
    longest = min(int(np.bincount(one.segment).max()) for one in (session, *fitted))
    lag = max(1, min(lag, longest // 2))
    expected = _thinned(np.concatenate([_pairs(one.smoothed, one.segment, lag) for one in fitted]))
    found: dict[bool, list[float]] = {True: [], False: []}
    for targets in [*match.targets, *match.further_targets]:
        mapping = fit_map(session.smoothed, match.bins, targets, match.reference.mean, match.reference.cov)
        pairs = _thinned(_pairs(mapping(session.smoothed), session.segment, lag))
        same = agreement(targets, match.targets[chosen]) >= DIFFERENT
        found[same].append(sliced_wasserstein(expected, pairs, _N_DIRECTIONS))
    return min(found[True]), min(found[False], default=None)


def _pairs(latents: np.ndarray, segment: np.ndarray, lag: int) -> np.ndarray:
    """Return latents (time, latent) and those a lag later in the same segment, (pairs, 2 latent)."""
    inside = segment[lag:] == segment[:-lag]
    return np.concatenate([latents[:-lag][inside], latents[lag:][inside]], axis=1)


def _thinned(pairs: np.ndarray) -> np.ndarray:
    """Return every n-th pair, such that not too many are left."""
    return pairs[:: -(-len(pairs) // _MAX_PAIRS)]
