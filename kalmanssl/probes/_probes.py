"""What can be read from representations: probes that are fitted to labels after training, and pictures in numbers.

All take plain arrays; `kalmanssl.plotting` draws what they return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kalmanssl.errors import InputError
from kalmanssl.probes._representation import (
    CategoryMatching,
    EffectiveDimension,
    effective_dimension,
    entropy_bits,
    match_categories,
)
from kalmanssl.probes._softmax_regression import fit_path
from kalmanssl.utils.arrays import check_features, check_labels
from kalmanssl.utils.validation import check_seed

__all__ = [
    "CategoryMatching",
    "EffectiveDimension",
    "LinearProbeScore",
    "ProbeScore",
    "effective_dimension",
    "entropy_bits",
    "knn_probe",
    "linear_probe",
    "match_categories",
]

_PENALTIES = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
_HELD_OUT = 0.1
_GAP = 1e-4  # nats per sample: log-probabilities are as at the minimum to two digits after the point
_ROUGH_GAP = 1e-3  # while penalties are compared
_TEMPERATURE = 0.07  # of the votes of neighbors
_CHUNK = 256  # test samples whose similarities to all training samples are held at once


@dataclass(frozen=True)
class ProbeScore:
    """How well labels are read from representations.

    Attributes
    ----------
    top1 : float
        Share of the test samples whose label is the first guess.
    top5 : float or None
        Share whose label is among the first five guesses; None with five classes or fewer.
    predicted : (samples,)
        First guesses.
    """

    top1: float
    top5: float | None
    predicted: np.ndarray


@dataclass(frozen=True)
class LinearProbeScore(ProbeScore):
    """The score of a linear probe, with what to trust it by.

    Attributes
    ----------
    penalty : float
        On the squares of the weights, of the values tried the one with the least log-loss on a held-out part of train.
    gap : float
        The loss that was minimized is proven to be above its minimum by at most so many nats per sample.
    """

    penalty: float
    gap: float


def linear_probe(
    train: Any, train_labels: Any, test: Any, test_labels: Any, random_state: int | None = 0
) -> LinearProbeScore:
    """Read labels from representations with multinomial logistic regression.

    Features are standardized by the mean and standard deviation of train. A tenth of train, from every class, is held
    out to choose the penalty, and the chosen one is fitted to all of train (`kalmanssl.probes`).

    Parameters
    ----------
    train, test : (samples, dims)
    train_labels, test_labels : (samples,)
        Numbers or names.
    random_state : int or None
        Seed of which samples are held out.

    Returns
    -------
    LinearProbeScore

    Raises
    ------
    InputError
        If shapes do not go together, something is NaN, there is one class only, a class of train has one sample only,
        or test has a class that train does not.
    """
    check_seed(random_state)
    x, y, x_test, y_test, classes = _checked(train, train_labels, test, test_labels)
    counts = np.bincount(y)
    if counts.min() < 2:
        raise InputError(
            f"train_labels has one sample of class {classes[counts.argmin()]}: give two of each, as one is held out"
        )
    mean, spread = x.mean(axis=0, dtype=float), x.std(axis=0, dtype=float)
    spread = np.where(spread > 1e-7 * np.abs(mean), spread, np.inf)  # what is constant up to rounding tells nothing
    features, features_test = (torch.from_numpy(((v - mean) / spread).astype(np.float32)) for v in (x, x_test))
    labels = torch.from_numpy(y)
    held_out = torch.from_numpy(_stratified(y, np.random.default_rng(random_state)))
    best, penalties = np.inf, []
    with torch.no_grad():
        for fit in fit_path(features[~held_out], labels[~held_out], len(classes), _PENALTIES, _ROUGH_GAP):
            loss = fit.log_loss(features[held_out], labels[held_out])
            if loss >= best:
                break
            best = loss
            penalties.append(fit.penalty)
        *_, fit = fit_path(features, labels, len(classes), penalties[-1:], _GAP)
        guesses = _first_guesses(fit.logits(features_test), len(classes))
    top1, top5 = _shares(guesses, y_test, len(classes))
    return LinearProbeScore(top1, top5, classes[guesses[:, 0]], fit.penalty, fit.gap)


def knn_probe(train: Any, train_labels: Any, test: Any, test_labels: Any, k: int = 20) -> ProbeScore:
    """Read labels from the nearest training representations.

    The `k` neighbors of greatest cosine similarity vote with weights exp(similarity / 0.07). Source: Wu, Xiong, Yu &
    Lin (2018), arXiv 1805.01978, section 3.4.

    Parameters
    ----------
    train, test : (samples, dims)
    train_labels, test_labels : (samples,)
        Numbers or names.
    k : int
        Neighbors that vote.

    Returns
    -------
    ProbeScore

    Raises
    ------
    InputError
        If shapes do not go together, something is NaN, there is one class only, test has a class that train does not,
        a row is zero and has no direction, or `k` is not between 1 and the number of training samples.
    """
    x, y, x_test, y_test, classes = _checked(train, train_labels, test, test_labels)
    if not isinstance(k, int | np.integer) or not 1 <= k <= len(x):
        raise InputError(f"k must be a whole number from 1 to the {len(x)} training samples, got {k!r}")
    unit, unit_test = _directions("train", x), _directions("test", x_test)
    labels, guesses = torch.from_numpy(y), []
    for rows in unit_test.split(_CHUNK):
        near = (rows @ unit.T).topk(int(k), dim=1)
        weight = ((near.values - near.values[:, :1]) / _TEMPERATURE).exp()  # the nearest has weight one
        votes = torch.zeros(len(rows), len(classes)).scatter_add_(1, labels[near.indices], weight)
        guesses.append(_first_guesses(votes, len(classes)))
    found = np.concatenate(guesses)
    top1, top5 = _shares(found, y_test, len(classes))
    return ProbeScore(top1, top5, classes[found[:, 0]])


def _checked(
    train: Any, train_labels: Any, test: Any, test_labels: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features and labels from 0 on, of train and of test, and the classes."""
    x, x_test = check_features("train", train), check_features("test", test)
    if x.shape[1] != x_test.shape[1]:
        raise InputError(f"train has {x.shape[1]} dimensions and test {x_test.shape[1]}: use the same representation")
    classes, y = np.unique(check_labels("train_labels", train_labels, len(x)), return_inverse=True)
    labels_test = check_labels("test_labels", test_labels, len(x_test), least=1)
    new = np.setdiff1d(labels_test, classes)
    if len(new):
        raise InputError(f"test_labels has {len(new)} classes that train_labels has not, such as {new[0]!s}")
    return x, y, x_test, np.searchsorted(classes, labels_test), classes


def _stratified(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mark a tenth of every class, at least one sample of each."""
    held_out = np.zeros(len(labels), dtype=bool)
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        held_out[rng.permutation(members)[: max(1, round(_HELD_OUT * len(members)))]] = True
    return held_out


def _directions(name: str, values: np.ndarray) -> torch.Tensor:
    """Rows as unit vectors; divided by their largest entry first, so that no square leaves the range of floats."""
    largest = np.abs(values).max(axis=1, keepdims=True)
    if not largest.all():
        raise InputError(f"{name} has {int((largest == 0).sum())} rows of zeros, which have no direction")
    scaled = torch.from_numpy((values / largest).astype(np.float32))
    return torch.nn.functional.normalize(scaled, dim=1)


def _first_guesses(scores: torch.Tensor, classes: int) -> np.ndarray:
    return scores.topk(min(5, classes), dim=1).indices.numpy()


def _shares(guesses: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, float | None]:
    right = guesses == labels[:, None]
    return float(right[:, 0].mean()), float(right.any(axis=1).mean()) if classes > 5 else None
