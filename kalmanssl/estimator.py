"""`KalmanSSL`: the whole model behind the conventions of scikit-learn."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from kalmanssl.data import Covariances, Latents, Recording
from kalmanssl.entropy import EntropyEstimator, make_entropy
from kalmanssl.errors import InputError
from kalmanssl.models import LDM, KalmanPredictor, SequenceModel
from kalmanssl.networks import NoiseHead, WindowEncoder, check_encoder, make_noise
from kalmanssl.training import (
    TrainingSettings,
    WindowBatches,
    WindowSettings,
    deinterleave,
    hold_out_blocks,
    interleave,
    sum_bins,
    train,
)
from kalmanssl.utils.storage import load_folder, save_folder

__all__ = ["KalmanSSL"]

PER_BIN = ("mean", "latent", "noise", "log_likelihood")
COUNT_NORMALIZATIONS = ("cosine", "sqrt")
NORMALIZATIONS = ("auto", *COUNT_NORMALIZATIONS, "standardize", "none")


class KalmanSSL(TransformerMixin, BaseEstimator):
    """Latent dynamics without labels: an encoder, and behind it a Kalman filter whose noise may depend on the input.

    The encoder turns every bin into a latent vector; the filter predicts each from those before it. Training matches
    the latents to what the filter expects and keeps them spread out (latent distribution matching, arXiv 2605.03517).

    Parameters
    ----------
    latent_dim : int
        Size of the encoder's output. More keep more of the activity; 8 to 32 suit a hundred units.
    state_dim : int
        Size of the filter's state, at least `latent_dim`; the surplus are hidden coordinates such as velocities.
    encoder : nn.Module, optional
        A module of your own that maps (batch, time, features) to (batch, time, latent_dim). By default a perceptron
        with layers of `hidden` units.
    encoder_window : int
        Bins that the perceptron sees, the present and those before it. 1 leaves the smoothing to the filter, which
        knows how noisy each bin is.
    hidden : tuple of int
        Widths of the perceptron's hidden layers.
    normalize : {"auto", "cosine", "sqrt", "standardize", "none"}
        What is done to the data first. "cosine" takes the square root of counts and divides each bin by its norm;
        "standardize" brings every feature to mean zero and variance one. "auto" is "cosine" for counts and
        "standardize" for any other signal.
    unit_dropout : float
        Probability that a unit is silenced for the whole of a training window, 0 to below 1.
    noise : {"constant", "input", "variance-network", "state", "errors"}
        What the observation noise follows; "input" is a network of the bin's activity.
    process_noise : {"constant", "state", "errors"}
        What the process noise follows.
    entropy : {"logdet", "knn", "kde", "stopgrad"} or an estimator
        How the spread of the latents is measured, see `kalmanssl.entropy`.
    mutual_information : bool
        Also maximize the information between past and present. False is the plain matching; "stopgrad" needs it.
    bins_per_step : int
        Bins that the filter advances by, with the activity summed over them. Longer steps hold more spikes and show the
        dynamics better; filters that interleave still give a posterior at every bin.
    window : int
        Bins per training window.
    batch_size : int
        Windows per training step.
    activity_sampling_power : float
        Windows are drawn in proportion to their mean spike count to this power, so that training sees more of the time
        when cells are active; 0 draws evenly, as is done for signals that are not counts.
    epochs, steps_per_epoch : int
        Length of the training; the held-out blocks are scored after every epoch.
    learning_rate : float
        Peak learning rate of the encoder.
    dynamics_lr_factor, noise_lr_factor : float
        Rates of the dynamics and of noise networks, as multiples of `learning_rate`.
    weight_decay : float
        Decoupled weight decay of the encoder and of noise networks.
    gradient_clip : float
        Largest norm of the gradient.
    validation_fraction : float
        Share of the time held out, in five blocks, to choose the best epoch; 0 keeps the last one.
    patience : int
        Epochs without a better held-out score before training stops.
    checkpoint_dir : path, optional
        Where checkpoints are kept, so that ``fit(..., resume=True)`` can go on after an interrupt.
    device : str
        Device to train on: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".
    progress : bool
        Show a progress bar on standard error.
    random_state : int, RandomState or None
        Seed; the same one on the same machine gives the same model.

    Attributes
    ----------
    model_ : kalmanssl.models.SequenceModel
    history_ : dict of lists
        One entry per epoch: loss and its two terms, in nats per bin, on the training and on the held-out part; scale
        and effective dimension of the latents; spectral radius of `A`.
    n_features_in_ : int
    unit_ids_ : tuple of str
        Units of the recording it was fitted on; empty if fitted on an array.
    bin_size_ : float
        Seconds; NaN if fitted on an array.
    """

    def __init__(
        self,
        latent_dim: int = 32,
        state_dim: int = 64,
        *,
        encoder: nn.Module | None = None,
        encoder_window: int = 1,
        hidden: Sequence[int] = (256,),
        normalize: str = "auto",
        unit_dropout: float = 0.3,
        noise: str = "constant",
        process_noise: str = "constant",
        entropy: str | EntropyEstimator = "logdet",
        mutual_information: bool = True,
        bins_per_step: int = 4,
        window: int = 100,
        batch_size: int = 128,
        activity_sampling_power: float = 2.0,
        epochs: int = 8,
        steps_per_epoch: int = 25,
        learning_rate: float = 2e-3,
        dynamics_lr_factor: float = 10.0,
        noise_lr_factor: float = 1.0,
        weight_decay: float = 0.0,
        gradient_clip: float = 10.0,
        validation_fraction: float = 0.1,
        patience: int = 10,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        progress: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.state_dim = state_dim
        self.encoder = encoder
        self.encoder_window = encoder_window
        self.hidden = hidden
        self.normalize = normalize
        self.unit_dropout = unit_dropout
        self.noise = noise
        self.process_noise = process_noise
        self.entropy = entropy
        self.mutual_information = mutual_information
        self.bins_per_step = bins_per_step
        self.window = window
        self.batch_size = batch_size
        self.activity_sampling_power = activity_sampling_power
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.learning_rate = learning_rate
        self.dynamics_lr_factor = dynamics_lr_factor
        self.noise_lr_factor = noise_lr_factor
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.progress = progress
        self.random_state = random_state

    def fit(self, X: Recording | np.ndarray, y: Any = None, *, resume: bool = False) -> Self:
        """Fit the encoder and the dynamics.

        Parameters
        ----------
        X : Recording, or array (time, features) without gaps
        y : ignored
        resume : bool
            Go on from the last checkpoint in `checkpoint_dir`, after an interrupt.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If the data or a parameter cannot be used; the message says which and why.
        CollapseError, DivergenceError
            If training fails; the estimator then holds the last good weights.
        KeyboardInterrupt
            On Ctrl-C; the estimator then holds the last good weights.
        """
        stretches, _ = self._stretches(X, fitting=True)
        parameters = self.get_params(deep=False)
        settings = TrainingSettings(**{n: parameters[n] for n in _names(TrainingSettings) if n in parameters})
        windows = WindowSettings(**{n: parameters[n] for n in _names(WindowSettings)})
        if self.normalize_ not in COUNT_NORMALIZATIONS:
            windows = replace(windows, activity_sampling_power=0.0)
        training, held_out = (
            [self._summed(stretch) for stretch in part]
            for part in hold_out_blocks(stretches, self.validation_fraction, self.window)
        )
        if resume and self.checkpoint_dir is None:
            raise InputError("resume=True needs the checkpoint_dir of the fit that was interrupted")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model_ = self._build()
            self._kept: dict[str, Any] = {}
            sample = torch.from_numpy(np.concatenate(training)).float()[None, ::7]
            self.model_.standardize_latents(sample)
            self.history_: dict[str, list[float]] = {}
            train(
                self.model_,
                WindowBatches(training, held_out, windows, seed),
                settings,
                self.history_,
                seed=seed,
                device=self.device,
                checkpoint_dir=None if self.checkpoint_dir is None else Path(self.checkpoint_dir),
                resume=resume,
                progress=self.progress,
            )
        return self

    def transform(self, X: Recording | np.ndarray, smooth: bool = False) -> Latents:
        """Posterior over the latent state at every bin.

        Parameters
        ----------
        X : Recording, or array (time, features) without gaps
            Each contiguous stretch is filtered on its own.
        smooth : bool
            False: given the past and the present (the forward filter). True: given the whole stretch.

        Returns
        -------
        Latents
            `numpy.asarray` of it is the posterior mean (time, state).

        Raises
        ------
        InputError
            If the units or the bin size are not those of the fit.
        """
        check_is_fitted(self, "model_")
        stretches, time = self._stretches(X, fitting=False)
        parts = [self._infer(stretch, smooth) for stretch in stretches]
        return Latents(
            **{name: np.concatenate([part[name] for part in parts]) for name in PER_BIN},
            covariances=Covariances.concatenate([part["covariances"] for part in parts]),
            time=time,
            segment=np.repeat(np.arange(len(stretches)), [len(s) for s in stretches]),
            smoothed=smooth,
        )

    def score(self, X: Recording | np.ndarray, y: Any = None) -> float:
        """Value of the objective on `X`, nats per bin; larger is better.

        With mutual information this is a lower bound of what the past tells about the present, zero at chance.
        """
        check_is_fitted(self, "model_")
        stretches, _ = self._stretches(X, fitting=False)
        model = copy.deepcopy(self.model_).eval()
        longest = max(stretches, key=len)
        with torch.no_grad():
            return -float(model.terms(self._sequences(longest).float()).loss)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Save as a folder of weights (safetensors) and JSON metadata; no code is stored.

        Raises
        ------
        InputError
            If `path` exists and `overwrite` is false, or cannot be written.
        """
        check_is_fitted(self, "model_")
        arrays = {f"model.{name}": value.numpy() for name, value in self.model_.state_dict().items()}
        arrays |= {"feature_mean": self.feature_mean_, "feature_scale": self.feature_scale_}
        metadata = {
            "settings": self._settings(),
            "data": {
                "n_features": self.n_features_in_,
                "unit_ids": list(self.unit_ids_),
                "bin_size_s": self.bin_size_,
                "normalize": self.normalize_,
            },
            "history": self.history_,
        }
        save_folder(path, "model", arrays, metadata, overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], encoder: nn.Module | None = None) -> Self:
        """Open what `save` wrote.

        Parameters
        ----------
        path : path
        encoder : nn.Module, optional
            Needed if the model was fitted with an encoder of your own: the folder holds its weights, not its code.

        Raises
        ------
        InputError
            If the folder is missing, incomplete or damaged, or the encoder does not fit the weights.
        """
        arrays, metadata = load_folder(path, "model")
        settings, data = metadata["settings"], metadata["data"]
        own = settings.pop("own_encoder")
        if own and encoder is None:
            raise InputError(f"{path} was fitted with an encoder of type {own}: pass one as encoder=")
        if encoder is not None and not own:
            raise InputError(f"{path} was fitted with the built-in encoder: load it without encoder=")
        self = cls(**settings, encoder=encoder)
        self.n_features_in_ = data["n_features"]
        self.unit_ids_ = tuple(data["unit_ids"])
        self.bin_size_ = data["bin_size_s"]
        self.normalize_ = data["normalize"]
        self.feature_mean_ = arrays["feature_mean"]
        self.feature_scale_ = arrays["feature_scale"]
        self.history_ = metadata["history"]
        self.model_, self._kept = self._build(), {}
        weights = {k.removeprefix("model."): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("model.")}
        try:
            self.model_.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(
                f"the weights in {path} do not fit the model: {str(error).splitlines()[-1].strip()}"
            ) from error
        return self

    def _settings(self) -> dict[str, Any]:
        """Parameters as JSON types. Objects that are code (an encoder, an estimator) are named, not stored."""
        settings = self.get_params(deep=False)
        encoder = settings.pop("encoder")
        settings["own_encoder"] = None if encoder is None else type(encoder).__qualname__
        settings["hidden"] = list(self.hidden)
        if not isinstance(self.entropy, str):
            raise InputError(f"an entropy estimator of your own cannot be saved, got {self.entropy!r}: use its name")
        settings["random_state"] = self.random_state if isinstance(self.random_state, int | None) else None
        settings["checkpoint_dir"] = None
        return settings

    def _stretches(self, X: Any, fitting: bool) -> tuple[list[np.ndarray], np.ndarray]:
        """Check the data; return its contiguous stretches (time, features), normalized, and the time of every bin."""
        if isinstance(X, Recording):
            if fitting:
                self.unit_ids_, self.bin_size_, self.n_features_in_ = X.unit_ids, X.bin_size, X.n_units
                is_counts = X.kind == "counts"
            values = self._units_as_fitted(X)
            segments, time = X.segments(), X.time
        else:
            values = validate_data(self, X, reset=fitting, dtype=[np.float32, np.float64], ensure_min_samples=2)
            if fitting:
                self.unit_ids_, self.bin_size_ = (), float("nan")
                is_counts = bool((values >= 0).all() and (values == np.round(values)).all())
            step = 1.0 if np.isnan(self.bin_size_) else self.bin_size_
            segments, time = [slice(0, len(values))], step * np.arange(len(values))
        if fitting:
            self._fit_normalization(values, is_counts)
        if self.normalize_ == "standardize":
            values = (values - self.feature_mean_) / self.feature_scale_
        return [np.asarray(values[s], dtype=np.float32) for s in segments], time

    def _units_as_fitted(self, recording: Recording) -> np.ndarray:
        """Counts with the units in the order of the fit."""
        if not self.unit_ids_:
            if recording.n_units != self.n_features_in_:
                raise InputError(
                    f"fitted on {self.n_features_in_} features, the recording has {recording.n_units} units"
                )
            return recording.activity
        if not np.isclose(recording.bin_size, self.bin_size_):
            raise InputError(
                f"fitted on bins of {self.bin_size_:g} s, the recording has bins of {recording.bin_size:g} s"
            )
        if recording.unit_ids == self.unit_ids_:
            return recording.activity
        column = {unit: i for i, unit in enumerate(recording.unit_ids)}
        missing = [unit for unit in self.unit_ids_ if unit not in column]
        surplus = [unit for unit in recording.unit_ids if unit not in self.unit_ids_]
        if missing or surplus:
            said = [
                f"{len(units)} {word} ({_some(units)})"
                for word, units in (("missing", missing), ("unknown", surplus))
                if units
            ]
            raise InputError(
                f"the recording {recording.source} has other units than the fit: {', '.join(said)}; "
                "read it with the units that the model was fitted on"
            )
        return recording.activity[:, [column[unit] for unit in self.unit_ids_]]

    def _fit_normalization(self, values: np.ndarray, is_counts: bool) -> None:
        if self.normalize not in NORMALIZATIONS:
            raise InputError(f"normalize must be one of {', '.join(NORMALIZATIONS)}, got {self.normalize!r}")
        self.normalize_ = ("cosine" if is_counts else "standardize") if self.normalize == "auto" else self.normalize
        if self.normalize_ in COUNT_NORMALIZATIONS and (values < 0).any():
            raise InputError(f"normalize={self.normalize_!r} is for counts, but the data go down to {values.min():g}")
        self.feature_mean_ = values.mean(0, dtype=np.float64)
        spread = values.std(0, dtype=np.float64)
        self.feature_scale_ = np.where(spread > 0, spread, 1.0)

    def _build(self) -> SequenceModel:
        """Make the untrained model for the data seen in `fit`."""
        for name in ("latent_dim", "state_dim", "encoder_window", "bins_per_step"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
        is_counts = self.normalize_ in COUNT_NORMALIZATIONS
        if self.encoder is None:
            encoder: nn.Module = WindowEncoder(
                self.n_features_in_,
                self.latent_dim,
                self.encoder_window,
                self.hidden,
                transform="sqrt" if is_counts else "none",
                unit_norm=self.normalize_ == "cosine",
                unit_dropout=self.unit_dropout,
            )
        else:
            encoder = copy.deepcopy(self.encoder)
            check_encoder(encoder, self.n_features_in_, self.latent_dim)
        predictor = KalmanPredictor(
            self.latent_dim,
            self.state_dim,
            self._noise_head(self.noise, self.latent_dim, is_counts),
            self._noise_head(self.process_noise, self.state_dim, is_counts),
        )
        entropy = make_entropy(self.entropy)
        return SequenceModel(encoder, predictor, LDM(entropy, self.mutual_information))

    def _noise_head(self, name: str, dim: int, is_counts: bool) -> NoiseHead:
        settings: dict[str, Any] = {
            "input": {"in_features": self.n_features_in_, "transform": "sqrt" if is_counts else "none"},
            "variance-network": {"in_features": self.n_features_in_},
            "state": {"state_dim": self.state_dim},
            "errors": {"latent_dim": self.latent_dim},
        }
        return make_noise(name, dim=dim, **settings.get(name, {}))

    def _summed(self, stretch: np.ndarray, centered: bool = False) -> np.ndarray:
        """What the encoder sees of every bin: counts summed over the bins of a step, or the mean of a signal.

        The step ends at the bin, so that nothing is seen before its time, or is centered on it for the smoother.
        """
        summed = sum_bins(stretch, self.bins_per_step, ahead=(self.bins_per_step - 1) // 2 if centered else 0)
        return summed if self.normalize_ in COUNT_NORMALIZATIONS else summed / self.bins_per_step

    def _sequences(self, stretch: np.ndarray, centered: bool = False) -> torch.Tensor:
        """A stretch (time, features) as the interleaved sequences (sequences, steps, features) that are filtered."""
        return torch.from_numpy(interleave(self._summed(stretch, centered), self.bins_per_step))

    def _inference(self) -> SequenceModel:
        """The model in float64, kept until a weight changes."""
        version = tuple((id(p), p._version) for p in self.model_.parameters())
        if self._kept.get("version") != version:
            self._kept |= {"version": version, "inference": copy.deepcopy(self.model_).double().eval()}
        return self._kept["inference"]

    def _infer(self, stretch: np.ndarray, smooth: bool) -> dict[str, Any]:
        model = self._inference()
        features = self._sequences(stretch, centered=smooth)
        with torch.no_grad():
            latent = model.encoder(features)
            posterior = model.predictor.posterior(latent, features, smooth)
        per_bin = {
            "mean": posterior.mean,
            "latent": latent,
            "noise": posterior.noise,
            "log_likelihood": posterior.log_likelihood,
            "index": posterior.cov_index,
        }
        arrays = {name: deinterleave(value.numpy(), len(stretch)) for name, value in per_bin.items()}
        return arrays | {"covariances": Covariances(posterior.covs.float().numpy(), arrays.pop("index"))}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags


def _names(settings: type[TrainingSettings | WindowSettings]) -> list[str]:
    return [f.name for f in fields(settings)]


def _some(names: Sequence[str], most: int = 5) -> str:
    """Say the first few names of a list."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
