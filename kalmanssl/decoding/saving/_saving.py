"""Saving and loading of a decoder: its state, and the folder that it is written to."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kalmanssl.decoding._adaptation import Adaptation
from kalmanssl.decoding._fitted import FittedDecoder
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding._numeric_decoder import NumericDecoder
from kalmanssl.decoding.calibration import CalibrationSettings
from kalmanssl.decoding.held_out import DriftSettings, MovementSettings
from kalmanssl.decoding.readouts import settings_class
from kalmanssl.decoding.saving._earlier_versions import upgrade_state
from kalmanssl.decoding.saving._state_checks import check_decoder_state
from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.nested_state import flatten_state, unflatten_state
from kalmanssl.utils.storage import load_folder, save_folder

__all__ = ["StateMixin"]


class StateMixin(FittedDecoder):
    """The methods of `PositionDecoder` that save and load it."""

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Save as a folder of arrays (safetensors) and JSON metadata; no code is stored.

        Parameters
        ----------
        path : path
            Folder.
        overwrite : bool
            Replace a decoder at `path`.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If `path` exists and `overwrite` is false, or cannot be written; for a regressor of scikit-learn, which
            cannot be saved without pickle.
        """
        arrays, plain = flatten_state(self.to_state())
        save_folder(path, "decoder", arrays, {"state": plain}, overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a decoder from the folder that `save` wrote.

        Raises
        ------
        InputError
            If the folder is missing, incomplete or damaged.
        """
        arrays, stored = load_folder(path, "decoder")
        try:
            return cls.from_state(unflatten_state(arrays, stored.get("state")))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def to_state(self) -> dict[str, Any]:
        """Return everything from which `from_state` makes this decoder again.

        Returns
        -------
        dict
            Nested dicts and lists of arrays, numbers, strings and None.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            For a regressor of scikit-learn, which cannot be saved without pickle.
        """
        check_is_fitted(self, "decoders_")
        settings = self.get_params()  # type: ignore[attr-defined]
        settings["period"] = list(self.periods_)
        settings["time_scales"] = list(settings["time_scales"])
        for name in ("readout_settings", "calibration_settings", "drift_settings", "movement_settings"):
            settings[name] = None if settings[name] is None else asdict(settings[name])
        return {
            "settings": settings,
            "features": self.n_features_in_,
            "flat": self.flat_,
            "timed": self.timed_,
            "sessions": {"names": list(self.session_ends_), "ends": list(self.session_ends_.values())},
            "labels": None if self.labels_ is None else self.labels_.tolist(),
            "decoders": {kind: decoder.to_state() for kind, decoder in self.decoders_.items()},
            "adaptations": {kind: adaptation.to_state() for kind, adaptation in self.adaptations_.items()},
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a fitted decoder from what `to_state` returned.

        Raises
        ------
        InputError
            If an entry of the state is missing, or has another type, size or range than the other entries require.
        """
        state = upgrade_state(state)
        check_decoder_state(state)
        try:
            return cls._restored(state)
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:  # mostly of settings
            message = f"the state is damaged ({first_line(error)[:200]}): save the decoder again"
            raise InputError(message, parameter="state") from error

    @classmethod
    def _restored(cls, state: dict[str, Any]) -> Self:
        """Return the decoder of a state that was checked."""
        settings = dict(state["settings"])
        classes: dict[str, Any] = {
            "readout_settings": settings_class(settings["regressor"]),
            "calibration_settings": CalibrationSettings,
            "drift_settings": DriftSettings,
            "movement_settings": MovementSettings,
        }
        for name, make in classes.items():
            settings[name] = None if settings[name] is None else make(**settings[name])
        decoder = cls(**settings)
        decoder.periods_ = tuple(settings["period"])
        decoder.n_features_in_ = int(state["features"])
        decoder.flat_, decoder.timed_ = bool(state["flat"]), bool(state["timed"])
        decoder.labels_ = None if state["labels"] is None else np.array(state["labels"])
        decoder._check_settings()
        decoder.decoders_ = {}
        for kind, part in state["decoders"].items():
            decoder.decoders_[kind] = decoder._make_decoder(kind).restore(part)
        decoder.session_ends_ = _session_ends(state, decoder.decoders_)
        stored = state.get("adaptations", {})  # absent from decoders that were saved before `update` existed
        decoder.adaptations_ = {kind: Adaptation.from_state(part) for kind, part in stored.items()}
        return decoder


def _session_ends(state: dict[str, Any], decoders: dict[str, LatentDecoder]) -> dict[str, float]:
    """Return the end of the fit in each session; decoders that were saved before had one session without a name."""
    if "sessions" in state:
        return dict(zip(state["sessions"]["names"], map(float, state["sessions"]["ends"]), strict=True))
    ends = [one.end for one in decoders.values() if isinstance(one, NumericDecoder)]
    return {"": ends[0]} if ends else {}
