"""The attributes of a fitted decoder, and the choice of the part that decodes given latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kalmanssl.data import Latents
from kalmanssl.decoding._adaptation import Adaptation
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding.inputs import DecoderInput, check_latents, end_of_fit
from kalmanssl.errors import InputError
from kalmanssl.utils.segments import segment_index

if TYPE_CHECKING:
    from kalmanssl.decoding.grids import Periods

__all__ = ["FittedDecoder", "kind_of"]


class FittedDecoder:
    """The attributes of a fitted `PositionDecoder` (see there), for the classes that contain its methods.

    `PositionDecoder` defines the methods that are not implemented here.

    Attributes
    ----------
    flat_ : bool
        Whether the behavior of the fit was (time,).
    timed_ : bool
        Whether the times of the bins of the fit were known.
    """

    level: float
    calibrate: bool
    flat_: bool
    timed_: bool
    n_features_in_: int
    session_ends_: dict[str, float]
    periods_: Periods
    labels_: np.ndarray | None
    decoders_: dict[str, LatentDecoder]
    adaptations_: dict[str, Adaptation]

    def predict(self, latents: Any, time: np.ndarray | None = None) -> Any:
        """Decode the behavior; see `PositionDecoder.predict`."""
        raise NotImplementedError

    def _check_settings(self) -> None:
        """Raise `InputError` if a setting cannot be used."""
        raise NotImplementedError

    def _make_decoder(self, kind: str) -> LatentDecoder:
        """Return an unfitted decoder of latents of one kind."""
        raise NotImplementedError

    def _decoder_input(self, latents: Any, time: Any) -> tuple[str, LatentDecoder, DecoderInput]:
        """Return the kind of latents, the decoder of this kind, and its input."""
        check_is_fitted(self, "decoders_")
        mean, cov, known_time = check_latents(latents, time)
        if mean.shape[1] != self.n_features_in_:
            raise InputError(
                f"latents has {mean.shape[1]} features, the decoder was fitted on {self.n_features_in_}: "
                "use latents of the same model",
                parameter="latents",
            )
        kind = self._kind_of_decoder(latents)
        if isinstance(latents, Latents):
            segment = np.asarray(latents.segment)
        elif known_time is None:
            segment = np.zeros(len(mean), dtype=int)
        else:
            segment = segment_index(known_time)
        decoder = self.decoders_[kind]
        since_fit = np.full(len(mean), np.nan)
        if known_time is not None and self.timed_:
            since_fit = known_time - end_of_fit(self.session_ends_, getattr(latents, "session", ""))
        return kind, decoder, DecoderInput(mean, cov, segment, known_time, since_fit)

    def _kind_of_decoder(self, latents: Latents | np.ndarray) -> str:
        """Return the key of the decoder of latents of the kind of `latents`; arrays are decoded as those of the fit."""
        kind = kind_of(latents)
        if kind in self.decoders_:
            return kind
        if kind == "array" or "array" in self.decoders_:
            return next(iter(self.decoders_))
        raise InputError(
            f"latents are {kind}, but the decoder was fitted on {', '.join(self.decoders_)} ones: give fit the "
            "smoothed latents, too, as smoothed=model.transform(recording, smooth=True)",
            parameter="latents",
        )


def kind_of(latents: Latents | np.ndarray) -> str:
    """Return "filtered" or "smoothed" for latents, and "array" for an array."""
    if not isinstance(latents, Latents):
        return "array"
    return "smoothed" if latents.smoothed else "filtered"
