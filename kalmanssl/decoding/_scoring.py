"""The score of a decoder for model selection with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.data import Latents
from kalmanssl.decoding._inputs import join_trials
from kalmanssl.decoding._metrics import score_decoding

__all__ = ["ScoreMixin"]


class ScoreMixin:
    """The method `score` of `PositionDecoder`, and its tags for scikit-learn."""

    labels_: np.ndarray | None

    def score(self, latents: Latents | np.ndarray, position: np.ndarray, time: np.ndarray | None = None) -> float:
        """Compute the negative mean error of the predictive distributions; larger is better.

        `kalmanssl.decoding.score_decoding` computes more scores of predictions that were made once.

        Parameters
        ----------
        latents : Latents or (time, features) array
        position : (time,) or (time, dims)
            True behavior; bins where it is unknown are left out.
        time : (time,), optional
            Times of the bins of an array, seconds.

        Returns
        -------
        float
            Minus the continuous ranked probability score, in the unit of the behavior, averaged over bins and
            dimensions; for labels the mean log-probability of the true label, nats.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If shapes differ, no bin is left to score, or there is a label that the decoder was not fitted on.
        """
        latents, position = join_trials(latents, position=position)
        decoded = self.predict(latents, time)  # type: ignore[attr-defined]
        return -float(score_decoding(decoded, position)["crps" if self.labels_ is None else "log_loss"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.allow_nan = True  # bins with NaN are not fitted, and predicted from the bins around them
        return tags
