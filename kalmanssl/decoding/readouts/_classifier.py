"""Readout of labels that wraps a classifier of scikit-learn."""

from __future__ import annotations

from typing import Any, NoReturn, Self

import numpy as np
from sklearn.base import clone

from kalmanssl.errors import InputError

__all__ = ["ClassifierReadout"]


class ClassifierReadout:
    """Any classifier of scikit-learn with `predict_proba`.

    Parameters
    ----------
    classifier : object
        Has `fit(X, y)` and `predict_proba(X)`; it is cloned, never changed.
    """

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    def fit(self, mean: np.ndarray, codes: np.ndarray, n_labels: int) -> Self:
        """Fit to latents (time, features) and the number of the label of each bin (time,)."""
        self.n_labels = n_labels
        self.model = clone(self.classifier).fit(mean, codes)
        return self

    def predict_mass(self, mean: np.ndarray) -> np.ndarray:
        """Return the probability of each label, (time, labels)."""
        mass = np.zeros((len(mean), self.n_labels))
        mass[:, np.asarray(self.model.classes_, dtype=int)] = self.model.predict_proba(mean)
        return mass

    def to_state(self) -> NoReturn:
        """Raise `InputError`: an arbitrary classifier can only be saved with pickle, which kalmanssl does not use."""
        raise InputError(
            f"a decoder with {type(self.classifier).__name__} cannot be saved without pickle: use regressor "
            '"ensemble", or fit it again on the latents of the loaded model',
            parameter="regressor",
        )
