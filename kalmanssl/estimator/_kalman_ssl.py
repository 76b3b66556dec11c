"""`KalmanSSL`: encoder, Kalman filter and training as one estimator of scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from kalmanssl.entropy import EntropyEstimator
from kalmanssl.estimator._behavior import prepare_behavior, uses_behavior
from kalmanssl.estimator._fit_data import FitData
from kalmanssl.estimator._fitting import fit_model
from kalmanssl.estimator._forecast import ForecastMixin
from kalmanssl.estimator._inference import LatentTransformer, infer_prepared
from kalmanssl.estimator._inputs import InterleavedActivity
from kalmanssl.estimator._loading import load_model
from kalmanssl.estimator._model import objective_per_bin
from kalmanssl.estimator._online import OnlineFilter
from kalmanssl.estimator._parameters import check_parameters
from kalmanssl.estimator._saving import save_model
from kalmanssl.estimator._segments import prepare
from kalmanssl.estimator._view import prepare_view
from kalmanssl.estimator.sessions import SessionsMixin, fit_sessions, group_sessions, session_features, session_name
from kalmanssl.utils.validation import check_condition

__all__ = ["KalmanSSL"]


class KalmanSSL(SessionsMixin, ForecastMixin, LatentTransformer, BaseEstimator):
    """Latent dynamics fitted without labels: an encoder followed by a Kalman filter whose noise may depend on the data.

    The encoder maps every bin to a latent vector, and the filter predicts each latent from those before it. Training
    maximizes the log-density of the latents under the filter plus their entropy (latent distribution matching, arXiv
    2605.03517). By default the encoder has a linear path, which starts at the components of the activity that the past
    predicts best, and the dynamics start at the autocovariance of these components. Coordinates are scaled so that the
    variance of the noise of the activity is the same in all of them. Components with a clear signal then have a large
    variance, and dominate the distances between latents.

    Parameters
    ----------
    latent_dim : int
        Size of the encoder's output. More dimensions keep more information about the activity; 8 to 32 suit a hundred
        units.
    state_dim : int
        Size of the filter's state, at least `latent_dim`. The encoder does not observe the additional coordinates, such
        as velocities.
    encoder : nn.Module, optional
        A module that maps (batch, time, features) to (batch, time, latent_dim); a copy is trained in single precision.
        By default a linear map plus a perceptron with hidden layers of `hidden` units (`networks.ResidualEncoder`).
    encoder_window : int
        Bins that the encoder receives: the present one and those before it. 1 leaves the smoothing to the filter,
        which models the noise of each bin.
    hidden : tuple of int
        Widths of the perceptron's hidden layers.
    normalize : {"auto", "cosine", "sqrt", "standardize", "none"}
        Normalization of the data. "cosine" takes the square root of counts and divides each bin by its norm;
        "sqrt" only takes the square root; "standardize" brings every feature to mean zero and variance one. "auto" is
        "cosine" for counts and "standardize" for any other signal.
    unit_dropout : float
        Probability that a unit is set to zero for a whole training window, 0 to below 1.
    noise : {"constant", "activity", "input", "state", "errors"}
        What the variance of the observation noise depends on: nothing, the total activity of the bin, all features of
        the bin, the predicted state, or recent prediction errors (`kalmanssl.networks.make_noise`). Noise that varies
        stays within a factor of ten of a constant. It is fitted in the second stage, and it stays constant if held-out
        latents are not more likely. The posterior covariance then differs between bins, so that inference takes longer
        and needs more memory.
    process_noise : {"constant", "activity", "input", "state", "errors"}
        What the variance of the process noise depends on.
    noise_epochs : int
        Epochs of the second stage. It keeps the encoder fixed, and fits the dynamics and the noise to the latents by
        maximum likelihood (to those of all sessions, or of both views). The result is kept if held-out latents are more
        likely. Constant noise has no second stage if nothing is held out. With 0 there is no second stage, as in the
        paper. Noise that varies is then trained together with the encoder, and the encoder can learn latents that
        the input of the noise head predicts.
    entropy : {"logdet", "knn", "kde", "stopgrad"} or an estimator
        Estimator of the entropy of the latents, see `kalmanssl.entropy`.
    mutual_information : bool
        True: maximize the mutual information between past and present, too. False: only match the distribution of the
        latents to the filter's; required by "stopgrad".
    behavior_weight : float
        Weight of the behavior in the objective. 0: latents are fitted without it, and `fit` ignores `y`. With a
        positive weight the objective also has the mean log-density of the behavior given the filtered state, in nats
        per step. A small readout gives this density; it is trained with the model and then dropped. Latents of few
        dimensions then contain the behavior even if few units have it. The training part is decoded more accurately
        from such latents than new data, so use `cross_fit(model, X, y=y)` for the calibration of a decoder.
    behavior_period : float or sequence of float or None, optional
        Period of circular behavior, one per dimension (None for dimensions that are not circular).
    bins_per_step : int or "auto"
        Bins that the filter advances by, with the activity summed over them. Longer steps contain more spikes and show
        the dynamics better. One filter runs at each offset, so that there is still a posterior at every bin. "auto"
        chooses steps of about 100 ms, and of about 200 ms if an average step of 100 ms has fewer than 10 events in all
        units together and fewer than 0.2 in each. For an array it is 4.
    window : int
        Largest number of bins per training window. Windows have no gaps, so they are shorter if a recording in pieces
        has too few segments of this length (see `window_`).
    batch_size : int
        Windows per training step.
    activity_sampling_power : float
        Windows are drawn with a probability proportional to this power of their mean spike count, so that training uses
        more of the time when cells are active. 0 draws uniformly; other signals than counts are always drawn uniformly.
    epochs, steps_per_epoch : int
        Length of the training; the held-out blocks are scored after every epoch.
    learning_rate : float
        Peak learning rate of the encoder.
    dynamics_lr_factor, noise_lr_factor : float
        Learning rates of the dynamics and of noise networks, as multiples of `learning_rate`.
    weight_decay : float
        Decoupled weight decay of the encoder and of noise networks.
    gradient_clip : float
        Largest norm of the gradient.
    validation_fraction : float
        Fraction of the time that is held out, in five blocks, to choose the best epoch; 0 keeps the last epoch.
    patience : int
        Epochs without a better held-out score before training stops.
    checkpoint_dir : path, optional
        Folder of the checkpoints, from which ``fit(..., resume=True)`` continues after an interrupt.
    device : str
        Device to train on: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps". To train on several
        devices, start the script with one process per device: ``torchrun --nproc-per-node N script.py``.
    progress : bool
        Show a progress bar on standard error.
    random_state : int, RandomState, Generator or None
        Seed; the same one on the same machine gives the same model. Each fit draws from a RandomState or a Generator.

    Attributes
    ----------
    model_ : kalmanssl.models.SequenceModel
    history_ : dict of lists
        One entry per epoch: `loss`, `alignment` and `entropy`, the same on the held-out part, `held_out_score` and its
        standard error over blocks of time `held_out_score_error` (of two or more), all in nats per bin (see
        `score`); with a `behavior_weight` also `behavior`, the mean log-density of the behavior,
        and `held_out_behavior`; scale and effective dimension of the latents; spectral radius of `A`.
    view_ : KalmanSSL or None
        The model of the second view, with the same dynamics; None without a second view.
    noise_history_ : dict of lists
        The same for the second stage; empty without one. The entropy is not computed.
    n_features_in_ : int
    unit_ids_ : tuple of str
        Units of the recording it was fitted on; empty if fitted on an array.
    bin_size_ : float
        Seconds; NaN if fitted on an array.
    normalize_ : str
        The normalization that is used.
    bins_per_step_ : int
        The number of bins per step that is used.
    window_ : int
        Bins per training window that were used: as many as possible, at most `window`, such that the segments of at
        least this length have 90 % of the bins. Shorter segments are not used for training; `transform` infers their
        latents like any others.
    feature_mean_, feature_scale_ : (features,)
        Mean and standard deviation of the features.
    sessions_ : tuple of str
        Names of the sessions; the name of a single session can be "". With several sessions, `n_features_in_`,
        `unit_ids_`, `feature_mean_` and `feature_scale_` are attributes of ``session(name)``.
    alignments_ : dict of SessionAlignment
        How well the sessions of `align_session` are aligned.
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
        noise_epochs: int = 4,
        entropy: str | EntropyEstimator = "logdet",
        mutual_information: bool = True,
        behavior_weight: float = 0.0,
        behavior_period: float | Sequence[float | None] | None = None,
        bins_per_step: int | str = "auto",
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
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
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
        self.noise_epochs = noise_epochs
        self.entropy = entropy
        self.mutual_information = mutual_information
        self.behavior_weight = behavior_weight
        self.behavior_period = behavior_period
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

    def fit(self, X: Any, y: Any = None, *, view: Any = None, resume: bool = False) -> Self:
        """Fit the encoder and the dynamics.

        With a second `view` of the same bins, such as LFP power or features of a video beside spikes, each view has its
        own encoder into one latent space with one dynamics, and the past of each view predicts the present of the other
        (`kalmanssl.models.TwoViewModel`). The latents then have the dynamics that both views share, and not those of
        one view alone. `transform(X)` infers latents from the first view, and `view_`, an estimator like this one, from
        the second: ``model.view_.transform(Y)``.

        Parameters
        ----------
        X : Recording, object of pynapple, array (time, features) without gaps, or a list of these (trials)
            Training windows and filters do not cross gaps or the borders of trials, which can differ in length. Spike
            times (`TsGroup`) are counted in bins of 25 ms; `Recording.from_pynapple` takes other bin sizes. Recordings
            with different names in `Recording.session` are sessions, with other units: each has its own encoder, and
            all have the same dynamics.
        y : (time,) or (time, dims), name of a behavior, Tsd, TsdFrame or IntervalSet, or a list of these, optional
            Behavior of every bin (NaN where it is unknown) or labels (None or ""); for trials a list. A name selects a
            behavior of the recording. Series of pynapple are interpolated to the bins. Each filter step predicts the
            behavior of its last bin. With one session it is ignored if `behavior_weight` is 0. With several, it only
            says which times of the sessions correspond; without it, they are matched by their latents alone, which can
            fail (`align_session`).
        view : as X, optional
            A second view of the same bins. It is normalized as with ``normalize="auto"``, and the noise of the model
            must be constant.
        resume : bool
            Continue from the last checkpoint in `checkpoint_dir`, after an interrupt.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If the data or a parameter cannot be used, or the data are too few; the message says which and why.
        CollapseError, DivergenceError
            If training fails; the estimator then holds the last good weights.
        KeyboardInterrupt
            On Ctrl-C; the estimator then holds the last good weights.
        """
        check_parameters(self, resume)
        sessions = group_sessions(X)
        if sessions is not None:
            check_condition("view", view, view is None, "None with several sessions")
            fit_sessions(self, sessions, None if y is None else session_features(X, y, self.behavior_period), resume)
            return self
        self.sessions_, self.session_models_ = (session_name(X),), {}
        prepared, with_behavior = prepare(self, X, fitting=True), uses_behavior(self)
        behavior = prepare_behavior(self, X, y, prepared) if with_behavior else None
        self.view_: KalmanSSL | None = None
        second = None if view is None else prepare_view(self, view, prepared)
        fit_model(self, FitData(prepared.segments, behavior, second), resume)
        return self

    def online(self, encoder_memory: int | None = None) -> OnlineFilter:
        """Return a filter that takes one bin after another, with the same results as `transform`.

        Parameters
        ----------
        encoder_memory : int, optional
            Filter steps that a custom encoder receives at once, the present one included. By default it is found by
            trials. The built-in encoder receives `encoder_window` steps.

        Raises
        ------
        InputError
            If a custom encoder uses later steps, or more than 64 earlier ones without a given `encoder_memory`.
        """
        check_is_fitted(self, "model_")
        self._require_one_session("online")
        return OnlineFilter(self, encoder_memory)

    def score(self, X: Any, y: Any = None) -> float:
        """Compute the objective on all segments of `X`, in nats per bin; larger is better.

        The objective is the mean log-density of the latents given their past (alignment), over all bins of all
        segments, plus the entropy of the latents of all bins together. A filter step covers `bins_per_step` bins, so a
        bin's share is the objective per step divided by `bins_per_step`. The total over the bins of a segment is then
        the objective of one of its interleaved sequences (their average), and scores of models with different
        `bins_per_step` can be compared.

        With mutual information the score is a lower bound on the information that the past has about the present,
        and zero at chance. It is always zero with entropy="stopgrad", which equals minus the alignment.

        Parameters
        ----------
        X : as in `transform`

        Raises
        ------
        InputError
            If the units or the bin size are not those of the fit, or there are too few bins to estimate the entropy.
        """
        check_is_fitted(self, "model_")
        if self._has_sessions:
            return self._score_of_sessions(X)
        latents = infer_prepared(self, prepare(self, X, fitting=False))
        return objective_per_bin(latents, self.model_.objective, self.bins_per_step_)

    def encoder_input(self, X: Any) -> list[torch.Tensor]:
        """Return the input of `model_` for each contiguous segment of `X`, (bins_per_step, steps, features) float64.

        The first axis are the interleaved sequences: sequence i has the steps that end at bins i, i + bins_per_step, ….
        Zeros are added before a segment whose length is not a multiple of `bins_per_step`.
        """
        check_is_fitted(self, "model_")
        self._require_one_session("encoder_input")
        segments = prepare(self, X, fitting=False).segments
        return [InterleavedActivity(s, self.bins_per_step_, self.normalize_).steps() for s in segments]

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Save as a folder of weights (safetensors) and JSON metadata; no code is stored.

        Raises
        ------
        InputError
            If `path` exists and `overwrite` is false, or cannot be written.
        """
        check_is_fitted(self, "model_")
        save_model(self, path, overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], encoder: nn.Module | None = None) -> Self:
        """Load a model from the folder that `save` wrote.

        Parameters
        ----------
        path : path
        encoder : nn.Module, optional
            Needed if the model was fitted with a custom encoder: the folder contains its weights, not its code.

        Raises
        ------
        InputError
            If the folder is missing, incomplete or damaged, or the encoder does not fit the weights.
        """
        return load_model(cls, path, encoder)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags
