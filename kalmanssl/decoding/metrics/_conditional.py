"""Conditional coverage: how often intervals contain the truth at each speed, place or lag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kalmanssl.decoding.inputs import check_mask
from kalmanssl.decoding.labels import DecodedCategory, encode_labels
from kalmanssl.decoding.metrics._scores import check_decoded
from kalmanssl.decoding.results import LEVELS, DecodedPosition, by_level
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_array, as_floats
from kalmanssl.utils.blocks import blocks_of_time, mean_over_blocks
from kalmanssl.utils.labels import distinct_labels, label_column
from kalmanssl.utils.validation import check_condition, check_integer

__all__ = ["conditional_coverage"]


def conditional_coverage(
    decoded: DecodedPosition | DecodedCategory,
    truth: np.ndarray,
    conditions: Mapping[str, np.ndarray],
    mask: np.ndarray | None = None,
    n_groups: int = 4,
) -> dict[str, Any]:
    """Compute coverage and width of the intervals in groups of bins with similar values of a condition.

    Intervals can cover at their nominal level on average and still fail in one place or at one speed.

    Parameters
    ----------
    decoded : DecodedPosition or DecodedCategory
    truth : (time,) or (time, dims)
    conditions : mapping of name to (time,)
        Values of each condition, such as speed, position or the lag since the fit; bins with NaN are left out. A
        condition of text or bools has one group for each of its labels; bins with None or "" are left out.
    mask : (time,) bool, optional
        Bins to score.
    n_groups : int
        Groups with equal numbers of bins per condition; fewer if many bins have the same value.

    Returns
    -------
    dict
        For each condition a list of dicts with the range of its values, `low` and `high`, or its `label`; the number of
        `bins`; `coverage`, `coverage_error` (one standard error over blocks of time) and `width` by nominal level, as
        in `score_decoding`, averaged over dimensions. For decoded labels `set_size`, the mean number of labels in the
        prediction set, replaces `width`. The entry "worst" is the group whose coverage at 95 % is farthest from
        nominal, with its `condition`.

    Raises
    ------
    InputError
        If lengths differ or no bin is left.
    """
    check_integer("n_groups", n_groups, 1)
    check_decoded(decoded)
    check_condition("conditions", conditions, isinstance(conditions, Mapping), "values by name, such as {'speed': ...}")
    covered = _of_sets(decoded, truth) if isinstance(decoded, DecodedCategory) else _of_intervals(decoded, truth)
    known = covered.known if mask is None else covered.known & check_mask("mask", mask, len(covered.known))
    if not known.any():
        raise InputError("no bin is left to score: truth is unknown, or mask False, everywhere", parameter="truth")
    block = blocks_of_time(decoded.time)
    result: dict[str, Any] = {}
    worst: dict[str, Any] | None = None
    for name, values in conditions.items():
        full_name = f"conditions[{name!r:.60}]"
        groups = _groups(full_name, _check_condition(full_name, values, len(known)), known, n_groups)
        if groups:
            result[name] = [described | _coverage(covered, rows, block) for described, rows in groups]
        for entry in result.get(name, []):
            if worst is None or abs(entry["coverage"]["95"] - 0.95) > abs(worst["coverage"]["95"] - 0.95):
                worst = {"condition": name, **entry}
    return result | {"worst": worst}


class _Covered(NamedTuple):
    """Intervals or prediction sets beside the truth.

    Attributes
    ----------
    inside : (time, dims, levels) bool
        Whether the truth is inside.
    sizes : (time, levels)
        Width of the intervals, the mean over dimensions, or number of labels of the sets.
    size_name : str
    known : (time,) bool
        Where the truth is known.
    """

    inside: np.ndarray
    sizes: np.ndarray
    size_name: str
    known: np.ndarray


def _check_condition(name: str, values: Any, n_bins: int) -> np.ndarray:
    """Return the values of a condition as an array (time,) of numbers or labels."""
    if np.shape(values) != (n_bins,):
        raise InputError(
            f"{name} has shape {np.shape(values)}: give one value for each of {n_bins} bins", parameter="conditions"
        )
    array = as_array(name, values)
    if array.dtype.kind not in "biufUSO":
        raise InputError(f"{name} must be numbers or labels, got an array of {array.dtype}", parameter="conditions")
    return array


def _of_intervals(decoded: DecodedPosition, truth: Any) -> _Covered:
    """Return the intervals of decoded numbers beside the truth."""
    columns = as_floats("truth", truth)
    pit = decoded.pit(columns)
    columns = columns.reshape(len(columns), -1)
    pit = pit.reshape(columns.shape)
    widths = []
    for level in LEVELS:
        lower, upper = decoded.interval(level)
        widths.append((upper - lower).reshape(columns.shape).mean(axis=1))
    inside = np.abs(2 * pit - 1)[:, :, None] <= np.array(LEVELS)
    return _Covered(inside, np.stack(widths, axis=1), "width", np.isfinite(columns).all(axis=1))


def _of_sets(decoded: DecodedCategory, truth: Any) -> _Covered:
    """Return the prediction sets of decoded labels beside the truth."""
    codes = encode_labels("truth", truth, decoded.labels)
    check_condition("truth", len(codes), len(codes) == len(decoded), f"one label for each of {len(decoded)} bins")
    known = np.isfinite(codes)
    own = np.where(known, codes, 0).astype(int)
    sets = [decoded.region(level) for level in LEVELS]
    inside = np.stack([part.inside.values[np.arange(len(own)), own] for part in sets], axis=1)
    return _Covered(inside[:, None], np.stack([part.size for part in sets], axis=1), "set_size", known)


def _groups(name: str, values: np.ndarray, known: np.ndarray, n_groups: int) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Return groups of bins with equal labels or similar values: its label or range, and its bins (time,) bool."""
    if values.dtype.kind in "OSUb":
        labels = label_column(name, values)
        groups = [({"label": label}, known & (labels == label)) for label in distinct_labels(name, values, at_least=0)]
        return [(described, rows) for described, rows in groups if rows.any()]
    values = values.astype(float)
    used = known & np.isfinite(values)
    if not used.any():
        return []
    edges = np.unique(np.quantile(values[used], np.linspace(0, 1, n_groups + 1)))
    group = np.searchsorted(edges[1:-1], values, side="left")
    found = [used & (group == number) for number in np.unique(group[used])]
    return [({"low": float(values[rows].min()), "high": float(values[rows].max())}, rows) for rows in found]


def _coverage(covered: _Covered, rows: np.ndarray, block: np.ndarray) -> dict[str, Any]:
    """Return coverage, its standard error and the mean width or size in the bins `rows` (time,) bool, by level."""
    inside = covered.inside[rows]
    flat = inside.reshape(-1, inside.shape[-1]).astype(float)
    coverage, error = mean_over_blocks(flat, np.repeat(block[rows], inside.shape[1]))
    return {
        "bins": len(inside),
        "coverage": by_level(coverage),
        "coverage_error": by_level(error),
        covered.size_name: by_level(covered.sizes[rows].mean(axis=0)),
    }
