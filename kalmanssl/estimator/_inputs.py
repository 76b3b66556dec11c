"""Preparation of the data: units in the order of the fit, normalization, and filter steps of several bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.training import interleave, join_steps, sum_bins
from kalmanssl.utils.moments import are_whole_numbers

__all__ = [
    "COUNT_NORMALIZATIONS", "NORMALIZATIONS", "InterleavedActivity", "activity_in_order", "choose_bins_per_step",
    "choose_normalization", "step_activity",
]  # fmt: skip

COUNT_NORMALIZATIONS = ("cosine", "sqrt")
NORMALIZATIONS = ("auto", *COUNT_NORMALIZATIONS, "standardize", "none")
_STEP = 0.1  # seconds per filter step
# If an average step has fewer events than this in all units together, and fewer than this per unit, steps are twice as
# long.
_SPARSE_EVENTS = 10.0
_SPARSE_EVENTS_PER_UNIT = 0.2
_BINS_PER_STEP_OF_ARRAY = 4


def activity_in_order(recording: Recording, unit_ids: tuple[str, ...], bin_size: float, n_features: int) -> np.ndarray:
    """Return the activity (time, units) of a recording with the units in the order of the fit.

    `unit_ids` is empty for a model that was fitted on an array; then only the number of units is compared.

    Raises
    ------
    InputError
        If the units or the bin size are not those of the fit.
    """
    if not unit_ids:
        if recording.n_units != n_features:
            raise InputError(
                f"fitted on {n_features} features, the recording has {recording.n_units} units", parameter="X"
            )
        return recording.activity
    if not np.isclose(recording.bin_size, bin_size):
        raise InputError(
            f"fitted on bins of {bin_size:g} s, the recording has bins of {recording.bin_size:g} s", parameter="X"
        )
    if recording.unit_ids == unit_ids:
        return recording.activity
    column = {unit: i for i, unit in enumerate(recording.unit_ids)}
    missing = [unit for unit in unit_ids if unit not in column]
    unknown = [unit for unit in recording.unit_ids if unit not in unit_ids]
    if missing or unknown:
        differences = [
            f"{len(units)} {word} ({_first_few(units)})"
            for word, units in (("missing", missing), ("unknown", unknown))
            if units
        ]
        raise InputError(
            f"the recording {recording.source} has other units than the fit: {', '.join(differences)}; "
            "a model applies only to the units that it was fitted on: choose these, or fit this recording",
            parameter="X",
        )
    return recording.activity[:, [column[unit] for unit in unit_ids]]


def choose_normalization(normalize: str, values: np.ndarray, is_counts: bool) -> str:
    """Return the normalization to use for values (time, features): "auto" depends on whether they are counts."""
    chosen = ("cosine" if is_counts else "standardize") if normalize == "auto" else normalize
    if chosen in COUNT_NORMALIZATIONS and values.min(initial=0.0) < 0:
        raise InputError(
            f"normalize={chosen!r} is for counts, but the data go down to {values.min():g}", parameter="normalize"
        )
    return chosen


def choose_bins_per_step(bins_per_step: int | str, values: np.ndarray, is_counts: bool, bin_size: float) -> int:
    """Return the bins per step to use for values (time, features): "auto" depends on the bin size and the activity.

    Deconvolved calcium activity has no whole numbers of events. Its nonzero values are counted instead.
    """
    if not isinstance(bins_per_step, str):
        return int(bins_per_step)
    if np.isnan(bin_size):
        return _BINS_PER_STEP_OF_ARRAY
    is_integer = is_counts and are_whole_numbers(values)
    events = values.sum(1).mean() if is_integer else (values != 0).sum(1).mean()
    events *= _STEP / bin_size
    is_sparse = is_counts and events < min(_SPARSE_EVENTS, _SPARSE_EVENTS_PER_UNIT * values.shape[1])
    return max(1, round((2 if is_sparse else 1) * _STEP / bin_size))


def step_activity(segment: np.ndarray, bins_per_step: int, normalization: str, centered: bool = False) -> np.ndarray:
    """Return the input of the encoder at every bin (time, features): the activity over the bins of one filter step.

    Counts are summed over the step and a signal is averaged. The step ends at the bin, so the filter never uses later
    data; for the smoother it is centered on the bin.
    """
    summed = sum_bins(segment, bins_per_step, ahead=(bins_per_step - 1) // 2 if centered else 0)
    return summed if normalization in COUNT_NORMALIZATIONS else summed / bins_per_step


@dataclass(frozen=True, eq=False)
class InterleavedActivity:
    """The input of the encoder for a segment as interleaved sequences, whose steps are computed when they are needed.

    Attributes
    ----------
    segment : (time, features)
    bins_per_step : int
        Also the number of sequences.
    normalization : str
    centered : bool
        See `step_activity`.
    pad_end : bool
        See `kalmanssl.training.interleave`.
    dtype : torch.dtype
        Type of the input; it is computed in float64.
    """

    segment: np.ndarray
    bins_per_step: int
    normalization: str
    centered: bool = False
    pad_end: bool = False
    dtype: torch.dtype = torch.float64

    @property
    def n_steps(self) -> int:
        """Number of steps of each sequence."""
        return -(-len(self.segment) // self.bins_per_step)

    def steps(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return the steps from `first` to the one before `last`, by default all, (bins_per_step, steps, features)."""
        n, segment = self.bins_per_step, self.segment
        zeros_before = 0 if self.pad_end else -len(segment) % n
        start, stop = first * n - zeros_before, (self.n_steps if last is None else last) * n - zeros_before
        # Sums of other bins are also needed at the borders.
        low, high = max(start - n, 0), min(stop + n, len(segment))
        activity = step_activity(segment[low:high].astype(np.float64), n, self.normalization, self.centered)
        wanted = activity[max(start - low, 0) : min(stop, len(segment)) - low]
        missing = np.zeros((stop - start - len(wanted), segment.shape[1]))
        padded = np.concatenate([wanted, missing] if self.pad_end else [missing, wanted]) if len(missing) else wanted
        return torch.from_numpy(interleave(padded, n)).to(self.dtype)

    def join(self, steps: np.ndarray) -> np.ndarray:
        """Return what was computed at all steps of the sequences, (steps, bins_per_step, ...), as (time, ...)."""
        return join_steps(steps, len(self.segment), self.pad_end)


def _first_few(names: Sequence[str]) -> str:
    """Join the first five of a list of names."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
