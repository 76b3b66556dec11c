"""What representations are like: how many dimensions they fill, and which category stands for which class."""

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
    """How many dimensions representations fill, by three rules.

    Attributes
    ----------
    above_threshold : int
        Eigenvalues of the covariance above 1e-3. It means something only where the scale of the representations is
        fixed, as on the sphere; it is the rule that agrees best with the LDM paper's Fig. 3, which does not give one.
    above_share : int
        Eigenvalues above 1e-2 of the largest.
    participation_ratio : float
        (Σ λ)² / Σ λ², from 1 (one direction has all the variance) to the number of dimensions (all have the same).
    spectrum : (dims,)
        Eigenvalues λ of the covariance, the largest first.
    """

    above_threshold: int
    above_share: int
    participation_ratio: float
    spectrum: np.ndarray


def effective_dimension(z: Any) -> EffectiveDimension:
    """Count the dimensions that representations fill.

    Parameters
    ----------
    z : (samples, dims)
        On the sphere: after they were put on it.

    Returns
    -------
    EffectiveDimension

    Raises
    ------
    InputError
        If `z` is not a finite matrix of two rows or more, all of its rows are the same, or its variances are too large
        or too small for a float.
    """
    z = check_features("z", z, least=2)
    centered, size = center_and_scale("z", z)
    relative = np.linalg.eigvalsh(np.atleast_2d(np.cov(centered, rowvar=False)))[::-1].clip(min=0)
    with np.errstate(over="ignore", under="ignore"):
        spectrum = relative * size**2
    if not 0 < spectrum[0] < np.inf:
        raise InputError(
            f"the variances of z, whose largest entry is {np.abs(z).max():.3g}, are outside the range of floats: "
            "divide z by that entry first"
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
    """Which class each category that was found stands for.

    Attributes
    ----------
    confusion : (categories, classes) int
        Samples by category found and by class.
    classes : (classes,)
        The labels, sorted, as in the columns of `confusion`.
    greedy, optimal : (categories,) int
        Column of `confusion` that goes with every category, no two the same; -1 for categories that are left over.
        Greedy takes the largest count first (as the LDM paper does for Fig. A8), optimal is the best one-to-one
        matching there is.
    greedy_accuracy, optimal_accuracy : float
        Share of the samples whose category goes with their class.
    """

    confusion: np.ndarray
    classes: np.ndarray
    greedy: np.ndarray
    optimal: np.ndarray
    greedy_accuracy: float
    optimal_accuracy: float


def match_categories(found: Any, labels: Any) -> CategoryMatching:
    """Match categories that were found without labels to the classes, one to one.

    Parameters
    ----------
    found : (samples,) int or (samples, categories)
        The category of every sample from 0 on, or its probabilities, of which the largest counts.
    labels : (samples,)
        Classes, numbers or names; they serve for the matching alone, so that accuracy here means agreement.

    Returns
    -------
    CategoryMatching

    Raises
    ------
    InputError
        If `found` holds neither categories nor probabilities, the lengths differ, or there is one class only.
    """
    found = as_array("found", found)
    if found.ndim == 2:
        found, n_found = _check_probabilities(found, "found").argmax(axis=1), found.shape[1]
    elif found.ndim == 1 and found.dtype.kind in "iu" and len(found):
        if found.min() < 0:
            raise InputError(f"found has categories below 0, such as {found.min()}: number them from 0 on")
        n_found = int(found.max()) + 1
    else:
        raise InputError(
            f"found must be whole numbers (samples,) or probabilities (samples, categories), not an array of "
            f"{found.dtype} of shape {found.shape}"
        )
    if n_found > 100_000:
        raise InputError(f"found has categories up to {n_found - 1}: number them 0, 1, 2, ... without large gaps")
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
    """Column for every row, the largest count first; ties go to the first row and column."""
    left = counts.astype(float)
    matched = np.full(len(counts), -1)
    for _ in range(min(counts.shape)):
        row, column = np.unravel_index(left.argmax(), left.shape)
        matched[row] = column
        left[row], left[:, column] = -1, -1
    return matched


def entropy_bits(probabilities: Any) -> np.ndarray:
    """Return how uncertain every sample is: -Σ p log2 p, (samples,), in bits.

    Parameters
    ----------
    probabilities : (samples, categories)

    Raises
    ------
    InputError
        If the rows are not probabilities.
    """
    checked = _check_probabilities(as_array("probabilities", probabilities), "probabilities")
    return entr(checked.astype(float)).sum(axis=1) / np.log(2)


def _check_probabilities(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiub":
        raise InputError(f"{name} must be numbers (samples, categories), got {values.dtype} of shape {values.shape}")
    total = values.sum(axis=1, dtype=float)
    # Written so that NaN counts as wrong; half precision leaves about 1e-3 of the sum to rounding.
    wrong = ~((values >= 0).all(axis=1) & (np.abs(total - 1) < 1e-2))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{name} has {int(wrong.sum())} rows that are no probabilities, the first is row {row} with sum "
            f"{total[row]:g}: take the softmax of a network's outputs first"
        )
    return values
