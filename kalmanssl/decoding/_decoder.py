"""The decoder of behavior from latents, with intervals that are calibrated on time it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from kalmanssl.data import Latents, behavior_at
from kalmanssl.decoding._adaptation import Adaptation
from kalmanssl.decoding._fitted import kind_of
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding._numeric_decoder import NumericDecoder
from kalmanssl.decoding._update import UpdateMixin
from kalmanssl.decoding.calibration import CalibrationSettings
from kalmanssl.decoding.grids import wrap_to_period
from kalmanssl.decoding.held_out import (
    DriftSettings,
    Fold,
    HeldOutFit,
    MovementSettings,
    Samples,
    held_out_folds,
    rolling_folds,
    warn_if_few_blocks,
)
from kalmanssl.decoding.inputs import (
    Sessions,
    by_session,
    check_behavior,
    check_latents,
    check_smoothed,
    is_list_of_latents,
    join_trials,
    usable_bins,
    warn_if_circle,
)
from kalmanssl.decoding.labels import LabelDecoder, find_labels, is_discrete, present_labels
from kalmanssl.decoding.metrics import ScoreMixin
from kalmanssl.decoding.online import OnlineMixin
from kalmanssl.decoding.readouts import ReadoutSettings, make_label_readout, make_readout
from kalmanssl.decoding.results import DecodedPosition, check_level
from kalmanssl.decoding.saving import StateMixin
from kalmanssl.errors import InputError
from kalmanssl.utils.circular import periods_of
from kalmanssl.utils.memory import return_freed_memory
from kalmanssl.utils.progress import progress_part
from kalmanssl.utils.torch_ops import one_thread_everywhere
from kalmanssl.utils.validation import (
    check_bool,
    check_condition,
    check_integer,
    check_numbers,
    check_positive,
    check_seed,
)

__all__ = ["PositionDecoder"]


class PositionDecoder(StateMixin, UpdateMixin, OnlineMixin, ScoreMixin, BaseEstimator):
    """Decoder of behavior from latents, with calibrated intervals.

    A readout maps the latents of a bin to a distribution over a grid of the behavior. If the times of the bins are
    known, a state-space model combines these distributions over time: by Bayes' rule they are turned into likelihoods,
    and a movement prior, learned from the tracked behavior, says how the behavior moves from bin to bin. Filtered
    latents are decoded with the forward pass alone, so no later bin has an effect, and smoothed latents with the
    forward and the backward pass (Denovellis et al. 2021, eLife 10:e64505; Burkhart et al. 2020, Neural Computation
    32:969).

    The default readout also measures how far the latents of a bin are from the most similar ones of the fit. Where they
    are unfamiliar, as during an unusual rest, its distribution has less weight beside the movement prior and the
    occupancy; how much less is chosen together with the movement prior. Each decoded bin has a number and a flag that
    say whether to trust it, judged from the activity alone: `DecodedPosition.trust` and `trusted`.

    `fit` fits a readout several times: on parts of the training time, to choose the movement prior and to learn the
    errors on held-out time for the calibration, and on all of it, for the predictions. Bins at rest and in movement
    count equally in total for the readout. The choices are made by the mean of this and the plain average over bins.

    Behavior that consists of labels, such as an arm, a choice or a stimulus, is decoded as a probability of each label.
    Its movement prior is a Markov chain that keeps its label. All bins then count equally, so that frequent labels are
    more probable without evidence, and the probabilities are those of the labels in the recording.

    Parameters
    ----------
    level : float
        Nominal level of the interval, inside (0, 1).
    regressor : "ensemble", "mlp", "linear" or a regressor of scikit-learn
        "ensemble": networks and nearest neighbors, whose histograms are multiplied (`EnsembleReadout`). "mlp": the
        networks alone (`MLPReadout`). "linear": ridge regression with the analytic interval (`LinearReadout`).
        Anything with `fit` and `predict`: its residual noise is learned by cross-validation (`SklearnReadout`). Labels
        are decoded by the networks alone, or by a classifier with `fit` and `predict_proba`.
    posterior : "mean", "quadrature" or "samples"
        What the networks receive: the mean of the latent posterior and its averages over time, or an average over the
        posterior. "quadrature" takes three nodes along the direction that moves the output most, "samples" takes
        `n_samples` random draws, which is much slower and agrees to within sampling error.
    n_samples : int
        Draws per bin for `posterior="samples"`, at most a million.
    period : float or sequence of float or None, optional
        Period of circular behavior, one per dimension (None for dimensions that are not circular).
    calibrate : bool
        Whether to calibrate. Without calibration the intervals are those of the readout.
    readout_settings : optional
        Settings of the readout that `regressor` selects: `EnsembleReadoutSettings`, `MLPReadoutSettings`,
        `LinearReadoutSettings` or `SklearnReadoutSettings`.
    calibration_settings : CalibrationSettings, optional
    drift_settings : DriftSettings, optional
        A drift of the code along the direction of motion is corrected if this reduces the error on held-out time.
    movement_settings : MovementSettings, optional
        Candidates for the movement prior. ``MovementSettings(kinds=("none",))`` decodes every bin by itself.
    time_scales : sequence of float
        Time scales of the averages of the latents, seconds. Neighbors are compared by the averages, too, if this
        reduces the error on held-out bins.
    discrete : bool, optional
        Whether the behavior consists of labels. By default text, bools, pandas categories and objects are labels, and
        numbers are not. True: every distinct number is a label.
    random_state : int, optional
        Seed of the networks and samples.

    Attributes
    ----------
    decoders_ : dict of LatentDecoder
        "filtered" and "smoothed", for the kinds of latents that it was fitted on, or "array".
    adaptations_ : dict of Adaptation
        What `update` has learned, by kind of latents; empty after `fit`.
    periods_ : tuple of float or None
    labels_ : (labels,) or None
        The labels; None for other behavior.
    session_ends_ : dict of float
        Time of the last fitted bin of each session by its name, seconds.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> position = np.cumsum(rng.normal(size=600)) / 10
    >>> latents = np.stack([position, rng.normal(size=600)], axis=1) + 0.1 * rng.normal(size=(600, 2))
    >>> decoder = PositionDecoder(regressor="linear").fit(latents[:500], position[:500])
    >>> decoder.predict(latents[500:]).lower.shape
    (100,)
    """

    def __init__(
        self,
        level: float = 0.95,
        regressor: Any = "ensemble",
        *,
        posterior: str = "mean",
        n_samples: int = 1000,
        period: float | Sequence[float | None] | None = None,
        calibrate: bool = True,
        readout_settings: ReadoutSettings | None = None,
        calibration_settings: CalibrationSettings | None = None,
        drift_settings: DriftSettings | None = None,
        movement_settings: MovementSettings | None = None,
        time_scales: Sequence[float] = (0.2, 0.8),
        discrete: bool | None = None,
        random_state: int | None = None,
    ) -> None:
        self.level = level
        self.regressor = regressor
        self.posterior = posterior
        self.n_samples = n_samples
        self.period = period
        self.calibrate = calibrate
        self.readout_settings = readout_settings
        self.calibration_settings = calibration_settings
        self.drift_settings = drift_settings
        self.movement_settings = movement_settings
        self.time_scales = time_scales
        self.discrete = discrete
        self.random_state = random_state

    def fit(
        self,
        latents: Any,
        position: Any,
        where: Any = None,
        time: np.ndarray | None = None,
        *,
        smoothed: Any = None,
        held_out_fits: Sequence[HeldOutFit] = (),
    ) -> PositionDecoder:
        """Fit the readout and the movement prior, and calibrate.

        Parameters
        ----------
        latents : Latents or (time, features) array
            Latents of the kind that will be decoded; an array, a `TsdFrame` or a table has no posterior covariance. The
            index of a `TsdFrame`, and that of a table if it is named "time", are the times of its bins. For trials a
            list of `Latents` in order of time; `position`, `where` and `smoothed` are then lists, too. The same for
            sessions, which have different names in `Latents.session` and a clock each; times are compared within a
            session only.
        position : (time,) or (time, dims), or a Tsd, TsdFrame or IntervalSet of pynapple
            Behavior; NaN where it is unknown. Two dimensions are decoded jointly. More are decoded in pairs that are
            independent of each other. Labels must be (time,), with None, NaN or "" where they are unknown. Series of
            pynapple are interpolated to the bins.
        where : (time,) bool, optional
            Bins to learn from, such as `running_bins`. By default all with known behavior.
        time : (time,), optional
            Times of the bins of an array, seconds; `Latents` have their own. Without times every bin is decoded by
            itself, and intervals do not widen with the lag.
        smoothed : Latents, optional
            Smoothed latents over the same bins, to decode latents of both kinds. Each kind has its own readout,
            movement prior and calibration.
        held_out_fits : sequence of HeldOutFit
            Latents from models that were fitted on a part of the time only, from `kalmanssl.cross_fit`. Without them
            the calibration uses latents that were fitted on the bins it scores, and the intervals are somewhat narrow.
            With several sessions, those from models of all sessions but one calibrate the decoder for new sessions.

        Raises
        ------
        InputError
            If lengths differ, a setting is out of range, too few bins are known or the behavior is constant; if labels
            are of several types, or the calibration has no training part with all labels.
        """
        self._check_settings()
        trials = latents
        latents, position, where, smoothed = join_trials(latents, position=position, where=where, smoothed=smoothed)
        mean, _, known_time = check_latents(latents, time)
        nearest = self.period is not None or bool(self.discrete)
        position = behavior_at("position", position, known_time, nearest)
        behavior, usable = self._check_position(position, mean, where)
        self.n_features_in_ = mean.shape[1]
        self.timed_ = known_time is not None
        order = np.arange(len(mean), dtype=float) if known_time is None else known_time
        if np.any(np.diff(order) <= 0):
            raise InputError("time must increase: sort the bins or drop the repeated ones", parameter="time")
        sessions = Sessions.of(trials, len(mean))
        self.session_ends_ = sessions.last_times(order, usable)
        check_smoothed(latents, smoothed)
        _check_held_out_fits(held_out_fits, latents)
        min_blocks = (self.calibration_settings or CalibrationSettings()).min_blocks
        self.decoders_: dict[str, LatentDecoder] = {}
        self.adaptations_: dict[str, Adaptation] = {}
        kinds = [given for given in (latents, smoothed) if given is not None]
        for number, given in enumerate(kinds):
            discrete = self.labels_ is not None
            samples = Samples.from_latents(
                given, behavior, order, usable, self.periods_, min_blocks, discrete, sessions.index
            )
            folds = self._folds(given, samples, held_out_fits, sessions.names)
            if self.calibrate and given is latents:
                warn_if_few_blocks(folds, self.level)
            rng = np.random.default_rng(self.random_state)
            unfitted = self._make_decoder(kind_of(given))
            with one_thread_everywhere(), progress_part(number / len(kinds), (number + 1) / len(kinds)):
                self.decoders_[kind_of(given)] = unfitted.fit(samples, folds, self.timed_, rng)
            del samples, folds  # before smoothed latents of held-out fits are inferred, which needs memory
            return_freed_memory()
        return self

    def _folds(
        self, latents: Any, samples: Samples, held_out_fits: Sequence[HeldOutFit], sessions: tuple[str, ...]
    ) -> list[Fold]:
        """Return the folds that the decoder of `latents` is calibrated on; none without calibration."""
        if not self.calibrate:
            return []
        if held_out_fits:
            return held_out_folds(held_out_fits, latents, samples, sessions)
        settings = self.calibration_settings or CalibrationSettings()
        return rolling_folds(samples, settings.n_folds, settings.first_fold_fraction)

    def _check_position(self, position: Any, mean: np.ndarray, where: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the behavior (time, dims), the number of the label for labels, and which bins to fit on."""
        self.labels_: np.ndarray | None = None
        if not is_discrete(position, self.discrete):
            behavior, self.flat_ = check_behavior(position, len(mean))
            self.periods_ = periods_of("period", self.period, "position", behavior.shape[1])
            warn_if_circle(behavior, self.periods_)
            self._make_readout()  # checks its settings
            return wrap_to_period(behavior, self.periods_), usable_bins(mean, behavior, where)
        check_condition("period", self.period, self.period is None, "None for labels")
        labels, codes = find_labels(position, len(mean))
        usable = usable_bins(mean, codes, where, labels)
        self.labels_, codes = present_labels(labels, codes, usable)
        self.flat_, self.periods_ = True, (None,)
        self._make_readout()
        return codes, usable

    def _make_decoder(self, kind: str) -> LatentDecoder:
        """Return an unfitted decoder of latents of one kind."""
        context = isinstance(self.regressor, str) and self.regressor in ("ensemble", "mlp") and self.posterior == "mean"
        common: dict[str, Any] = {
            "periods": self.periods_,
            "smooth": kind == "smoothed",
            "make_readout": self._make_readout,
            "movement_settings": (self.movement_settings or MovementSettings()).of_behavior(self.labels_ is not None),
            "time_scales": tuple(self.time_scales) if context else (),
        }
        if self.labels_ is not None:
            return LabelDecoder(**common, labels=self.labels_)
        return NumericDecoder(
            **common,
            readout_settings=self.readout_settings,
            calibration_settings=self.calibration_settings or CalibrationSettings(),
            drift_settings=self.drift_settings,
        )

    def _check_settings(self) -> None:
        check_level(self.level)
        check_integer("n_samples", self.n_samples, 1, 10**6)
        check_bool("calibrate", self.calibrate)
        if self.discrete is not None:
            check_bool("discrete", self.discrete)
        check_seed(self.random_state)
        for name, expected in (
            ("calibration_settings", CalibrationSettings),
            ("movement_settings", MovementSettings),
            ("drift_settings", DriftSettings),
        ):
            value = getattr(self, name)
            check_condition(name, value, value is None or isinstance(value, expected), f"{expected.__name__} or None")
        check_numbers("time_scales", self.time_scales, "a sequence of numbers, in seconds")
        for scale in self.time_scales:
            check_positive("time_scales", scale)

    def _make_readout(self) -> Any:
        """Return an unfitted readout of the kind that `regressor` selects."""
        chosen = (self.posterior, self.n_samples, self.readout_settings)
        if self.labels_ is not None:
            return make_label_readout(self.regressor, *chosen)
        return make_readout(self.regressor, self.periods_, *chosen)

    def _predict_trials(self, latents: Sequence[Latents]) -> list[Any]:
        """Decode trials of one session."""
        decoded, ends = self.predict(*join_trials(latents)), np.cumsum([0, *map(len, latents)])
        return [decoded[start:stop] for start, stop in pairwise(ends)]

    def predict(self, latents: Any, time: np.ndarray | None = None) -> DecodedPosition | Any:
        """Decode the behavior.

        Parameters
        ----------
        latents : Latents or (time, features) array, or a list of Latents (trials or sessions)
            Latents of the same model. In a session that the decoder was not fitted on, the time since the end of the
            fit is unknown, and the mean lag of the held-out errors is assumed for the width of the intervals. Where
            latents are not finite the behavior is predicted from the bins around, or from the behavior in the fit if
            every bin is decoded by itself.
        time : (time,), optional
            Times of the bins of an array, seconds.

        Returns
        -------
        DecodedPosition
            Or a `DecodedCategory` for labels; a list of one for each trial if `latents` is a list.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If the number of features is not that of the fit.
        """
        if is_list_of_latents(latents):
            return [one for group in by_session(latents) for one in self._predict_trials(group)]
        kind, decoder, given = self._decoder_input(latents, time)
        adaptation = self.adaptations_.get(kind) or Adaptation.of(decoder)
        return decoder.decode(given, adaptation, self.level, self.flat_)


def _check_held_out_fits(held_out_fits: Any, latents: Any) -> None:
    """Raise `InputError` unless these are held-out fits; any need latents with the times of the bins."""
    are_fits = isinstance(held_out_fits, Sequence) and all(isinstance(one, HeldOutFit) for one in held_out_fits)
    check_condition("held_out_fits", held_out_fits, are_fits, "what kalmanssl.cross_fit returned")
    if held_out_fits and not isinstance(latents, Latents):
        raise InputError("held_out_fits need a Latents as latents, not an array", parameter="held_out_fits")
