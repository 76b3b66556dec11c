"""Readout of labels that wraps a classifier of scikit-learn."""

from __future__ import annotations

from typing import Any, NoReturn, Self

import numpy as np
from sklearn.base import clone

from kalmanssl.data import Covariances
from kalmanssl.decoding.readouts._base import FittedBins
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

    def fit(self, bins: FittedBins, rng: np.random.Generator) -> Self:
        """Fit to bins whose behavior is the number of their label, and whose grid has one cell for each label."""
        assert bins.grids is not None
        self.n_labels = bins.grids[0].size
        self.model = clone(self.classifier).fit(bins.mean, bins.behavior[:, 0].astype(int))
        return self

    def predict_mass(self, mean: np.ndarray, cov: Covariances | None) -> list[np.ndarray]:
        """Return the probability of each label, one array (time, labels)."""
        mass = np.zeros((len(mean), self.n_labels))
        mass[:, np.asarray(self.model.classes_, dtype=int)] = self.model.predict_proba(mean)
        return [mass]

    def to_state(self) -> NoReturn:
        """Raise `InputError`: an arbitrary classifier can only be saved with pickle, which kalmanssl does not use."""
        raise InputError(
            f"a decoder with {type(self.classifier).__name__} cannot be saved without pickle: use regressor "
            '"ensemble", or fit it again on the latents of the loaded model',
            parameter="regressor",
        )
