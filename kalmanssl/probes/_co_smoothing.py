"""Co-smoothing: prediction of the spikes of units that the latents were inferred without."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.probes._bits_per_spike import BitsPerSpike, bits_per_spike, check_counts
from kalmanssl.utils.arrays import check_features
from kalmanssl.utils.poisson import poisson_regression
from kalmanssl.utils.validation import check_positive

__all__ = ["co_smoothing"]

_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)  # from strong to weak
_HELD_OUT = 0.2  # last part of the training bins, on which the penalty is chosen
_MAX_FEATURE = 5.0  # test features are clipped at this many standard deviations
_MIN_RATE = 1e-6  # events per bin, of a unit without spikes in the training bins


def co_smoothing(
    train: Any, train_counts: Any, test: Any, test_counts: Any, penalty: float | None = None
) -> BitsPerSpike:
    """Compute how well latents predict the spikes of held-out units in held-out bins, in bits per spike.

    A Poisson regression with a logarithmic link from the latents of a bin to the counts of each unit in the same bin is
    fitted on the training bins. The score compares it with the mean rate of each unit, see `bits_per_spike`. The
    latents must be inferred without the held-out units, by a model that was fitted without them;
    `kalmanssl.units.score_held_out_units` does all of this.

    Latents are standardized with the mean and the standard deviation of `train`, and those of `test` are clipped at
    five standard deviations.

    Parameters
    ----------
    train, test : (bins, dims)
        Latents, such as `Latents`; rows in order of time.
    train_counts, test_counts : (bins, units)
        Counts of the held-out units in the same bins.
    penalty : float, optional
        Weight of half the squared norm of the coefficients in the mean loss per bin. By default it is chosen from 1e-1,
        1e-2, 1e-3 and 1e-4 on the last fifth of the training bins, the same for all units.

    Returns
    -------
    BitsPerSpike

    Raises
    ------
    InputError
        If shapes do not match, values are NaN or infinite, counts are not whole numbers, or there are no spikes.

    References
    ----------
    Pei, Ye et al. (2021), Neural Latents Benchmark, arXiv 2109.04463. A model of the benchmark predicts
    the rates itself; here they are read out from its latents.
    """
    if penalty is not None:
        check_positive("penalty", penalty)
    x, x_test = (check_features(n, v, 10).astype(float) for n, v in (("train", train), ("test", test)))
    y, y_test = check_counts("train_counts", train_counts), check_counts("test_counts", test_counts)
    for name, count, features in (("train", y, x), ("test", y_test, x_test)):
        if len(count) != len(features):
            message = f"{name} has {len(features)} bins and {name}_counts {len(count)}: give the same bins"
            raise InputError(message, parameter=f"{name}_counts")
    if x.shape[1] != x_test.shape[1] or y.shape[1] != y_test.shape[1]:
        message = (
            f"train has {x.shape[1]} latents and {y.shape[1]} units, test {x_test.shape[1]} and {y_test.shape[1]}: "
            "use the same ones"
        )
        raise InputError(message, parameter="test")
    if not y.any():
        raise InputError("train_counts has no spikes: train on bins in which the units fire", parameter="train_counts")
    used = _choose_penalty(x, y) if penalty is None else penalty
    return bits_per_spike(_fit_and_predict(x, y, x_test, used), y_test)


def _choose_penalty(x: np.ndarray, y: np.ndarray) -> float:
    """Return the penalty with the highest log-likelihood of the last bins; stop at the first that is not better."""
    border = round((1 - _HELD_OUT) * len(x))
    best, best_value = _PENALTIES[0], -np.inf
    for penalty in _PENALTIES:
        rate = _fit_and_predict(x[:border], y[:border], x[border:], penalty)
        value = float((y[border:] * np.log(rate) - rate).sum())
        if value <= best_value:
            break
        best, best_value = penalty, value
    return best


def _fit_and_predict(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, penalty: float) -> np.ndarray:
    """Fit a Poisson regression to each unit and return the rates of the test bins (bins, units)."""
    mean, std = x.mean(axis=0), x.std(axis=0)
    std = np.where(std > 1e-7 * np.abs(mean), std, np.inf)  # latents that are constant up to rounding become zero
    features = np.column_stack([(x - mean) / std, np.ones(len(x))])
    test = np.column_stack([np.clip((x_test - mean) / std, -_MAX_FEATURE, _MAX_FEATURE), np.ones(len(x_test))])
    coefficients = poisson_regression(features, y, penalty, _MIN_RATE)
    return np.exp(np.clip(test @ coefficients, np.log(_MIN_RATE), 50.0))
