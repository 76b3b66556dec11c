"""The decoder of latents of one kind, filtered or smoothed: what decoders of numbers and of labels have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from kalmanssl.data import Covariances
from kalmanssl.decoding._continuation import Continuation
from kalmanssl.decoding.calibration import Calibration, RegionCalibration
from kalmanssl.decoding.grids import Grid, Periods, Predictive, marginal_predictives
from kalmanssl.decoding.held_out import Fold, MovementSettings, Samples
from kalmanssl.decoding.inputs import DecoderInput
from kalmanssl.decoding.readouts import BinMasses, FittedBins, TemporalContext, predict_masses

if TYPE_CHECKING:
    from kalmanssl.decoding._adaptation import Adaptation
    from kalmanssl.decoding.online import OnlineBehavior

__all__ = ["LatentDecoder"]


@dataclass(kw_only=True)
class LatentDecoder(ABC):
    """Temporal context, readout, movement prior and calibration for latents of one kind.

    Attributes
    ----------
    periods : tuple of float or None
        One per dimension of the behavior; (None,) for labels.
    smooth : bool
        Whether the latents are smoothed ones, so that later bins are used.
    make_readout : callable
        Returns an unfitted readout.
    movement_settings : MovementSettings
    time_scales : tuple of float
        Time scales of the temporal context, seconds.
    context : TemporalContext
    readout
        What `make_readout` returned, fitted to all usable bins.
    grids : list of Grid
        One for each group of dimensions; for labels one, with a cell for each label.
    calibrations : list of Calibration
        One for each dimension; empty for labels.
    regions : list of RegionCalibration
        One for each group of dimensions; for labels one, of the prediction sets.
    """

    periods: Periods
    smooth: bool
    make_readout: Callable[[], Any]
    movement_settings: MovementSettings
    time_scales: tuple[float, ...]
    context: TemporalContext = field(init=False)
    readout: Any = field(init=False)
    grids: list[Grid] = field(init=False)
    calibrations: list[Calibration] = field(init=False, default_factory=list)
    regions: list[RegionCalibration] = field(init=False, default_factory=list)

    def fit(self, samples: Samples, folds: list[Fold], timed: bool, rng: np.random.Generator) -> Self:
        """Fit the readout to all usable bins; choose the movement prior, and calibrate, on the held-out bins of folds.

        Without folds every bin is decoded by itself and nothing is calibrated.

        Parameters
        ----------
        samples : Samples
        folds : list of Fold
        timed : bool
            Whether the times of the bins are known. Without them there is no temporal context and no movement prior.
        rng : Generator
            Random numbers of the readouts.

        Raises
        ------
        InputError
            If the behavior consists of labels and no fold has all of them in its training part.
        """
        self.context = TemporalContext.of_bins(samples.time if timed else None, self.time_scales, not self.smooth)
        self._fit(samples, folds, timed, rng)
        return self

    @abstractmethod
    def _fit(self, samples: Samples, folds: list[Fold], timed: bool, rng: np.random.Generator) -> None:
        """Fit everything but the temporal context, as `fit`."""

    def movement_settings_for(self, timed: bool) -> MovementSettings:
        """Return the candidates for the movement prior: bins without times are decoded by themselves."""
        return self.movement_settings if timed else replace(self.movement_settings, kinds=("none",))

    @property
    @abstractmethod
    def movement_weights(self) -> list[dict[str, float]]:
        """The weight of each kind of movement prior that is used, for each group of dimensions."""

    @property
    @abstractmethod
    def uses_familiarity(self) -> bool:
        """Whether latents unlike those of the fit have less weight."""

    @property
    @abstractmethod
    def uses_average(self) -> bool:
        """Whether the average of the parts of the readout is used, and not only their product."""

    @abstractmethod
    def decode(self, given: DecoderInput, adaptation: Adaptation, level: float, flat: bool) -> Any:
        """Decode bins, with levels adapted to behavior that became known after the fit.

        Bins with latents that are not finite are missing: the movement prior alone predicts them, or without one the
        occupancy.

        Parameters
        ----------
        given : DecoderInput
        adaptation : Adaptation
        level : float
            Nominal level of the intervals or prediction sets.
        flat : bool
            Whether the behavior of the fit was (time,).

        Returns
        -------
        DecodedPosition or DecodedCategory
        """

    @abstractmethod
    def online_behavior(self, adaptation: Adaptation, level: float, end: float, flat: bool) -> OnlineBehavior:
        """Return what decodes one bin after another, as `decode` does; `end` is the end of the fit, seconds."""

    @abstractmethod
    def posteriors(self, given: DecoderInput) -> list[np.ndarray]:
        """Return the posterior over each grid, (time, *shape)."""

    @abstractmethod
    def _filtered(
        self, given: DecoderInput, beliefs: Sequence[np.ndarray | None]
    ) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """Return the filtered posterior over each grid, and the beliefs at the last bin.

        `beliefs` are those at the bin before the first one, as in `Continuation`; empty at the start of a segment.
        """

    def decode_piece(
        self, given: DecoderInput, before: Continuation | None
    ) -> tuple[list[np.ndarray], Continuation | None]:
        """Return the `posteriors` of a piece, filtered ones from where the piece `before` ended, and its own end.

        Smoothed latents depend on later bins. Each piece of them is decoded by itself, and has no end.
        """
        if self.smooth:
            return self.posteriors(given), None
        earlier, beliefs = (None, []) if before is None else (before.mean, before.beliefs)
        posteriors, after = self._filtered(replace(given, earlier=earlier), beliefs)
        return posteriors, Continuation.after(before, given, after, self.context.n_bins)

    def marginals(self, posteriors: list[np.ndarray]) -> list[Predictive]:
        """Return the distribution of each dimension from the posterior over each grid; none for labels."""
        return marginal_predictives(self.grids, posteriors)

    def features(self, given: DecoderInput) -> np.ndarray:
        """Return the latents with their temporal context, (time, features); zero in bins without latents."""
        return given.zero_missing(given.features(self.context.append))

    def readout_mass(
        self,
        readout: Any,
        features: np.ndarray,
        cov: Covariances | None,
        with_average: bool = False,
        networks: list[np.ndarray] | None = None,
    ) -> BinMasses:
        """Return the distributions of a readout over the grids, from each bin by itself; see `predict_masses`."""
        return predict_masses(readout, features, self._used_cov(cov), self.grids, with_average, networks)

    def _used_cov(self, cov: Covariances | None) -> Covariances | None:
        """Return posterior covariances if the readout uses them; those of averages over time are not known."""
        return None if self.context.is_used else cov

    def _make_fitted_bins(
        self,
        samples: Samples,
        where: np.ndarray,
        behavior: np.ndarray,
        weight: np.ndarray | None,
        with_context: bool = True,
    ) -> FittedBins:
        """Return what a readout is fitted to in the bins `where` (time,) bool, with their behavior and weights."""
        features = self.context.append(samples.mean, samples.segment, where) if with_context else samples.mean[where]
        cov = self._used_cov(samples.cov)
        return FittedBins(
            features, None if cov is None else cov[where], behavior, weight, self.grids, samples.mean.shape[1]
        )

    def to_state(self) -> dict[str, Any]:
        """Return everything from which `restore` makes this decoder again."""
        return {"readout": self.readout.to_state(), **self.context.to_state(), **self._own_state()}

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `to_state` returned."""
        self.readout = type(self.make_readout()).from_state(state["readout"])
        self.context = TemporalContext.from_state(state, not self.smooth)
        self._restore_own(state)
        return self

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """Return the state without readout and temporal context."""

    @abstractmethod
    def _restore_own(self, state: dict[str, Any]) -> None:
        """Restore what `_own_state` returned."""
