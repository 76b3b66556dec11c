"""Match of the latents of a session to the states of other sessions, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from kalmanssl.alignment._distances import DIFFERENT, agreement
from kalmanssl.alignment._emissions import EmissionFits, fit_emissions
from kalmanssl.alignment._graph_matching import match_chains
from kalmanssl.alignment._reference import ReferenceStates, principal_axes
from kalmanssl.alignment._sequences import Sequences, SessionLatents
from kalmanssl.utils.torch_ops import one_thread_everywhere
from kalmanssl.utils.validation import check_integer

__all__ = ["MatchCandidate", "MatchSettings", "SessionMatch", "match_session"]


@dataclass(frozen=True)
class MatchSettings:
    """Settings of the match between sessions.

    Attributes
    ----------
    n_states : int
        Hidden states; fewer if there are fewer than ten bins for each.
    n_dims : int
        Principal axes of the latents in which states are found and compared.
    discounts : tuple of float
        Discounts of the successor representations in which chains are compared.
    n_runs : int
        Runs with different states for each fitted session. The best one is kept.
    n_starts : int
        Random starts of the comparison for each discount and run.
    n_candidates : int
        Candidates for each discount and run whose emissions are fitted; the best third is fitted until convergence.
    likelihood_weight : float
        Weight of the log-likelihood, nats per step and dimension, relative to the similarity of the distances.
    """

    n_states: int = 30
    n_dims: int = 6
    discounts: tuple[float, ...] = (0.5, 0.8, 0.9)
    n_runs: int = 4
    n_starts: int = 40
    n_candidates: int = 6
    likelihood_weight: float = 5.0

    def __post_init__(self) -> None:
        for name, least in (("n_states", 2), ("n_dims", 1), ("n_runs", 1), ("n_starts", 1), ("n_candidates", 1)):
            check_integer(name, getattr(self, name), least)


@dataclass(frozen=True)
class MatchCandidate:
    """One way to match a session to the states.

    Attributes
    ----------
    log_likelihood : float
        Log-likelihood of the observations given the transitions of the reference, nats per step and dimension.
    similarity : float
        Correlation of the distances between states in this session with those in the reference, weighted by the time
        spent in the states.
    score : float
        ``similarity + likelihood_weight * log_likelihood``.
    agreement : float
        Similarity of the targets to those of the best candidate: 1 minus their mean squared distance, as a fraction of
        the sum of their variances; 1 if they are the same, near 0 if they are unrelated.
    """

    log_likelihood: float
    similarity: float
    score: float
    agreement: float


@dataclass(frozen=True)
class SessionMatch:
    """Match of a session to fitted sessions.

    Attributes
    ----------
    reference : ReferenceStates
        States of the fitted sessions in the best run.
    bins : (steps,) int
        Bins of the session that were used.
    targets : (candidates, steps, latent)
        Where the latents of the fitted sessions are expected to be at these bins: the mean of the centers of the states
        given the session.
    candidates : tuple of MatchCandidate
        The best first.
    further_targets : (candidates, steps, latent)
        The same as `targets`, of candidates of the matches to the other fitted sessions.
    margin : float
        Difference in score to the best candidate that is a different solution (an agreement below 0.5), at most 0.3;
        with several fitted sessions, the mean over them, negative for those whose own match is a different solution. A
        small margin means that the match is ambiguous, as for a track whose mirror image looks the same.
    """

    reference: ReferenceStates
    bins: np.ndarray
    targets: np.ndarray
    candidates: tuple[MatchCandidate, ...]
    further_targets: np.ndarray
    margin: float


_LARGEST_MARGIN = 0.3  # a larger one, or no other solution, is not more certain
_OFFSETS, _LONGEST = 2, 60  # sequences that are used for the emissions
_FIRST_ITERATIONS, _LAST_ITERATIONS = 12, 30
_KEPT = 20  # candidates in the result
_FULL_FITS = 3  # one in so many candidates is fitted until convergence


def match_session(
    fitted: Sequence[SessionLatents],
    session: SessionLatents,
    settings: MatchSettings,
    seed: int,
    guess: np.ndarray | None = None,
) -> SessionMatch:
    """Find where the latents of fitted sessions would be at each time of a session, from its own latents alone.

    The session has other units, so its latents are an unknown function of those of the fitted sessions. These visit
    hidden states. Candidates come from a comparison of Markov chains: states are found in the session as well, and the
    transitions between them are matched to those in the fitted sessions. Starting at each candidate, the emissions of a
    hidden Markov model with the transitions of the fitted sessions are fitted to the latents. The best candidate has a
    high likelihood and similar distances between the states. If the transitions are symmetric, as on a track and its
    mirror image, the geometry of the latents decides.

    The session is matched to each fitted session separately. The result is the match that the others agree with most,
    weighted by their margins.

    Parameters
    ----------
    fitted : sequence of SessionLatents
        In the same coordinates.
    session : SessionLatents
    settings : MatchSettings
    seed : int
    guess : (time, latent), optional
        Where the latents of the fitted sessions may be at each bin of the session, as from a few labels. It is the
        start of one more candidate.

    Returns
    -------
    SessionMatch
    """
    matches = [_match_to_one(one, session, settings, seed, guess) for one in fitted]
    support = []
    for match in matches:
        agrees = [agreement(other.targets[0], match.targets[0]) >= DIFFERENT for other in matches]
        signed = [other.margin if same else -other.margin for other, same in zip(matches, agrees, strict=True)]
        support.append(float(np.mean(signed)))
    best = int(np.argmax(support))
    further = [match.targets for number, match in enumerate(matches) if number != best]
    return replace(
        matches[best], margin=support[best], further_targets=np.concatenate([matches[best].further_targets, *further])
    )


def _match_to_one(
    fitted: SessionLatents, session: SessionLatents, settings: MatchSettings, seed: int, guess: np.ndarray | None
) -> SessionMatch:
    """Match a session to one fitted session; the best of several runs."""
    sequences = Sequences.of(session, _OFFSETS, _LONGEST)
    runs = []
    for run in range(settings.n_runs):
        reference = ReferenceStates.find([fitted], settings.n_states, settings.n_dims, seed + run)
        runs.append(_match_states(reference, session, sequences, settings, seed + run, guess))
    found = sorted((one for run in runs for one in run), key=lambda one: -one.score)[:_KEPT]
    if guess is not None:
        guessed = max((run[-1] for run in runs), key=lambda one: one.score)
        if not any(one is guessed for one in found):
            found[-1] = guessed
    candidates = tuple(
        MatchCandidate(one.log_likelihood, one.similarity, one.score, agreement(one.targets, found[0].targets))
        for one in found
    )
    others = [one.score for one in candidates if one.agreement < DIFFERENT]
    margin = min(candidates[0].score - max(others, default=-np.inf), _LARGEST_MARGIN)
    targets = np.stack([one.targets for one in found])
    return SessionMatch(found[0].reference, sequences.bins, targets, candidates, targets[:0], float(margin))


class _Solution(NamedTuple):
    """A fitted candidate of one run; see `MatchCandidate` and `SessionMatch`."""

    log_likelihood: float
    similarity: float
    score: float
    targets: np.ndarray
    reference: ReferenceStates


def _match_states(
    reference: ReferenceStates,
    session: SessionLatents,
    sequences: Sequences,
    settings: MatchSettings,
    seed: int,
    guess: np.ndarray | None,
) -> list[_Solution]:
    """Fit the emissions of the states of a reference in a session, from several starts; return the best ones.

    A solution from a guess is always returned, as the last one.
    """
    axes = principal_axes(session.smoothed, reference.axes.shape[1])
    own = ReferenceStates.find([session], len(reference.centers), axes.shape[1], seed)
    starts = _start_means(reference, own, axes, settings, seed)
    if guess is not None:
        starts = np.concatenate([starts, _guessed_means(reference, guess, session.smoothed @ axes)[None]])
    x = session.observed @ axes
    weight = settings.likelihood_weight / x.shape[1]
    with one_thread_everywhere():
        fits = fit_emissions(x, sequences, reference.chain, starts, _FIRST_ITERATIONS)
        score = _similarities(reference, fits) + weight * fits.log_likelihood
        best = np.argsort(-score)[: -(-len(score) // _FULL_FITS)]
        if guess is not None:
            best = np.append(best[best != len(score) - 1], len(score) - 1)
        fits = fits[best]
        fits = fit_emissions(x, sequences, reference.chain, fits.means, _LAST_ITERATIONS, fits.variance)
    similarity = _similarities(reference, fits)
    return [
        _Solution(
            float(log_likelihood) / x.shape[1],
            float(similar),
            float(similar + weight * log_likelihood),
            (posterior @ reference.centers).astype(np.float32),
            reference,
        )
        for log_likelihood, similar, posterior in zip(fits.log_likelihood, similarity, fits.posterior, strict=True)
    ]


def _start_means(
    reference: ReferenceStates, own: ReferenceStates, axes: np.ndarray, settings: MatchSettings, seed: int
) -> np.ndarray:
    """Return means of the states along the axes of the session, (starts, states, dims), one set for each candidate."""
    n_states, n_own = len(reference.centers), len(own.centers)
    # The quadratic assignment needs as many states in both; those that one chain lacks are copies of its first ones.
    chosen = np.arange(n_states) % n_own
    chain = replace(
        own.chain,
        transition=own.chain.transition[np.ix_(chosen, chosen)],
        occupancy=own.chain.occupancy[chosen],
        initial=own.chain.initial[chosen],
    )
    chain = replace(chain, transition=chain.transition / chain.transition.sum(1, keepdims=True))
    centers = own.centers[chosen] @ axes
    found = [
        match_chains(reference.chain, chain, centers, discount, settings.n_starts, settings.n_candidates, seed)
        for discount in settings.discounts
    ]
    return centers[np.concatenate(found)]


def _guessed_means(reference: ReferenceStates, guess: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the mean of latents z (time, dims) in each state (states, dims), by the nearest center to a guess.

    The mean of all latents counts as one bin in each state, for those without a bin.
    """
    near = KDTree(reference.centers @ reference.axes).query(guess @ reference.axes)[1]
    count = np.bincount(near, minlength=len(reference.centers))[:, None] + 1.0
    total = np.stack([np.bincount(near, column, len(reference.centers)) for column in z.T], axis=1)
    return (total + z.mean(axis=0)) / count


def _similarities(reference: ReferenceStates, fits: EmissionFits) -> np.ndarray:
    """Return the weighted correlation of the distances between states with those of the reference, (starts,)."""
    expected = _distances(reference.centers @ reference.axes)
    pairs = np.triu_indices(len(expected), 1)
    found = []
    for means, posterior in zip(fits.means, fits.posterior, strict=True):
        occupancy = posterior.sum(0)
        weight = np.outer(occupancy, occupancy)[pairs]
        found.append(_correlation(expected[pairs], _distances(means)[pairs], weight / weight.sum()))
    return np.array(found)


def _distances(points: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances (points, points)."""
    return np.linalg.norm(points[:, None] - points, axis=-1)


def _correlation(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted correlation of a and b; the weights sum to one."""
    a, b = a - weight @ a, b - weight @ b
    return float((weight * a * b).sum() / np.sqrt((weight @ a**2) * (weight @ b**2) + 1e-30))
