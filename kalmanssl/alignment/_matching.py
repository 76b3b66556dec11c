"""Match of the latents of a session to the states of other sessions, without labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

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
    n_starts : int
        Random starts of the comparison for each discount.
    n_candidates : int
        Candidates for each discount whose emissions are fitted; the best third is fitted until convergence.
    likelihood_weight : float
        Weight of the log-likelihood, nats per step and dimension, beside the similarity of the distances.
    """

    n_states: int = 30
    n_dims: int = 6
    discounts: tuple[float, ...] = (0.5, 0.8, 0.9)
    n_starts: int = 60
    n_candidates: int = 10
    likelihood_weight: float = 5.0

    def __post_init__(self) -> None:
        for name, least in (("n_states", 2), ("n_dims", 1), ("n_starts", 1), ("n_candidates", 1)):
            check_integer(name, getattr(self, name), least)


@dataclass(frozen=True)
class MatchCandidate:
    """One way to match a session to the states.

    Attributes
    ----------
    log_likelihood : float
        Of the observations given the transitions between the states of the reference, nats per step and dimension.
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
    """Match of a session to the states of the reference.

    Attributes
    ----------
    bins : (steps,) int
        Bins of the session that were used.
    posterior : (candidates, steps, states)
        Probability of each state at these bins.
    targets : (candidates, steps, latent)
        Expected center of the reference at these bins.
    candidates : tuple of MatchCandidate
        The best first.
    """

    bins: np.ndarray
    posterior: np.ndarray
    targets: np.ndarray
    candidates: tuple[MatchCandidate, ...]

    @property
    def margin(self) -> float:
        """Difference in score to the best candidate that is a different solution (an agreement below 0.5).

        It is infinity if there is none. A small margin means that the match is ambiguous, as for a track whose mirror
        image looks the same.
        """
        others = [one.score for one in self.candidates if one.agreement < _DIFFERENT]
        return self.candidates[0].score - max(others) if others else float("inf")


_DIFFERENT = 0.5  # agreement below which a candidate is another solution
_OFFSETS, _LONGEST = 2, 60  # sequences that are used for the emissions
_FIRST_ITERATIONS, _LAST_ITERATIONS = 12, 30
_FULL_FITS = 3  # one in so many candidates is fitted until convergence


def match_session(
    reference: ReferenceStates, session: SessionLatents, settings: MatchSettings, seed: int
) -> SessionMatch:
    """Find which states of a reference a session is in, from its own latents alone.

    The session has other units, so its latents are an unknown function of the states. Candidates come from a comparison
    of Markov chains: states are found in the session, too, and the transitions between them are matched to those of the
    reference. From each candidate, the emissions of a hidden Markov model with the transitions of the reference are
    fitted to the latents. The best one has a high likelihood and similar distances between the states, so that
    symmetries of the transitions, such as the mirror image of a track, are decided by the geometry of the latents.

    Parameters
    ----------
    reference : ReferenceStates
    session : SessionLatents
    settings : MatchSettings
    seed : int

    Returns
    -------
    SessionMatch
    """
    axes = principal_axes(session.smoothed, reference.axes.shape[1])
    n_states = len(reference.centers)
    own = ReferenceStates.find([session], n_states, axes.shape[1], seed)
    starts = _start_means(reference, own, axes, settings, seed)
    x = session.observed @ axes
    sequences = Sequences.of(session, _OFFSETS, _LONGEST)
    with one_thread_everywhere():
        fits = fit_emissions(x, sequences, reference.chain, starts, _FIRST_ITERATIONS)
        similarity = _similarities(reference, fits)
        score = similarity + settings.likelihood_weight * fits.log_likelihood / x.shape[1]
        chosen = np.argsort(-score)[: -(-len(score) // _FULL_FITS)]
        fits, means = fits[chosen], fits.means[chosen]
        fits = fit_emissions(x, sequences, reference.chain, means, _LAST_ITERATIONS, fits.variance)
    similarity = _similarities(reference, fits)
    log_likelihood = fits.log_likelihood / x.shape[1]
    score = similarity + settings.likelihood_weight * log_likelihood
    order = np.argsort(-score)
    posterior = fits.posterior[order]
    targets = posterior @ reference.centers
    candidates = tuple(
        MatchCandidate(*map(float, (log_likelihood[i], similarity[i], score[i], _agreement(found, targets[0]))))
        for i, found in zip(order, targets, strict=True)
    )
    return SessionMatch(sequences.bins, posterior, targets, candidates)


def _agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return 1 minus the mean squared distance of two sets of targets, relative to the sum of their variances."""
    total = a.var(0).sum() + b.var(0).sum()
    return float(1 - np.square(a - b).sum(1).mean() / total) if total > 0 else 1.0


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
