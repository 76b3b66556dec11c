"""The score of a decoder for model selection with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.decoding._fitted import FittedDecoder
from kalmanssl.decoding.inputs import by_session, is_list_of_latents, join_trials
from kalmanssl.decoding.metrics._scores import score_decoding

__all__ = ["ScoreMixin"]


class ScoreMixin(FittedDecoder):
    """The method `score` of `PositionDecoder`, and its tags for scikit-learn."""

    def score(self, latents: Any, position: Any, time: np.ndarray | None = None) -> float:
        """Compute the negative mean error of the predictive distributions; larger is better.

        `kalmanssl.decoding.score_decoding` computes more scores of predictions that were made once.

        Parameters
        ----------
        latents : Latents or (time, features) array, or a list of Latents (trials or sessions)
        position : (time,) or (time, dims), or a list of these
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
        if is_list_of_latents(latents) and len(groups := by_session(latents)) > 1:
            join_trials(latents, position=position)  # checks the lengths
            parts = iter(position)
            found = [self._scores(group, [next(parts) for _ in group]) for group in groups]
        else:
            found = [self._scores(latents, position, time)]
        name = "crps" if self.labels_ is None else "log_loss"
        return -float(np.average([one[name] for one in found], weights=[one["bins"] for one in found]))

    def _scores(self, latents: Any, position: Any, time: np.ndarray | None = None) -> dict[str, Any]:
        """Return all scores of a recording, or of trials of one session."""
        latents, position = join_trials(latents, position=position)
        return score_decoding(self.predict(latents, time), position)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.allow_nan = True  # bins with NaN are not fitted, and predicted from the bins around them
        return tags
