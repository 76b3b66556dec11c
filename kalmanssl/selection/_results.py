"""The result of a selection: the scores of all candidates, and the choice with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from kalmanssl.estimator import KalmanSSL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Selection"]


@dataclass(frozen=True, eq=False)
class Selection:
    """Scores of the candidates of `kalmanssl.select`, and the choice among them.

    Attributes
    ----------
    candidates : tuple of dict
        Parameters of each candidate.
    scores : (candidates, folds)
        Predictive gain of each fold, nats per bin; NaN where a fit failed or was not done.
    n_parameters : (candidates,) int
        Number of trainable parameters of each model; 0 if no fit of it succeeded.
    failures : tuple of str
        Message of the first fit that failed of each candidate, else empty.
    base : KalmanSSL
        Estimator, not fitted, with the parameters that all candidates share.
    tolerance : float
        Candidates whose mean score is lower by at most this fraction of the best one count as equally good.
    complete : bool
        False if the selection was interrupted.
    """

    candidates: tuple[dict[str, Any], ...]
    scores: np.ndarray
    n_parameters: np.ndarray
    failures: tuple[str, ...]
    base: KalmanSSL
    tolerance: float = 0.01
    complete: bool = True

    @property
    def mean(self) -> np.ndarray:
        """Mean score of each candidate over the folds (candidates,), NaN for those that failed or were not fitted.

        After an interrupt, only the folds that all candidates have finished count, or the first one if there is none.
        """
        return self._used.mean(1)

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of `mean` (candidates,); NaN with a single fold."""
        return _standard_error(self._used)

    @property
    def difference(self) -> np.ndarray:
        """Mean score minus that of the best candidate (candidates,), at most 0."""
        return self.mean - self.mean[self.best_index]

    @property
    def difference_standard_error(self) -> np.ndarray:
        """Standard error of `difference` over the folds (candidates,).

        It is usually smaller than `standard_error`, because all candidates have the same easy and difficult folds.
        """
        return _standard_error(self._used - self._used[self.best_index])

    @property
    def best_index(self) -> int:
        """Index of the candidate with the highest mean score."""
        return int(np.nanargmax(self.mean))

    @property
    def chosen_index(self) -> int:
        """Index of the smallest candidate that is about as good as the best.

        Its mean score is lower by at most one standard error of the difference, or by at most `tolerance` of the best
        score: a small difference can be reliable and still not be worth more latents. The smallest candidate is the one
        with the fewest parameters, and the one with the highest score if there are several. Source: the
        one-standard-error rule of Breiman et al., Classification and Regression Trees (1984), section 3.4.3, with the
        error of the paired differences.
        """
        margin = np.nan_to_num(self.difference_standard_error)
        margin = np.maximum(margin, self.tolerance * abs(self.mean[self.best_index]))
        as_good = np.flatnonzero(-self.difference <= margin)
        return int(min(as_good, key=lambda i: (self.n_parameters[i], -self.mean[i])))

    @property
    def best(self) -> dict[str, Any]:
        """Parameters of the candidate with the highest mean score."""
        return dict(self.candidates[self.best_index])

    @property
    def chosen(self) -> dict[str, Any]:
        """Parameters of the smallest candidate that is about as good as the best, see `chosen_index`."""
        return dict(self.candidates[self.chosen_index])

    @property
    def estimator(self) -> KalmanSSL:
        """A new estimator with the parameters `chosen`, not fitted: ``selection.estimator.fit(recording)``."""
        return clone(self.base).set_params(**self.chosen)

    def table(self) -> list[dict[str, Any]]:
        """Return one dict per candidate with its parameters, scores (nats per bin), size and failure, best first."""
        columns = {
            "mean": self.mean,
            "standard_error": self.standard_error,
            "difference": self.difference,
            "difference_standard_error": self.difference_standard_error,
        }
        return [
            {
                **self.candidates[i],
                **{name: float(values[i]) for name, values in columns.items()},
                "n_parameters": int(self.n_parameters[i]),
                "chosen": int(i) == self.chosen_index,
                "failure": self.failures[i],
            }
            for i in self._order
        ]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the difference of each candidate from the best one with its standard error, and mark the choice.

        Parameters
        ----------
        ax : Axes, optional
            See `kalmanssl.plotting.plot_selection`.
        """
        from kalmanssl.plotting import plot_selection

        return plot_selection(
            self.candidates, self.difference, self.difference_standard_error, self.chosen_index, ax=ax
        )

    def __str__(self) -> str:
        """Return the table as text, with the chosen candidate marked."""
        lines = [] if self.complete else ["interrupted: not all fits were done"]
        lines.append("  difference from the best, mean (nats per bin), candidate")
        for row, i in zip(self.table(), self._order, strict=True):
            settings = ", ".join(f"{name}={value!r}" for name, value in self.candidates[i].items())
            if np.isnan(row["mean"]):
                lines.append(f"  {row['failure'] or 'not fitted'}  {settings}")
                continue
            mark = "*" if row["chosen"] else " "
            difference = f"{row['difference']:8.3f} ± {np.nan_to_num(row['difference_standard_error']):.3f}"
            lines.append(f"{mark} {difference}  {row['mean']:8.3f}  {settings}")
        return "\n".join(lines)

    @property
    def _order(self) -> np.ndarray:
        """Indices of the candidates (candidates,), the highest mean score first and those without scores last."""
        return np.argsort(-self.mean, kind="stable")

    @property
    def _used(self) -> np.ndarray:
        """The scores of the folds that count (candidates, folds)."""
        failed = np.array([bool(message) for message in self.failures])
        scores = np.where(failed[:, None], np.nan, self.scores)
        finished = np.isfinite(scores[~failed]).all(0)
        return scores[:, finished] if finished.any() else scores[:, :1]


def _standard_error(scores: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean over the last axis, NaN for a single value."""
    n = scores.shape[-1]
    return scores.std(-1, ddof=1) / np.sqrt(n) if n > 1 else np.full(scores.shape[:-1], np.nan)
