"""Saving `KalmanSSL` as a folder of weights and metadata."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.storage import save_folder

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["save_model"]


def save_model(model: KalmanSSL, path: str | os.PathLike[str], overwrite: bool) -> None:
    """Write a fitted model to the folder `path`, with its second view if there is one."""
    sessions = getattr(model, "session_models_", {})
    arrays, data = ({}, {}) if sessions else _contents(model)
    metadata = {
        "settings": _settings(model),
        "data": data,
        "history": model.history_,
        "noise_history": model.noise_history_,
    }
    if sessions:
        metadata["sessions"] = []
        for number, one in enumerate(sessions.values()):
            own, of_session = _contents(one)
            metadata["sessions"].append(of_session)
            arrays |= {f"session.{number}.{name}": value.copy() for name, value in own.items()}
        metadata["alignments"] = {name: asdict(one) for name, one in getattr(model, "alignments_", {}).items()}
    if model.view_ is not None:
        second, metadata["view"] = _contents(model.view_)
        arrays |= {f"view.{name}": value for name, value in second.items()}
    save_folder(path, "model", arrays, metadata, overwrite)


def _contents(model: KalmanSSL) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a model, and what is known about its data."""
    arrays = {f"model.{name}": value.numpy() for name, value in model.model_.state_dict().items()}
    arrays |= {"feature_mean": model.feature_mean_, "feature_scale": model.feature_scale_}
    data = {
        "n_features": model.n_features_in_,
        "unit_ids": list(model.unit_ids_),
        "session": getattr(model, "sessions_", ("",))[0],
        "bin_size_s": model.bin_size_,
        "normalize": model.normalize_,
        "bins_per_step": model.bins_per_step_,
        "window": model.window_,
    }
    return arrays, data


def _settings(model: KalmanSSL) -> dict[str, Any]:
    """Return the parameters as JSON types; of an encoder, only the name of its class."""
    settings = model.get_params(deep=False)
    encoder = settings.pop("encoder")
    settings["custom_encoder"] = None if encoder is None else type(encoder).__qualname__
    settings["hidden"] = list(model.hidden)
    if not isinstance(model.entropy, str):
        raise InputError(
            f"a custom entropy estimator cannot be saved, got {model.entropy!r}: use a name", parameter="entropy"
        )
    period: Any = model.behavior_period
    is_scalar = period is None or np.isscalar(period)
    settings["behavior_period"] = period if is_scalar else [None if one is None else float(one) for one in period]
    settings["random_state"] = model.random_state if isinstance(model.random_state, int | None) else None
    settings["checkpoint_dir"] = None
    return settings
