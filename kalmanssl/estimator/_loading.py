"""Loading of `KalmanSSL` from a folder; everything in the folder is checked before it is used."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from kalmanssl.errors import InputError
from kalmanssl.estimator._inputs import NORMALIZATIONS
from kalmanssl.estimator._memory import count_weights
from kalmanssl.estimator._model import build_model
from kalmanssl.estimator._parameters import check_parameters
from kalmanssl.estimator._view import share_dynamics, unfitted_view
from kalmanssl.estimator.sessions import SessionAlignment, set_sessions
from kalmanssl.models import SharedDynamicsModel
from kalmanssl.utils.module_io import check_weights
from kalmanssl.utils.paths import as_path
from kalmanssl.utils.storage import METADATA, WEIGHTS, load_folder, without_prefix
from kalmanssl.utils.stored_values import StoredValues, check_finite, is_number

if TYPE_CHECKING:
    from pathlib import Path

    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["load_model"]

Model = TypeVar("Model", bound="KalmanSSL")

# Settings on which the latents of a fitted model depend; earlier versions may not have the others.
_REQUIRED = (
    "latent_dim", "state_dim", "hidden", "encoder_window", "normalize", "bins_per_step", "window", "noise",
    "process_noise", "entropy", "mutual_information",
)  # fmt: skip


def load_model(cls: type[Model], path: str | os.PathLike[str], encoder: nn.Module | None) -> Model:
    """Return the fitted model that `save_model` wrote to the folder `path`.

    Raises
    ------
    InputError
        If the folder or a file in it is missing or damaged, `encoder` is missing or does not fit, or the model needs
        more memory than is available.
    """
    arrays, metadata = load_folder(path, "model")
    folder = as_path("path", path)
    check_finite(arrays, folder / WEIGHTS, "model")
    stored = StoredValues(metadata, folder / METADATA, "model")
    model = _unfitted(cls, stored, path, encoder)
    model.history_ = stored.numbers_by_name("history")
    model.noise_history_ = stored.numbers_by_name("noise_history") if "noise_history" in stored else {}
    model.view_ = None
    if "sessions" in stored:
        _load_sessions(model, arrays, stored, folder)
        return model
    _set_contents(model, arrays, stored.group("data"), folder)
    if "view" in stored:
        view = model.view_ = unfitted_view(model)
        view.history_, view.noise_history_ = model.history_, {}
        _set_contents(view, without_prefix(arrays, "view."), stored.group("view"), folder)
        share_dynamics(model, view)
    return model


def _unfitted(cls: type[Model], stored: StoredValues, path: Any, encoder: nn.Module | None) -> Model:
    """Return an estimator with the stored settings."""
    found = stored.group("settings")
    custom = found.get("custom_encoder", lambda value: value is None or isinstance(value, str), "text or null")
    if custom and encoder is None:
        raise InputError(
            f"{path} was fitted with an encoder of type {custom!r:.80}: pass one as encoder=", parameter="encoder"
        )
    if encoder is not None and not custom:
        raise InputError(f"{path} was fitted with the built-in encoder: load it without encoder=", parameter="encoder")
    settings = {name: value for name, value in found.values.items() if name != "custom_encoder"}
    known = set(cls().get_params(deep=False)) - {"encoder"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise stored.error("settings", f"parameters of {cls.__name__}", unknown[0])
    missing = [name for name in _REQUIRED if name not in settings]
    if missing:
        raise stored.error("settings", f"complete, but {missing[0]} is missing", sorted(settings))
    # Nothing is written when a model is loaded, so a folder in its settings is not used.
    model = cls(**{**settings, "checkpoint_dir": None}, encoder=encoder)
    try:
        check_parameters(model)
    except InputError as error:
        if error.parameter == "encoder":
            raise
        raise InputError(f"{path} is damaged ({error}): save the model again", parameter="path") from error
    return model


def _set_contents(model: KalmanSSL, arrays: dict[str, np.ndarray], data: StoredValues, folder: Path) -> None:
    """Set what is known about the data, and the weights, on a model that has its settings."""
    model.n_features_in_ = data.integer("n_features", 1)
    n_features = model.n_features_in_
    ids = data.texts("unit_ids")
    if ids and not len(ids) == len(set(ids)) == n_features:
        raise data.error("unit_ids", f"{n_features} different names", ids)
    model.unit_ids_ = tuple(ids)
    model.sessions_ = (data.text("session") if "session" in data else "",)
    model.bin_size_ = data.number("bin_size_s")
    if not (0 < model.bin_size_ < math.inf or (math.isnan(model.bin_size_) and not ids)):
        raise data.error("bin_size_s", "positive, or NaN for an array", model.bin_size_)
    model.normalize_ = data.choice("normalize", NORMALIZATIONS[1:])
    if model.normalize not in ("auto", model.normalize_):
        raise data.error("normalize", f"{model.normalize!r} as in the settings", model.normalize_)
    model.window_ = data.integer("window", 2, model.window) if "window" in data else model.window  # absent before 0.1
    model.bins_per_step_ = data.integer("bins_per_step", 1, max(1, model.window_ // 2))
    moments = StoredValues(arrays, folder / WEIGHTS, "model")
    model.feature_mean_, model.feature_scale_ = (
        moments.array(name, (n_features,)) for name in ("feature_mean", "feature_scale")
    )
    if not (model.feature_scale_ > 0).all():
        raise moments.error("feature_scale", "positive", model.feature_scale_)
    weights = {name: torch.from_numpy(value) for name, value in without_prefix(arrays, "model.").items()}
    # Building the model would allocate what the settings say, which the file may contradict.
    if count_weights(model) > 4 * sum(value.numel() for value in weights.values()) + 1000:
        raise InputError(
            f"{folder / WEIGHTS} has fewer weights than a model of latent_dim={model.latent_dim!r:.40} and "
            f"state_dim={model.state_dim!r:.40} with {n_features} features: save the model again",
            parameter="path",
        )
    model.model_ = build_model(model)
    check_weights(weights, model.model_.state_dict(), folder / WEIGHTS, "model", same_types=True)
    model.model_.load_state_dict(weights)


def _load_sessions(model: KalmanSSL, arrays: dict[str, np.ndarray], stored: StoredValues, folder: Path) -> None:
    """Set the attributes of a model of several sessions, whose dynamics are shared."""
    models: list[KalmanSSL] = []
    for number, data in enumerate(stored.groups("sessions")):
        one: KalmanSSL = clone(model)
        _set_contents(one, without_prefix(arrays, f"session.{number}."), data, folder)
        models.append(one)
    names = [one.sessions_[0] for one in models]
    if not names or len(set(names)) < len(names):
        raise stored.error("sessions", "sessions of different names", names)
    steps = {(one.bins_per_step_, one.window_, one.normalize_) for one in models}
    if len(steps) > 1:
        raise stored.error("sessions", "of the same bins_per_step, window and normalization", sorted(steps))
    first = models[0].model_
    shared = SharedDynamicsModel([one.model_.encoder for one in models], first.predictor, first.objective)
    history, noise_history = model.history_, model.noise_history_
    set_sessions(model, models, shared)
    model.history_, model.noise_history_ = history, noise_history
    alignments = stored.group("alignments")
    model.alignments_ = {str(name): _alignment(alignments.group(name)) for name in alignments.values}


def _alignment(values: StoredValues) -> SessionAlignment:
    """Return a stored alignment of a session."""
    found: dict[str, Any] = {}
    for one in fields(SessionAlignment):
        if one.name.startswith("fitted_"):
            group = values.group(one.name)
            found[one.name] = {str(name): group.number(name) for name in group.values}
        elif one.default is None:  # also absent from models that were saved before it existed
            found[one.name] = values.number(one.name) if values.values.get(one.name) is not None else None
        else:
            found[one.name] = values.get(one.name, is_number, "a number")
    return SessionAlignment(**found)
