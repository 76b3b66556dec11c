"""R² of the constant that is known from the fitted part, the baseline of decoded behavior."""

from __future__ import annotations

import numpy as np

from kalmanssl.decoding._numeric_decoder import NumericDecoder
from kalmanssl.decoding.grids import marginal_predictives, wrap
from kalmanssl.utils.circular import deviations

__all__ = ["constant_r2"]


def constant_r2(decoder: NumericDecoder, truth: np.ndarray) -> float:
    """Compute R² of the mean of the behavior in the fitted part as prediction of all bins.

    It is at most zero, because R² compares with the mean of the scored bins. A decoder with a smaller R² is useless.

    Parameters
    ----------
    decoder : NumericDecoder
        Its occupancies have the mean.
    truth : (bins, dims)
        Known behavior.

    Returns
    -------
    float
        For all dimensions together, as `score_decoding`; NaN if the truth is constant.
    """
    occupancies = marginal_predictives(decoder.grids, [occupancy[None] for occupancy in decoder.occupancies])
    error = total = 0.0
    for values, occupancy, period in zip(truth.T, occupancies, decoder.periods, strict=True):
        error += float((wrap(values - occupancy.mean()[0], period) ** 2).sum())
        total += float((deviations(values, period) ** 2).sum())
    return 1 - error / total if total > 0 else float("nan")
