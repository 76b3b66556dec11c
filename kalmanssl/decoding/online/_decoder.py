"""Decoding of a recording whose bins arrive one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kalmanssl.decoding._adaptation import Adaptation
from kalmanssl.decoding._fitted import FittedDecoder
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding.inputs import end_of_fit
from kalmanssl.decoding.online._labels import OnlineCategory
from kalmanssl.decoding.online._numbers import OnlinePosition
from kalmanssl.decoding.online._readout import one_bin_readout
from kalmanssl.decoding.online._steps import OnlineBelief, OnlineContext
from kalmanssl.decoding.readouts import OneBinMasses
from kalmanssl.errors import InputError
from kalmanssl.utils.online_state import check_state, fingerprint
from kalmanssl.utils.storage import without_prefix

__all__ = ["LatentStream", "OnlineBehavior", "OnlineDecoder", "OnlineMixin"]

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


class OnlineBehavior(Protocol):
    """What decodes a kind of behavior, numbers or labels, from the distributions of a readout bin by bin.

    Attributes
    ----------
    cells : list of (cells,)
        Centers of the cells of the grid for each dimension; empty for labels.
    occupancies : list of (*shape)
        Probability of each cell of the grids in the fitted bins.
    beliefs : list of OnlineBelief
        The state.
    """

    cells: list[np.ndarray]
    occupancies: list[np.ndarray]
    beliefs: list[OnlineBelief]

    @property
    def labels(self) -> np.ndarray | None:
        """The labels of the fit, (labels,); None for numbers."""
        ...

    def step(self, masses: OneBinMasses, latent: Any) -> OnlinePosition | OnlineCategory:
        """Decode a bin from the distributions of the readout and its `OnlineLatent`."""
        ...


class OnlineDecoder:
    """A fitted `PositionDecoder` that takes one bin of activity after another; see `PositionDecoder.online`.

    The memory does not grow with the number of bins.

    Parameters
    ----------
    decoder : LatentDecoder
        Decoder of filtered latents.
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
        self._stream = stream
        self._context = OnlineContext(decoder.context, n_features)
        self._readout = one_bin_readout(decoder)
        self._behavior = decoder.online_behavior(adaptation, level, end, is_flat)
        self.labels, self.cells = self._behavior.labels, self._behavior.cells
        occupancies = self._behavior.occupancies
        for occupancy in occupancies:
            occupancy.flags.writeable = False  # it is a result where latents are missing
        self._missing = OneBinMasses(occupancies, occupancies, 0.0)
        self._fingerprint = fingerprint([*occupancies, *self.cells, np.array(decoder.context.time_scales)])

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
        is_missing = latent.is_missing
        features = self._context.step(None if is_missing else latent.mean, latent.is_start)
        masses = self._missing if is_missing else self._readout(features, latent.cov)
        return self._behavior.step(masses, latent)

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
        for number, belief in enumerate(self._behavior.beliefs):
            belief.belief = found[f"belief.{number}"]

    def _own_state(self) -> dict[str, np.ndarray]:
        state = {"fingerprint": self._fingerprint}
        state |= {f"context.{name}": np.array(getattr(self._context, name)) for name in _CONTEXT_STATE}
        return state | {
            f"belief.{number}": belief.belief.copy() for number, belief in enumerate(self._behavior.beliefs)
        }


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
