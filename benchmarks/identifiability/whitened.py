"""Other models on whitened frames."""

from __future__ import annotations

from functools import partial

import numpy as np

from identifiability.matcher import encode, fit_whitening
from identifiability.prepared import OnPrepared, Prepare

__all__ = ["OnWhitened"]


class OnWhitened(OnPrepared):
    """Makes a model on whitened frames."""

    def fit_preparation(self, videos: np.ndarray) -> Prepare:
        """Return the whitening of the frames of the videos."""
        return partial(encode, fit_whitening(videos))
