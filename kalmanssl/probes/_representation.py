"""Effective dimension of representations, and matching of learned categories to classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import entr

from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_array, center_and_scale, check_features, check_labels

__all__ = [
    "CategoryMatching",
    "EffectiveDimension",
    "effective_dimension",
    "entropy_bits",
    "match_categories",
]


@dataclass(frozen=True)
class EffectiveDimension:
    """Effective dimension of representations, by three definitions.

    Attributes
    ----------
    above_threshold : int
        Number of eigenvalues of the covariance above 1e-3. It depends on the scale of the representations, so it is
        only meaningful where the scale is fixed, as on the sphere. Among the three definitions it agrees best with
        Fig. 3 of the LDM paper, which does not state which one it uses.
    above_share : int
        Number of eigenvalues above 1e-2 times the largest.
    participation_ratio : float
        (Σ λ)² / Σ λ²: from 1 (all variance in one direction) to the number of dimensions (equal variances).
    spectrum : (dims,)
        Eigenvalues λ of the covariance, in decreasing order.
    """

    above_threshold: int
    above_share: int
    participation_ratio: float
    spectrum: np.ndarray


def effective_dimension(z: Any) -> EffectiveDimension:
    """Compute the effective dimension of representations.

    Parameters
    ----------
    z : (samples, dims)
        Representations; normalized to unit length where the latent space is the sphere.

    Returns
    -------
    EffectiveDimension

    Raises
    ------
    InputError
        If `z` is not a finite matrix with at least two rows, all rows are equal, or its variances overflow or
        underflow.
    """
    z = check_features("z", z, minimum=2)
    centered, size = center_and_scale("z", z)
    relative = np.linalg.eigvalsh(np.atleast_2d(np.cov(centered, rowvar=False)))[::-1].clip(min=0)
    with np.errstate(over="ignore", under="ignore"):
        spectrum = relative * size**2
    if not 0 < spectrum[0] < np.inf:
        raise InputError(
            f"the variances of z, whose largest entry is {np.abs(z).max():.3g}, are outside the range of floats: "
            "divide z by that entry first",
            parameter="z",
        )
    share = relative / relative[0]
    return EffectiveDimension(
        above_threshold=int((spectrum > 1e-3).sum()),
        above_share=int((share > 1e-2).sum()),
        participation_ratio=float(share.sum() ** 2 / (share**2).sum()),
        spectrum=spectrum,
    )


@dataclass(frozen=True)
class CategoryMatching:
    """One-to-one matching of learned categories to classes.

    Attributes
    ----------
    confusion : (categories, classes) int
        Number of samples of each category and class.
    classes : (classes,)
        Sorted labels, in the order of the columns of `confusion`.
    greedy, optimal : (categories,) int
        Column of `confusion` matched to each category; -1 for categories without a class. The greedy matching takes the
        largest count first (LDM paper, Fig. A8); the optimal one maximizes the number of agreeing samples.
    greedy_accuracy, optimal_accuracy : float
        Fraction of the samples whose category is matched to their class.
    """

    confusion: np.ndarray
    classes: np.ndarray
    greedy: np.ndarray
    optimal: np.ndarray
    greedy_accuracy: float
    optimal_accuracy: float


def match_categories(found: Any, labels: Any) -> CategoryMatching:
    """Match categories learned without labels to classes, one to one.

    Parameters
    ----------
    found : (samples,) int or (samples, categories)
        Category of each sample, starting at 0, or category probabilities; the most probable category is used.
    labels : (samples,)
        Classes as numbers or names. The same labels are used for the matching and for the accuracy.

    Returns
    -------
    CategoryMatching

    Raises
    ------
    InputError
        If `found` holds neither categories nor probabilities, the lengths differ, or there is only one class.
    """
    found = as_array("found", found)
    if found.ndim == 2:
        found, n_found = _check_probabilities(found, "found").argmax(axis=1), found.shape[1]
    elif found.ndim == 1 and found.dtype.kind in "iu" and len(found):
        if found.min() < 0:
            raise InputError(
                f"found has categories below 0, such as {found.min()}: number them from 0", parameter="found"
            )
        n_found = int(found.max()) + 1
    else:
        raise InputError(
            f"found must be whole numbers (samples,) or probabilities (samples, categories), not an array of "
            f"{found.dtype} of shape {found.shape}",
            parameter="found",
        )
    if n_found > 100_000:
        raise InputError(
            f"found has categories up to {n_found - 1}: number them 0, 1, 2, ... without large gaps", parameter="found"
        )
    classes, column = np.unique(check_labels("labels", labels, len(found)), return_inverse=True)
    confusion = np.zeros((n_found, len(classes)), dtype=np.int64)
    np.add.at(confusion, (found, column), 1)
    greedy = _greedy(confusion)
    optimal = np.full(n_found, -1)
    rows, columns = linear_sum_assignment(confusion, maximize=True)
    optimal[rows] = columns
    return CategoryMatching(
        confusion=confusion,
        classes=classes,
        greedy=greedy,
        optimal=optimal,
        greedy_accuracy=float((greedy[found] == column).mean()),
        optimal_accuracy=float((optimal[found] == column).mean()),
    )


def _greedy(counts: np.ndarray) -> np.ndarray:
    """Match rows to columns, largest count first; ties go to the first row and column."""
    left = counts.astype(float)
    matched = np.full(len(counts), -1)
    for _ in range(min(counts.shape)):
        row, column = np.unravel_index(left.argmax(), left.shape)
        matched[row] = column
        left[row], left[:, column] = -1, -1
    return matched


def entropy_bits(probabilities: Any) -> np.ndarray:
    """Compute the entropy -Σ p log2 p of each row of probabilities, (samples,), in bits.

    Parameters
    ----------
    probabilities : (samples, categories)

    Raises
    ------
    InputError
        If a row is negative somewhere or does not sum to 1.
    """
    checked = _check_probabilities(as_array("probabilities", probabilities), "probabilities")
    return entr(checked.astype(float)).sum(axis=1) / np.log(2)


def _check_probabilities(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiub":
        raise InputError(
            f"{name} must be numbers (samples, categories), got {values.dtype} of shape {values.shape}", parameter=name
        )
    total = values.sum(axis=1, dtype=float)
    # NaN counts as wrong. Half precision has a rounding error of about 1e-3 in the sum.
    wrong = ~((values >= 0).all(axis=1) & (np.abs(total - 1) < 1e-2))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{name} has {int(wrong.sum())} rows that are not probabilities, the first is row {row} with sum "
            f"{total[row]:g}: take the softmax of the network's output first",
            parameter=name,
        )
    return values
