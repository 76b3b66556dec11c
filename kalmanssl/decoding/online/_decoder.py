"""Decoding of a recording whose bins arrive one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kalmanssl.decoding._adaptation import Adaptation
from kalmanssl.decoding._fitted import FittedDecoder
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding._numeric_decoder import NumericDecoder
from kalmanssl.decoding.grids import group_dimensions, likelier_mass
from kalmanssl.decoding.inputs import end_of_fit
from kalmanssl.decoding.labels import LabelDecoder
from kalmanssl.decoding.online._interval import OnlineInterval
from kalmanssl.decoding.online._readout import one_bin_readout
from kalmanssl.decoding.online._steps import OnlineBelief, OnlineContext, OnlineMixture
from kalmanssl.decoding.readouts import OneBinMasses
from kalmanssl.errors import InputError
from kalmanssl.utils.online_state import check_state, fingerprint
from kalmanssl.utils.storage import without_prefix

__all__ = ["LatentStream", "OnlineCategory", "OnlineDecoder", "OnlineMixin", "OnlinePosition"]

_CONTEXT_STATE = ("sums", "weights", "has_missing")


class LatentStream(Protocol):
    """What `OnlineDecoder` requires of the object that gives it latents, such as `kalmanssl.estimator.OnlineFilter`."""

    def step(self, activity: Any, time: float | None = None) -> Any:
        """Take one bin; return an object with the attributes of `kalmanssl.estimator.OnlineLatent`."""
        ...

    def reset(self) -> None:
        """Begin a new segment with the next bin."""
        ...

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the state as numeric arrays."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        ...


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


class OnlineCategory(NamedTuple):
    """The label decoded at one bin.

    Attributes
    ----------
    time : float
        Center of the bin, seconds.
    latent : OnlineLatent
        Posterior of the latent state.
    label : label
        The most probable label.
    probabilities : (labels,)
        Probability of each label of `OnlineDecoder.labels`.
    inside : (labels,) bool
        Which labels are in the prediction set at the level of the decoder.
    """

    time: float
    latent: Any
    label: Any
    probabilities: np.ndarray
    inside: np.ndarray


class OnlineDecoder:
    """A fitted `PositionDecoder` that takes one bin of activity after another; see `PositionDecoder.online`.

    The memory does not grow with the number of bins.

    Parameters
    ----------
    decoder : LatentDecoder
        Of filtered latents.
    adaptation : Adaptation
    stream : LatentStream
    n_features : int
        Number of latents.
    level : float
        Nominal level of the intervals or prediction sets.
    end : float
        End of the fit in the clock of the recording, seconds; NaN if it is unknown.
    is_flat : bool
        Whether the behavior of the fit was (time,).

    Attributes
    ----------
    labels : (labels,) or None
        The labels of the fit; None for other behavior.
    cells : list of (cells,)
        Centers of the cells of the grid for each dimension; empty for labels.
    """

    def __init__(
        self,
        decoder: LatentDecoder,
        adaptation: Adaptation,
        stream: LatentStream,
        n_features: int,
        level: float,
        end: float,
        is_flat: bool,
    ) -> None:
        self._stream, self._n_features, self._is_flat = stream, n_features, is_flat
        self._context = OnlineContext(decoder.context, n_features)
        self._readout = one_bin_readout(decoder)
        self.labels: np.ndarray | None = None
        self.cells: list[np.ndarray] = []
        self._intervals: list[tuple[int, int, OnlineInterval]] = []
        self._end = end
        if isinstance(decoder, LabelDecoder):
            self.labels = decoder.labels
            self._occupancies = [decoder.chain.statistics.occupancy.copy()]
            self._mixtures: list[OnlineMixture] = []
            self._beliefs = [OnlineBelief(decoder.chain)]
            self._set_mass = adaptation.region_calibrations(decoder.regions)[0].mass(level)
        elif isinstance(decoder, NumericDecoder):
            self._trust = decoder.trust
            self._occupancies = [np.array(part, dtype=np.float32) for part in decoder.occupancies]
            self._mixtures = [
                OnlineMixture(*given) for given in zip(decoder.movements, decoder.occupancies, strict=True)
            ]
            self._beliefs = [belief for mixture in self._mixtures for belief in mixture.beliefs]
            calibrations = adaptation.calibrations(decoder.calibrations)
            for number, dims in enumerate(group_dimensions(len(decoder.periods))):
                for place, dim in enumerate(dims):
                    axis = decoder.grids[number].axes[place]
                    self.cells.append(axis.centers)
                    self._intervals.append((number, place, OnlineInterval(axis, calibrations[dim], level)))
        for occupancy in self._occupancies:
            occupancy.flags.writeable = False  # it is a result where latents are missing
        self._fingerprint = fingerprint([*self._occupancies, *self.cells, np.array(decoder.context.time_scales)])

    def step(self, activity: Any, time: float | None = None) -> OnlinePosition | OnlineCategory:
        """Decode one bin.

        Parameters
        ----------
        activity : (units,) or None
            Activity of the units in the order of the fit. None, or NaN in any unit, if the bin is missing: the movement
            prior then predicts the behavior, also at the later bins whose filter step contains this bin.
        time : float, optional
            Center of the bin, seconds. By default it is one bin after the last one; the first bin is at zero. After a
            gap of more than 1.5 bins a new segment begins: the filter starts again, and the distribution of the
            behavior before the bin is the occupancy.

        Returns
        -------
        OnlinePosition or OnlineCategory
            The latter for labels.

        Raises
        ------
        InputError
            If the bin cannot be used or the time does not increase. The state is then unchanged.
        """
        latent = self._stream.step(activity, time)
        is_missing, is_start = latent.is_missing, latent.is_start
        features = self._context.step(None if is_missing else latent.mean, is_start)
        if is_missing:
            masses = OneBinMasses(self._occupancies, self._occupancies, 0.0)
        else:
            age = 0.0 if np.isnan(self._end) else latent.time - self._end
            masses = self._readout(features, latent.mean, latent.cov, age)
        if self.labels is not None:
            return self._category(latent, self._beliefs[0].step(masses.product[0], is_missing, is_start))
        posteriors = [
            mixture.step(product, average, masses.distance, is_missing, is_start)
            for mixture, (product, average) in zip(self._mixtures, masses.by_grid(), strict=True)
        ]
        judged = (0.0, False) if is_missing else self._judge(masses.product, posteriors, masses.distance)
        return self._position(latent, posteriors, judged)

    def reset(self) -> None:
        """Begin a new segment with the next bin, at any time, such as a trial or another recording."""
        self._stream.reset()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the state of the decoder and its source of latents as numeric arrays, to continue later.

        It can be stored with ``numpy.savez(path, **state)``, or as JSON after ``array.tolist()`` of each entry.
        """
        return self._own_state() | {f"model.{name}": value for name, value in self._stream.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called, in this object or one that was made from the same model and decoder.

        Parameters
        ----------
        state : mapping of str to array or nested lists

        Raises
        ------
        InputError
            If the state belongs to another model or decoder, or is damaged.
        """
        found = check_state(state, self.state_dict())
        self._stream.load_state_dict(without_prefix(found, "model."))
        for name in _CONTEXT_STATE:
            setattr(self._context, name, found[f"context.{name}"])
        for number, belief in enumerate(self._beliefs):
            belief.belief = found[f"belief.{number}"]

    def _own_state(self) -> dict[str, np.ndarray]:
        state = {"fingerprint": self._fingerprint}
        state |= {f"context.{name}": np.array(getattr(self._context, name)) for name in _CONTEXT_STATE}
        return state | {f"belief.{number}": belief.belief.copy() for number, belief in enumerate(self._beliefs)}

    def _judge(
        self, masses: list[np.ndarray], posteriors: list[np.ndarray], distance: float | None
    ) -> tuple[float, bool]:
        """Return the trust of a bin with activity, and whether it is trusted."""
        agreement = 0.0
        for mass, posterior in zip(masses, posteriors, strict=True):
            agreement += float(np.sqrt(mass * posterior).sum(dtype=float)) / len(masses)
        return self._trust.judge_one(0.0 if distance is None else distance, agreement)

    def _position(self, latent: Any, posteriors: list[np.ndarray], judged: tuple[float, bool]) -> OnlinePosition:
        """Return the result of a bin for behavior other than labels."""
        lag = latent.time - self._end
        found = []
        for number, place, interval in self._intervals:
            mass = posteriors[number]
            found.append(interval(mass if mass.ndim == 1 else mass.sum(axis=1 - place), lag))
        posterior = posteriors[0] if len(posteriors) == 1 else tuple(posteriors)
        mean, lower, upper = found[0] if self._is_flat else map(np.array, zip(*found, strict=True))
        return OnlinePosition(latent.time, latent, mean, lower, upper, posterior, *judged)

    def _category(self, latent: Any, mass: np.ndarray) -> OnlineCategory:
        """Return the result of a bin for labels."""
        assert self.labels is not None
        inside = likelier_mass(mass[None])[0] <= self._set_mass
        return OnlineCategory(latent.time, latent, self.labels[mass.argmax()], mass, inside)


class OnlineMixin(FittedDecoder):
    """The method `online` of `PositionDecoder`."""

    def online(self, model: Any) -> OnlineDecoder:
        """Return a decoder that takes one bin of activity after another.

        Some code is compiled in this call, and the bins are then decoded in a fraction of a millisecond. Python's
        garbage collection can delay a bin by much more if there are many objects; call ``gc.freeze()`` once before the
        first bin, so that it only searches objects that were made later.

        The results are those of ``predict(model.transform(recording))`` for filtered latents, except that readouts
        which average over random draws use other draws. Later calls of `fit` and `update` have no effect on it.

        Parameters
        ----------
        model : KalmanSSL
            The model of the latents, or any object whose method `online` returns a `LatentStream`.

        Returns
        -------
        OnlineDecoder

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If the decoder was fitted on smoothed latents only, or the model has another number of latents.
        """
        check_is_fitted(self, "decoders_")
        if isinstance(model, type) or not hasattr(model, "online"):
            raise InputError(
                f"model is a {type(model).__name__} without the method online: give a fitted KalmanSSL",
                parameter="model",
            )
        kind = "filtered" if "filtered" in self.decoders_ else "array"
        if kind not in self.decoders_:
            raise InputError(
                "the decoder was fitted on smoothed latents, which need later bins: fit it on filtered latents",
                parameter="model",
            )
        decoder, stream = self.decoders_[kind], model.online()
        n_states = getattr(stream, "state_dim", self.n_features_in_)
        if n_states != self.n_features_in_:
            raise InputError(
                f"model has {n_states} latents, the decoder was fitted on {self.n_features_in_}: use the model whose "
                "latents it was fitted on",
                parameter="model",
            )
        adaptation = self.adaptations_.get(kind) or Adaptation.of(decoder)
        end = end_of_fit(self.session_ends_, getattr(model, "sessions_", ("",))[0]) if self.timed_ else np.nan
        return OnlineDecoder(
            decoder=decoder,
            adaptation=adaptation,
            stream=stream,
            n_features=n_states,
            level=self.level,
            end=end,
            is_flat=self.flat_,
        )
