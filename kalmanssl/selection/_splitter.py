"""Cross-validation over contiguous blocks of time, as a splitter of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.model_selection import BaseCrossValidator

from kalmanssl.data import Latents, Recording, is_pynapple
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_array
from kalmanssl.utils.blocks import block_borders, outside_block
from kalmanssl.utils.segments import gap_starts
from kalmanssl.utils.validation import check_condition, check_integer, check_number

__all__ = ["BlockedTimeSeriesSplit"]


class BlockedTimeSeriesSplit(BaseCrossValidator):
    """Cross-validation over contiguous blocks of time, with the time around each block left out of the training.

    Each block is the test part once, and all bins that are not close to it are the training part. Neighboring bins of a
    recording are correlated: `KFold` with shuffling tests on bins that are very similar to bins of the training part.

    If the data have times (`Recording`, `Latents`, `TsdFrame` of pynapple), blocks begin and end at gaps near their
    borders, so that trials are not cut, and gaps count as time for `purge` and `embargo`. Bins of an array are
    consecutive.

    Parameters
    ----------
    n_splits : int
        Number of blocks, at least 2.
    purge : float
        Number of bins before the test block that are left out of the training. It should be longer than activity and
        behavior are correlated.
    embargo : float, optional
        Number of bins after the test block that are left out; by default as many as `purge`.

    Notes
    -----
    The training part has a gap where the test block was. `KalmanSSL` does not filter across it if it is given a
    `Recording`, since the times of the bins are known. The bins of an array are taken to be consecutive; select a
    `Recording` instead.

    Examples
    --------
    >>> import numpy as np
    >>> for train, test in BlockedTimeSeriesSplit(n_splits=3, purge=1).split(np.zeros((9, 2))):
    ...     print(train, test)
    [4 5 6 7 8] [0 1 2]
    [0 1 7 8] [3 4 5]
    [0 1 2 3 4] [6 7 8]
    """

    __metadata_request__split = {"groups": True}  # noqa: RUF012  (read by scikit-learn)

    def __init__(self, n_splits: int = 5, *, purge: float = 0, embargo: float | None = None) -> None:
        check_integer("n_splits", n_splits, 2)
        for name, value in (("purge", purge), ("embargo", 0 if embargo is None else embargo)):
            check_number(name, value)
            check_condition(name, value, 0 <= value < np.inf, "at least 0 bins and finite")
        self.n_splits = n_splits
        self.purge = purge
        self.embargo = embargo

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of blocks; the arguments are not used."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Return the indices of the training bins and of the test bins of each block.

        Parameters
        ----------
        X : Recording, Latents, TsdFrame, or (time, features)
            A list of trials is divided by trials; `purge` and `embargo` then count trials.
        y : ignored
        groups : (time,), optional
            Number or name of the lap, trial or session of each bin. A group is never divided: blocks begin only where
            a group begins. The bins of a group must be consecutive.

        Yields
        ------
        train, test : (bins,) int
            Increasing indices into the first axis of `X`.

        Raises
        ------
        InputError
            If there are too few bins or groups, a group has several parts, or a training part is empty.
        """
        n_bins = len(X)
        if n_bins < 2 * self.n_splits:
            raise InputError(f"{n_bins} bins are too few for {self.n_splits} folds", parameter="n_splits")
        time = _times_in_bins(X, n_bins)
        cuts = gap_starts(time, 1.0) if groups is None else self._group_starts(groups, n_bins)
        before, after = self.purge, self.purge if self.embargo is None else self.embargo
        for first, stop in pairwise(block_borders(n_bins, self.n_splits, cuts, only_at_cuts=groups is not None)):
            train = np.flatnonzero(outside_block(time, first, stop, before, after))
            if len(train) == 0:
                raise InputError(
                    f"{n_bins} bins are too few for {self.n_splits} folds with purge={before:g} and embargo={after:g} "
                    "bins: no bin is left to train on; use a shorter purge or a longer recording",
                    parameter="purge",
                )
            yield train, np.arange(first, stop)

    def _group_starts(self, groups: Any, n_bins: int) -> np.ndarray:
        """Return the first bin of every group but the first."""
        names = as_array("groups", groups)
        if names.shape != (n_bins,):
            raise InputError(f"groups has shape {names.shape}: give one for each of {n_bins} bins", parameter="groups")
        starts = np.flatnonzero(names[1:] != names[:-1]) + 1
        seen: set[Any] = set()
        for name in names[np.append(0, starts)].tolist():
            if name in seen:
                raise InputError(
                    f"groups has {name!r} in several parts: give each lap, trial or session its own number",
                    parameter="groups",
                )
            seen.add(name)
        if len(seen) < self.n_splits:
            raise InputError(f"{len(seen)} groups are too few for {self.n_splits} folds", parameter="groups")
        return starts


def _times_in_bins(X: Any, n_bins: int) -> np.ndarray:
    """Return the time of each bin in units of the bin width; its index if the data have no times."""
    if isinstance(X, Recording):
        return X.time / X.bin_size
    if isinstance(X, Latents):
        time = X.time
    elif is_pynapple(X, "Tsd", "TsdFrame"):
        time = np.asarray(X.index.values, dtype=float)
    else:
        return np.arange(n_bins, dtype=float)
    return time / float(np.median(np.diff(time)))
