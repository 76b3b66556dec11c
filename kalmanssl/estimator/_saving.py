"""Saving `KalmanSSL` as a folder of weights and metadata, and loading it."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from kalmanssl.errors import InputError
from kalmanssl.estimator._model import build_model
from kalmanssl.estimator._session_alignment import SessionAlignment
from kalmanssl.estimator._session_fit import set_sessions
from kalmanssl.estimator._view import share_dynamics, unfitted_view
from kalmanssl.models import SharedDynamicsModel
from kalmanssl.utils.storage import load_folder, save_folder

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["load_model", "save_model"]

Model = TypeVar("Model", bound="KalmanSSL")


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


def load_model(cls: type[Model], path: str | os.PathLike[str], encoder: nn.Module | None) -> Model:
    """Return the fitted model that `save_model` wrote to the folder `path`."""
    arrays, metadata = load_folder(path, "model")
    settings = metadata["settings"]
    custom = settings.pop("custom_encoder")
    if custom and encoder is None:
        raise InputError(
            f"{path} was fitted with an encoder of type {custom}: pass one as encoder=", parameter="encoder"
        )
    if encoder is not None and not custom:
        raise InputError(f"{path} was fitted with the built-in encoder: load it without encoder=", parameter="encoder")
    model = cls(**settings, encoder=encoder)
    model.history_ = metadata["history"]
    model.noise_history_ = metadata.get("noise_history", {})
    model.view_ = None
    if "sessions" in metadata:
        _load_sessions(model, arrays, metadata, path)
        return model
    _set_contents(model, arrays, metadata["data"], path)
    if "view" in metadata:
        view = model.view_ = unfitted_view(model)
        view.history_, view.noise_history_ = model.history_, {}
        second = {k.removeprefix("view."): v for k, v in arrays.items() if k.startswith("view.")}
        _set_contents(view, second, metadata["view"], path)
        share_dynamics(model, view)
    return model


def _set_contents(model: KalmanSSL, arrays: dict[str, np.ndarray], data: dict[str, Any], path: Any) -> None:
    """Set what `_contents` returned on a model that has its settings."""
    model.n_features_in_ = data["n_features"]
    model.unit_ids_ = tuple(data["unit_ids"])
    model.sessions_ = (data.get("session", ""),)
    model.bin_size_ = data["bin_size_s"]
    model.normalize_ = data["normalize"]
    model.bins_per_step_ = data["bins_per_step"]
    model.window_ = data.get("window", model.window)  # older folders do not have it
    model.feature_mean_ = arrays["feature_mean"]
    model.feature_scale_ = arrays["feature_scale"]
    model.model_ = build_model(model)
    weights = {k.removeprefix("model."): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("model.")}
    try:
        model.model_.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"the weights in {path} do not fit the model: {str(error).splitlines()[-1].strip()}", parameter="path"
        ) from error


def _load_sessions(model: KalmanSSL, arrays: dict[str, np.ndarray], metadata: dict[str, Any], path: Any) -> None:
    """Set the attributes of a model of several sessions, whose dynamics are shared."""
    models = []
    for number, data in enumerate(metadata["sessions"]):
        one = clone(model)
        start = f"session.{number}."
        _set_contents(one, {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}, data, path)
        models.append(one)
    first = models[0].model_
    shared = SharedDynamicsModel([one.model_.encoder for one in models], first.predictor, first.objective)
    set_sessions(model, models, shared)
    model.history_ = metadata["history"]
    model.alignments_ = {name: SessionAlignment(**values) for name, values in metadata["alignments"].items()}


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
