"""Selection of the settings of `KalmanSSL` by how well held-out activity is predicted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from kalmanssl.data import Recording, as_recording
from kalmanssl.errors import CollapseError, DivergenceError, InputError, first_line
from kalmanssl.estimator import KalmanSSL
from kalmanssl.selection._folds import Fold, folds_of_time
from kalmanssl.selection._prediction import activity_gain
from kalmanssl.selection._results import Selection
from kalmanssl.utils.validation import (
    check_condition,
    check_fraction,
    check_integer,
    check_not_negative,
    unknown_name_error,
)

__all__ = ["select"]


def select(
    recording: Recording,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    *,
    estimator: KalmanSSL | None = None,
    n_folds: int = 5,
    purge: float = 5.0,
    tolerance: float = 0.01,
    progress: bool = True,
) -> Selection:
    """Compare settings of `KalmanSSL` by how well their latents predict held-out activity.

    The recording is divided into `n_folds` blocks of time. Each candidate is fitted without a block (and without the
    time around it) and scored on the block, for each block in turn. The score is the predictive gain of the activity:
    the log-likelihood of the activity of each bin given the filtered latents of the bin before it, minus the
    log-likelihood given the mean activity, in nats per bin over all units. The activity is predicted from the latents
    by a generalized linear model that is fitted on the training part: Poisson with a logarithmic link for counts,
    Gaussian for a signal.

    What can be compared: every candidate predicts the same numbers, so scores of models with different latent and state
    dimensions, bins per step, entropies, encoders, noise models and training settings are on one scale. The objective
    (`KalmanSSL.score`) cannot be used for this, since its entropy term depends on the estimator, and a Gaussian entropy
    grows with redundant latents: it counts a function of another latent as new information. On simulated head-direction
    cells the held-out objective was 1.4 nats per bin with two latents and 2.2 with six, although two are enough; the
    predictive gain of the activity was 8.2 with both.

    What cannot be compared: candidates with another bin size, other units or another recording. The score tells how
    well the near future is predicted, not whether the latents are identifiable or decode a behavior well. Information
    that does not help to predict the next bin does not count.

    How well the true dimension is found (simulations of 200 s, candidates from 1 to 12 latents, default `tolerance`): 3
    and 6 dimensions with log-linear tuning and 2 for head direction were chosen correctly. For place cells on a track,
    12 latents were chosen, the most that were tried: the activity is not log-linear in the position, so the
    generalized linear model uses all additional functions of it. Candidates are compared as they are trained. With too
    few training steps more latents can be better because they are learned faster: 10 were chosen instead of 6 when the
    training had 75 steps.

    Parameters
    ----------
    recording : Recording or object of pynapple
        The training part only. What is held out later must not be used for choices.
    grid : dict of parameter name to values, or sequence of dicts
        A dict stands for all combinations of its values. Each dict of a sequence is one candidate, for settings that
        change together: ``[{"latent_dim": d, "state_dim": 2 * d} for d in (2, 4, 8)]``.
    estimator : KalmanSSL, optional
        Parameters that the candidates share; the default ones if not given. All candidates have the same random seed.
    n_folds : int
        Blocks of time, at least 2. Each candidate is fitted this many times.
    purge : float
        Time before and after the held-out block that is not used for training, seconds. It should be longer than
        activity and behavior are correlated.
    tolerance : float
        Candidates whose mean score is lower by at most this fraction of the best score count as equally good, and the
        smallest of them is chosen. With 0 only the standard error of the difference counts.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Selection
        `chosen` are the parameters of the smallest model that is about as good as the best;
        ``print(selection)`` shows all scores, `plot` draws them, and ``selection.estimator.fit(recording)`` fits the
        choice. A candidate whose training fails is not chosen and has its message in `failures`.

    Raises
    ------
    InputError
        If the recording, the grid or an option cannot be used.
    CollapseError, DivergenceError, InputError
        If all candidates fail; the error of the first one.

    Warns
    -----
    RuntimeWarning
        If it was interrupted by Ctrl-C. The scores so far are returned. Without any score, KeyboardInterrupt is raised.
    """
    recording = as_recording("recording", recording)
    check_integer("n_folds", n_folds, 2)
    check_not_negative("purge", purge)
    check_fraction("tolerance", tolerance)
    base = _base_estimator(estimator)
    candidates = _candidates(grid, base)
    folds = folds_of_time(recording, n_folds, purge)
    with _progress_bar(progress, len(candidates) * n_folds) as bar:
        selection = _Fits(base, candidates, folds).run(tolerance, bar)
    if not selection.complete:
        n_done = int(np.isfinite(selection.scores).sum())
        warnings.warn(
            f"interrupted: the scores of {n_done} of {selection.scores.size} fits are returned",
            RuntimeWarning,
            stacklevel=2,
        )
    return selection


class _Fits:
    """The fits of all candidates on all folds."""

    def __init__(self, base: KalmanSSL, candidates: tuple[dict[str, Any], ...], folds: Sequence[Fold]) -> None:
        self.base, self.candidates, self.folds = base, candidates, folds
        self.scores = np.full((len(candidates), len(folds)), np.nan)
        self.n_parameters = np.zeros(len(candidates), dtype=int)
        self.errors: dict[int, Exception] = {}

    def run(self, tolerance: float, bar: Any) -> Selection:
        """Fit and score until the end or until an interrupt, and return the scores."""
        complete = True
        try:
            # All candidates on one fold before the next fold, so that an interrupted selection can be used.
            for fold in range(len(self.folds)):
                for candidate in range(len(self.candidates)):
                    if candidate not in self.errors:
                        self._fit(candidate, fold)
                    if bar is not None:
                        bar.advance(bar.task_ids[0])
        except KeyboardInterrupt:
            if not np.isfinite(self.scores).any():
                raise
            complete = False
        if len(self.errors) == len(self.candidates):
            raise self.errors[0]
        failures = tuple(first_line(self.errors[i]) if i in self.errors else "" for i in range(len(self.candidates)))
        return Selection(self.candidates, self.scores, self.n_parameters, failures, self.base, tolerance, complete)

    def _fit(self, candidate: int, fold: int) -> None:
        training, held_out = self.folds[fold]
        model = clone(self.base).set_params(**self.candidates[candidate])
        try:
            score = activity_gain(model.fit(training), training, held_out)
            if not np.isfinite(score):
                raise DivergenceError(f"the predictive gain is {score}")
        except (CollapseError, DivergenceError, InputError) as error:
            self.errors[candidate] = error
        else:
            self.scores[candidate, fold] = score
            self.n_parameters[candidate] = sum(p.numel() for p in model.model_.parameters())


def _base_estimator(estimator: KalmanSSL | None) -> KalmanSSL:
    """Return a copy of the estimator that is not fitted, with a seed, and without progress bar and checkpoints."""
    if estimator is not None and not isinstance(estimator, KalmanSSL):
        raise InputError(f"estimator must be a KalmanSSL, got {type(estimator).__name__}", parameter="estimator")
    base = KalmanSSL() if estimator is None else clone(estimator)
    if base.random_state is None:
        base.set_params(random_state=int(np.random.default_rng().integers(2**31 - 1)))
    return base.set_params(progress=False, checkpoint_dir=None)


def _candidates(grid: Any, base: KalmanSSL) -> tuple[dict[str, Any], ...]:
    """Return the parameters of each candidate, after a check of their names."""
    is_sequence = isinstance(grid, Sequence) and all(isinstance(candidate, Mapping) for candidate in grid)
    if not isinstance(grid, Mapping) and not is_sequence:
        raise InputError(
            f"grid must be a dict of parameter name to values, or a sequence of dicts; got {grid!r}", parameter="grid"
        )
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            fine = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str) and len(values) > 0
            check_condition(f"grid[{name!r}]", values, fine, "a sequence of at least one value")
        candidates = tuple(dict(candidate) for candidate in ParameterGrid(dict(grid)))
    else:
        candidates = tuple(dict(candidate) for candidate in grid)
    if not candidates:
        raise InputError("grid has no candidates", parameter="grid")
    known = base.get_params(deep=False)
    for name in {name for candidate in candidates for name in candidate}:
        if name not in known:
            raise InputError(str(unknown_name_error("parameter of KalmanSSL", name, known)), parameter="grid")
    return candidates


def _progress_bar(shown: bool, total: int) -> Any:
    """Return a progress bar over all fits, or a context manager that returns None."""
    if not shown:
        return nullcontext()
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("select"), BarColumn(), MofNCompleteColumn(), TextColumn("fits"), TimeElapsedColumn())
    bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True))
    bar.add_task("select", total=total)
    return bar
