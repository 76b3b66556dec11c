"""Decoding of behavior that consists of numbers, one bin after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kalmanssl.decoding.grids import group_dimensions
from kalmanssl.decoding.online._interval import OnlineInterval
from kalmanssl.decoding.online._steps import OnlineMixture
from kalmanssl.decoding.readouts import OneBinMasses

if TYPE_CHECKING:
    from kalmanssl.decoding._adaptation import Adaptation
    from kalmanssl.decoding._numeric_decoder import NumericDecoder

__all__ = ["OnlineNumbers", "OnlinePosition"]


class OnlinePosition(NamedTuple):
    """The behavior decoded at one bin.

    Attributes
    ----------
    time : float
        Center of the bin, seconds.
    latent : OnlineLatent
        Posterior of the latent state.
    mean : float or (dims,)
        Point estimate; a number if the behavior of the fit was (time,).
    lower, upper : float or (dims,)
        Ends of the calibrated interval. On circular dimensions they may leave [0, period), so that the middle of the
        interval is within half a period of `mean`.
    posterior : (cells,) or (rows, columns), or a tuple of these
        Posterior over the grid before calibration. One array for each pair of dimensions if there are more than two.
    trust : float
        Share of the held-out bins whose activity looks at least as unusual; see `DecodedPosition.trust`.
    trusted : bool
        Whether to trust this bin.
    """

    time: float
    latent: Any
    mean: Any
    lower: Any
    upper: Any
    posterior: Any
    trust: float = 1.0
    trusted: bool = True


class OnlineNumbers:
    """Movement prior, intervals and trust of a decoder of numbers, as `OnlineBehavior`.

    Parameters
    ----------
    decoder : NumericDecoder
    adaptation : Adaptation
    level : float
        Nominal level of the intervals.
    end : float
        End of the fit in the clock of the recording, seconds; NaN if it is unknown.
    flat : bool
        Whether the behavior of the fit was (time,).
    """

    labels = None

    def __init__(self, decoder: NumericDecoder, adaptation: Adaptation, level: float, end: float, flat: bool) -> None:
        self._correct_drift, self._drift, self._trust = decoder.correct_drift, decoder.drift, decoder.trust
        self._end, self._flat = end, flat
        self.occupancies = [np.array(part, dtype=np.float32) for part in decoder.occupancies]
        self._mixtures = [OnlineMixture(*given) for given in zip(decoder.movements, decoder.occupancies, strict=True)]
        self.beliefs = [belief for mixture in self._mixtures for belief in mixture.beliefs]
        self.cells: list[np.ndarray] = []
        self._intervals: list[tuple[int, int, OnlineInterval]] = []
        calibrations = adaptation.calibrations(decoder.calibrations)
        for number, dims in enumerate(group_dimensions(len(decoder.periods))):
            for place, dim in enumerate(dims):
                axis = decoder.grids[number].axes[place]
                self.cells.append(axis.centers)
                self._intervals.append((number, place, OnlineInterval(axis, calibrations[dim], level)))

    def step(self, masses: OneBinMasses, latent: Any) -> OnlinePosition:
        """Decode a bin from the distributions of the readout and its `OnlineLatent`."""
        is_missing = latent.is_missing
        if not is_missing and self._drift.rate != 0:
            masses = masses.transform(lambda parts: self._without_drift(parts, latent))
        posteriors = [
            mixture.step(product, average, masses.distance, is_missing, latent.is_start)
            for mixture, (product, average) in zip(self._mixtures, masses.by_grid(), strict=True)
        ]
        judged = (0.0, False) if is_missing else self._judge(masses.product, posteriors, masses.distance)
        return self._position(latent, posteriors, judged)

    def _without_drift(self, masses: list[np.ndarray], latent: Any) -> list[np.ndarray]:
        """Return distributions over the grids, shifted by the drift since the end of the fit."""
        age = 0.0 if np.isnan(self._end) else latent.time - self._end
        parts = [part[None] for part in masses]
        return [part[0] for part in self._correct_drift(self._drift, parts, latent.mean[None], np.array([age]))]

    def _judge(
        self, masses: list[np.ndarray], posteriors: list[np.ndarray], distance: float | None
    ) -> tuple[float, bool]:
        """Return the trust of a bin with activity, and whether it is trusted."""
        agreement = 0.0
        for mass, posterior in zip(masses, posteriors, strict=True):
            agreement += float(np.sqrt(mass * posterior).sum(dtype=float)) / len(masses)
        return self._trust.judge_one(0.0 if distance is None else distance, agreement)

    def _position(self, latent: Any, posteriors: list[np.ndarray], judged: tuple[float, bool]) -> OnlinePosition:
        """Return the result of a bin."""
        lag = latent.time - self._end
        found = []
        for number, place, interval in self._intervals:
            mass = posteriors[number]
            found.append(interval(mass if mass.ndim == 1 else mass.sum(axis=1 - place), lag))
        posterior = posteriors[0] if len(posteriors) == 1 else tuple(posteriors)
        mean, lower, upper = found[0] if self._flat else map(np.array, zip(*found, strict=True))
        return OnlinePosition(latent.time, latent, mean, lower, upper, posterior, *judged)
