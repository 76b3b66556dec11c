"""Classifiers that are trained on fixed representations to measure what these hold about labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import check_features, check_labels
from kalmanssl.utils.validation import check_seed

__all__ = ["LinearProbeScore", "ProbeScore", "knn_probe", "linear_probe"]

_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # from strong to weak
_HELD_OUT = 0.1  # share of the training samples
_MAX_ITER = 3000
_TEMPERATURE = 0.07


@dataclass(frozen=True)
class ProbeScore:
    """Accuracy of a probe on test samples.

    Attributes
    ----------
    top1 : float
        Fraction of the test samples whose label has the highest predicted probability.
    top5 : float or None
        Fraction whose label is among the five most probable ones; None with five classes or fewer.
    predicted : (samples,)
        Most probable label of each test sample.
    """

    top1: float
    top5: float | None
    predicted: np.ndarray


@dataclass(frozen=True)
class LinearProbeScore(ProbeScore):
    """Accuracy of a linear probe.

    Attributes
    ----------
    penalty : float
        Weight of the squared norm of the coefficients in the mean loss per sample, chosen on held-out training samples.
    """

    penalty: float


def linear_probe(
    train: Any, train_labels: Any, test: Any, test_labels: Any, random_state: int | None = 0
) -> LinearProbeScore:
    """Predict labels from representations with multinomial logistic regression.

    Features are standardized with the mean and the standard deviation of `train`. A tenth of `train`, stratified by
    class, is held out to choose the penalty from 1e-1, 1e-2, ..., 1e-5; the model is then fitted to all of `train`.

    Parameters
    ----------
    train, test : (samples, dims)
    train_labels, test_labels : (samples,)
        Numbers or names.
    random_state : int or None
        Seed for the choice of the held-out samples.

    Returns
    -------
    LinearProbeScore

    Raises
    ------
    InputError
        If shapes do not match, values are NaN or infinite, there is only one class, `train` has a single sample of a
        class, or `test` has a class that `train` does not have.
    """
    check_seed(random_state)
    x, y, x_test, y_test, classes = _check_data(train, train_labels, test, test_labels)
    counts = np.bincount(y)
    if counts.min() < 2:
        raise InputError(
            f"train_labels has one sample of class {classes[counts.argmin()]}: give at least two",
            parameter="train_labels",
        )
    mean, std = x.mean(axis=0, dtype=float), x.std(axis=0, dtype=float)
    std = np.where(std > 1e-7 * np.abs(mean), std, np.inf)  # features that are constant up to rounding become zero
    x, x_test = (((v - mean) / std).astype(np.float32) for v in (x, x_test))
    penalty = _choose_penalty(x, y, random_state)
    probability = _fit(LogisticRegression(), x, y, penalty).predict_proba(x_test)
    return LinearProbeScore(*_accuracies(probability, y_test, classes), penalty)


def _choose_penalty(x: np.ndarray, y: np.ndarray, random_state: int | None) -> float:
    """Return the penalty with the lowest log-loss on held-out samples; stop at the first that is not better."""
    held_out = max(round(_HELD_OUT * len(y)), y.max() + 1)  # at least one sample of each class
    x_fit, x_val, y_fit, y_val = train_test_split(x, y, test_size=held_out, stratify=y, random_state=random_state)
    model, best, best_loss = LogisticRegression(warm_start=True), _PENALTIES[0], np.inf
    for penalty in _PENALTIES:
        probability = _fit(model, x_fit, y_fit, penalty).predict_proba(x_val)
        loss = log_loss(y_val, probability, labels=model.classes_)
        if loss >= best_loss:
            break
        best, best_loss = penalty, loss
    return best


def _fit(model: LogisticRegression, x: np.ndarray, y: np.ndarray, penalty: float) -> LogisticRegression:
    return model.set_params(C=1 / (penalty * len(x)), max_iter=_MAX_ITER).fit(x, y)


def knn_probe(train: Any, train_labels: Any, test: Any, test_labels: Any, k: int = 20) -> ProbeScore:
    """Predict labels from the nearest training representations.

    The `k` neighbors with the highest cosine similarity vote with weights exp(similarity / 0.07). Source: Wu, Xiong, Yu
    & Lin (2018), arXiv 1805.01978, section 3.4.

    Parameters
    ----------
    train, test : (samples, dims)
    train_labels, test_labels : (samples,)
        Numbers or names.
    k : int
        Number of neighbors.

    Returns
    -------
    ProbeScore

    Raises
    ------
    InputError
        If shapes do not match, values are NaN or infinite, there is only one class, `test` has a class that `train`
        does not have, a row is zero and has no direction, or `k` is not between 1 and the number of training samples.
    """
    x, y, x_test, y_test, classes = _check_data(train, train_labels, test, test_labels)
    if not isinstance(k, int | np.integer) or not 1 <= k <= len(x):
        raise InputError(f"k must be an integer from 1 to the {len(x)} training samples, got {k!r}", parameter="k")
    # Distances of unit vectors: similarity = 1 - distance^2 / 2. scikit-learn has a fast search for them.
    model = KNeighborsClassifier(
        int(k), algorithm="brute", weights=lambda distance: np.exp(-(distance**2) / 2 / _TEMPERATURE)
    )
    model.fit(_unit_rows("train", x), y)
    probability = model.predict_proba(_unit_rows("test", x_test))
    return ProbeScore(*_accuracies(probability, y_test, classes))


def _check_data(
    train: Any, train_labels: Any, test: Any, test_labels: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return features and integer labels of train and test, and the classes."""
    x, x_test = check_features("train", train), check_features("test", test)
    if x.shape[1] != x_test.shape[1]:
        raise InputError(f"train has {x.shape[1]} dimensions and test {x_test.shape[1]}: use the same representation")
    classes, y = np.unique(check_labels("train_labels", train_labels, len(x)), return_inverse=True)
    labels_test = check_labels("test_labels", test_labels, len(x_test), minimum=1)
    new = np.setdiff1d(labels_test, classes)
    if len(new):
        raise InputError(
            f"test_labels has {len(new)} classes that train_labels does not have, such as {new[0]!s}",
            parameter="test_labels",
        )
    return x, y, x_test, np.searchsorted(classes, labels_test), classes


def _unit_rows(name: str, values: np.ndarray) -> np.ndarray:
    """Divide each row by its norm; by its largest entry first, so that squares do not overflow."""
    largest = np.abs(values).max(axis=1, keepdims=True)
    if not largest.all():
        raise InputError(
            f"{name} has {int((largest == 0).sum())} rows of zeros, which have no direction", parameter=name
        )
    scaled = (values / largest).astype(np.float32)
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)


def _accuracies(
    probability: np.ndarray, labels: np.ndarray, classes: np.ndarray
) -> tuple[float, float | None, np.ndarray]:
    """Return top-1 accuracy, top-5 accuracy and the predicted classes."""
    ranked = np.argsort(-probability, axis=1, kind="stable")
    correct = ranked[:, :5] == labels[:, None]
    top5 = float(correct.any(axis=1).mean()) if len(classes) > 5 else None
    return float(correct[:, 0].mean()), top5, classes[ranked[:, 0]]
