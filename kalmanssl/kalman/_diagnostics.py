"""Tests of a model on the innovations of its filter.

If the model is right, the innovations are independent, with mean zero and the predicted covariance. Their normalized
squares test the size of the noise. Their autocorrelation tests how the noise is divided between the state and the
observations.

Bar-Shalom, Li & Kirubarajan, Estimation with Applications to Tracking and Navigation (2001), Section 5.4; Ljung & Box,
Biometrika 65 (1978) 297-303; for several channels Hosking, J. Am. Stat. Assoc. 75 (1980) 602-608.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kalmanssl.kalman._array_interface import unwrap_result
from kalmanssl.kalman._diagnostics_summary import table, verdict
from kalmanssl.kalman._innovation_statistics import (
    Whiteness,
    chi_square_tail,
    coverage,
    mean_square_interval,
    quantile,
    whiteness,
)
from kalmanssl.kalman._moments import INNOVATION_COV
from kalmanssl.kalman._results import FilterResult
from kalmanssl.kalman._tensor_checks import all_finite, check_tensor, name_shapes, wrong_shape, wrong_value
from kalmanssl.kalman._validation import check_mask
from kalmanssl.kalman._whitening import whiten
from kalmanssl.utils.validation import check_integer, check_number

__all__ = ["InnovationDiagnostics", "diagnose_innovations", "innovation_diagnostics"]


@dataclass(frozen=True)
class InnovationDiagnostics:
    """Comparison of the innovations with their predicted distribution; tensors in float64 on the CPU, detached.

    Attributes
    ----------
    level : float
        Probability that a statistic of the right model lies within its interval or bound.
    nis, degrees, nis_p_value : (batch, time)
        Normalized innovation squared v' S^-1 v of the observed channels; their number, which is its expectation and
        its chi-square degrees of freedom; the probability of a larger value. NaN (0 degrees) where nothing was
        observed.
    nis_mean : float
        Sum of `nis` over sum of `degrees`, expected to be 1; above 1 the filter is overconfident.
    nis_interval : (float, float)
        Interval of `nis_mean` at `level`.
    whitened : (batch, time, obs)
        Innovations times the inverse Cholesky factor of their covariance: independent and standard normal if the model
        is right. NaN where missing.
    count : (obs,)
        Number of observed values of each channel.
    bias, bias_bound : (obs,)
        Mean of the whitened innovations, and the bound of its absolute value at `level`.
    variance_ratio : (obs,)
        Mean square of the innovation of a channel over its predicted variance, expected to be 1.
    correlation, correlation_bound : (lags, obs, obs)
        Correlations of the whitened innovations at lags 1, 2, …: of the row's channel with the column's channel at the
        earlier step; and the bound of each absolute value at `level`. Only pairs of observed values are used.
    ljung_box, ljung_box_p_value : (obs,)
        Portmanteau statistic of the autocorrelations of each channel, chi-square with `lags` degrees of freedom.
    portmanteau, portmanteau_degrees : float, int
        The same for all channels and pairs of channels together.
    nis_mean_p_value, whiteness_p_value, bias_p_value : float
        p-values of `nis_mean` (two-sided), `portmanteau`, and all of `bias`.
    coverage, coverage_margin : (3, obs)
        Share of the observations within the central 50, 80 and 95 % interval of their one-step prediction, and the
        bound of its deviation at `level`.
    coverage_all, coverage_all_margin : (3,)
        The same for all channels together, without the assumption that channels of one step are independent.
    pit : (batch, time, obs)
        Probability integral transform: the predictive distribution function at each observation, uniform between 0 and
        1 if the model is right. NaN where missing.
    """

    level: float
    nis: Tensor
    degrees: Tensor
    nis_p_value: Tensor
    nis_mean: float
    nis_interval: tuple[float, float]
    nis_mean_p_value: float
    whitened: Tensor
    count: Tensor
    bias: Tensor
    bias_bound: Tensor
    bias_p_value: float
    variance_ratio: Tensor
    correlation: Tensor
    correlation_bound: Tensor
    ljung_box: Tensor
    ljung_box_p_value: Tensor
    portmanteau: float
    portmanteau_degrees: int
    whiteness_p_value: float
    coverage: Tensor
    coverage_margin: Tensor
    coverage_all: Tensor
    coverage_all_margin: Tensor
    pit: Tensor

    @property
    def autocorrelation(self) -> Tensor:
        """Autocorrelation (lags, obs) of each channel at lags 1, 2, …."""
        return self.correlation.diagonal(dim1=-2, dim2=-1)

    @property
    def consistent(self) -> bool:
        """Whether the tests of size, whiteness and bias of the innovations all pass, at `level` for the three."""
        return min(self.nis_mean_p_value, self.whiteness_p_value, self.bias_p_value) >= (1 - self.level) / 3

    def verdict(self) -> str:
        """Return a sentence on which tests fail, how large the deviations are, and which parameter to check."""
        return verdict(self)

    def summary(self) -> str:
        """Return a table of all statistics beside their expected values, with the verdict."""
        return table(self)


def innovation_diagnostics(result: FilterResult, *, lags: int = 20, level: float = 0.95) -> InnovationDiagnostics:
    """Test whether the innovations of a filter are white and Gaussian with the predicted covariance.

    Parameters
    ----------
    result : FilterResult
        Result of `kalman_filter`; also `kalman_smoother(…).filter`.
    lags : int
        Number of lags for autocorrelation, at most the number of steps minus 1.
    level : float
        Level of the intervals and of the tests, between 0 and 1.

    Returns
    -------
    InnovationDiagnostics
        Statistics with their bounds; `print(diagnostics.summary())` shows them.

    Raises
    ------
    InputError
        If an argument has a wrong type or value, or nothing was observed.

    Notes
    -----
    The intervals assume parameters that were not fitted to the same data. A fitted model passes too easily on its
    training data: fit on one part and test on another. In a long recording the tests reject every model; `verdict`
    tells whether the deviations are large.

    References
    ----------
    Bar-Shalom, Li & Kirubarajan, Estimation with Applications to Tracking and Navigation (2001), Section 5.4.

    Examples
    --------
    >>> import torch
    >>> from kalmanssl.kalman import kalman_filter, sample_prior
    >>> one = torch.ones(1, 1)
    >>> model = {"A": 0.9 * one, "Q": torch.ones(1), "C": one, "R": torch.ones(1)}
    >>> drawn = sample_prior(4, 500, **model, generator=torch.Generator().manual_seed(0))
    >>> innovation_diagnostics(kalman_filter(drawn.observations, **model)).consistent
    True
    >>> wrong = innovation_diagnostics(kalman_filter(drawn.observations, **{**model, "R": 4 * torch.ones(1)}))
    >>> wrong.nis_mean < wrong.nis_interval[0]
    True
    """
    result = unwrap_result(result)
    if not isinstance(result, FilterResult):
        raise wrong_value(
            "result",
            f"expected a FilterResult of kalman_filter, got {type(result).__name__}; "
            "for tensors use diagnose_innovations",
        )
    mask = result.mask
    if mask is not None:
        mask = mask.expand_as(result.innovation)
    return diagnose_innovations(result.innovation, result.innovation_cov, mask, lags=lags, level=level)


def diagnose_innovations(
    innovation: Tensor, innovation_cov: Tensor, mask: Tensor | None = None, *, lags: int = 20, level: float = 0.95
) -> InnovationDiagnostics:
    """Test whether innovations of any filter are white and Gaussian with the predicted covariance.

    Parameters
    ----------
    innovation : (batch, time, obs)
        Observations minus their one-step predictions.
    innovation_cov : (batch, time, obs, obs)
        Covariance of these predictions, observation noise included; rows and columns of missing channels are not used.
    mask : (batch, time, obs) or (batch, time), optional
        True where observed. Values of `innovation` elsewhere are ignored.
    lags, level
        As for `innovation_diagnostics`.

    Returns
    -------
    InnovationDiagnostics
        Statistics with their bounds.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value, or nothing was observed.
    NotPositiveDefiniteError
        If an innovation covariance is not positive definite (a subclass of `InputError`).
    """
    check_integer("lags", lags, 1)
    check_number("level", level)
    if not 0 < level < 1:
        raise wrong_value("level", f"expected a number between 0 and 1, got {level!r}")
    innovation, cov, seen = _check(innovation, innovation_cov, mask)
    shared = slice(1 if cov.stride(0) == 0 and bool((seen == seen[:1]).all()) else None)
    whitened = whiten(innovation, cov[shared], mask=seen[shared], name=INNOVATION_COV)
    count = seen.sum((0, 1)).double()
    if not all_finite(whitened.square()):
        raise wrong_value("innovation", "overflows when it is divided by its predicted standard deviation")
    bias = whitened.sum((0, 1)) / count
    standardized = innovation / cov.diagonal(dim1=-2, dim2=-1).sqrt()
    z = quantile(level)
    covered = coverage(standardized, seen, z)
    return InnovationDiagnostics(
        level=level,
        whitened=_or_nan(seen, whitened),
        count=count.long(),
        bias=bias,
        bias_bound=z / count.sqrt(),
        bias_p_value=float(chi_square_tail((count * bias.square()).nansum(), (count > 0).sum())),
        variance_ratio=standardized.square().sum((0, 1)) / count,
        coverage=covered.by_channel,
        coverage_margin=covered.by_channel_margin,
        coverage_all=covered.overall,
        coverage_all_margin=covered.overall_margin,
        pit=_or_nan(seen, torch.special.ndtr(standardized)),
        **_size_fields(whitened, seen, level),
        **_whiteness_fields(whiteness(whitened, seen, bias, min(lags, innovation.shape[1] - 1)), z),
    )


def _size_fields(whitened: Tensor, seen: Tensor, level: float) -> dict[str, Any]:
    """Normalized squares of the innovations, and the test of their mean."""
    nis, degrees = whitened.square().sum(-1), seen.sum(-1)
    total = degrees.sum()
    larger = chi_square_tail(nis.sum(), total)
    return {
        "nis": _or_nan(degrees > 0, nis),
        "degrees": degrees,
        "nis_p_value": _or_nan(degrees > 0, chi_square_tail(nis, degrees)),
        "nis_mean": float(nis.sum() / total),
        "nis_interval": mean_square_interval(int(total), level),
        "nis_mean_p_value": 2 * float(torch.minimum(larger, 1 - larger)),
    }


def _whiteness_fields(found: Whiteness, z: float) -> dict[str, Any]:
    """Correlations of the innovations, and the tests of them."""
    return {
        "correlation": found.correlation,
        "correlation_bound": z / found.pairs.sqrt(),
        "ljung_box": found.statistic,
        "ljung_box_p_value": chi_square_tail(found.statistic, found.degrees),
        "portmanteau": float(found.portmanteau),
        "portmanteau_degrees": int(found.portmanteau_degrees),
        "whiteness_p_value": float(chi_square_tail(found.portmanteau, found.portmanteau_degrees)),
    }


def _or_nan(usable: Tensor, values: Tensor) -> Tensor:
    """The values, NaN where not usable."""
    return torch.where(usable, values, torch.nan)


def _check(innovation: Tensor, cov: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Innovations with zeros where missing, their covariances, and the full mask; in float64 on the CPU."""
    innovation, cov = check_tensor("innovation", innovation, None), check_tensor("innovation_cov", cov, None)
    with name_shapes(innovation=innovation, innovation_cov=cov):
        if innovation.ndim != 3 or 0 in innovation.shape:
            raise wrong_shape("innovation", f"expected (batch, time, obs), got {tuple(innovation.shape)}")
        if cov.shape != (*innovation.shape, innovation.shape[-1]):
            raise wrong_shape("innovation_cov", f"expected (batch, time, obs, obs), got {tuple(cov.shape)}")
    seen = (
        torch.ones(innovation.shape, dtype=torch.bool) if mask is None else check_mask(mask, innovation, "innovation")
    )
    innovation, cov, seen = innovation.detach().double().cpu(), cov.detach().double().cpu(), seen.cpu()
    if not bool(seen.any()):
        raise wrong_value("mask", "nothing is observed, so that there is nothing to test")
    filled = torch.where(seen, innovation, innovation.new_zeros(()))
    if not bool(torch.isfinite(filled).all()):
        batch, time, channel = (int(i) for i in (~torch.isfinite(filled)).nonzero()[0])
        raise wrong_value(
            "innovation", f"not finite at batch {batch}, time {time}, channel {channel}; pass a mask for missing values"
        )
    return filled, cov, seen
