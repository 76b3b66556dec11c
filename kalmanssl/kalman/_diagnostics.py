"""Does the model fit the data? What the innovations of the filter say about it.

With the right model the innovations are independent of each other, with mean zero and the covariance that the filter
predicts. Their normalized squares tell whether the noise has the right size, their autocorrelation whether it is shared
out rightly between the state and the observations, and both together where to look.

Bar-Shalom, Li & Kirubarajan, Estimation with Applications to Tracking and Navigation (2001), Section 5.4; Ljung & Box,
Biometrika 65 (1978) 297-303, for several channels Hosking, J. Am. Stat. Assoc. 75 (1980) 602-608.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from kalmanssl.kalman._diagnostics_summary import table, verdict
from kalmanssl.kalman._linalg import safe_cholesky
from kalmanssl.kalman._moments import INNOVATION_COV
from kalmanssl.kalman._results import FilterResult
from kalmanssl.kalman._validation import check_mask, check_tensor, name_shapes, wrong_shape, wrong_value
from kalmanssl.utils.validation import check_whole

__all__ = ["InnovationDiagnostics", "diagnose_innovations", "innovation_diagnostics"]

COVERAGE_LEVELS = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class InnovationDiagnostics:
    """How the innovations compare with what the filter expected of them; tensors in float64 on the CPU, detached.

    Attributes
    ----------
    level : float
        How often a statistic of the right model lies within the interval or bound that is given for it.
    nis, degrees, nis_p_value : (batch, time)
        Normalized innovation squared v' S^-1 v of the observed channels; how many these are, which is its expectation
        and its degrees of freedom as a chi-square; the probability of a larger one. NaN (0 degrees) where nothing was
        observed.
    nis_mean : float
        Sum of `nis` over sum of `degrees`, expected to be 1: above, the filter is surer than it may be.
    nis_interval : (float, float)
        Where it should lie.
    whitened : (batch, time, obs)
        Innovations times the inverse Cholesky factor of their covariance: independent and standard normal if the model
        is right. NaN where missing.
    count : (obs,)
        How many values of a channel were observed.
    bias, bias_bound : (obs,)
        Mean of the whitened innovations, in standard deviations, and the size that it should stay below.
    variance_ratio : (obs,)
        Mean square of a channel's innovation over its predicted variance, expected to be 1.
    correlation, correlation_bound : (lags, obs, obs)
        Of the whitened innovations about their means, at lags 1, 2, …: of the row's channel with the column's that much
        earlier, and the size that each should stay below. Pairs of which one is missing do not count.
    ljung_box, ljung_box_p_value : (obs,)
        Portmanteau statistic of each channel's autocorrelations, chi-square with `lags` degrees of freedom.
    portmanteau, portmanteau_degrees : float, int
        The same for all channels and pairs of channels together.
    nis_mean_p_value, whiteness_p_value, bias_p_value : float
        Of `nis_mean` (two-sided), `portmanteau`, and all of `bias`.
    coverage, coverage_margin : (3, obs)
        Share of the observations within the central 50, 80 and 95 % interval of their one-step prediction, and how far
        it may be off.
    coverage_all, coverage_all_margin : (3,)
        The same of all channels together; channels of one step are not taken to be independent.
    pit : (batch, time, obs)
        Predictive distribution function at each observation, uniform between 0 and 1 if the model is right. NaN where
        missing.
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
        """Correlation of each channel with itself at lags 1, 2, …, (lags, obs)."""
        return self.correlation.diagonal(dim1=-2, dim2=-1)

    @property
    def consistent(self) -> bool:
        """Whether size, whiteness and bias of the innovations are all as they should be, at `level` for the three."""
        return min(self.nis_mean_p_value, self.whiteness_p_value, self.bias_p_value) >= (1 - self.level) / 3

    def verdict(self) -> str:
        """Return in words what fits, what does not, by how much it matters, and where to look."""
        return verdict(self)

    def summary(self) -> str:
        """Return a table of what was found beside what was to be expected, with the verdict."""
        return table(self)


def innovation_diagnostics(result: FilterResult, *, lags: int = 20, level: float = 0.95) -> InnovationDiagnostics:
    """Check a model by the innovations of its filter.

    Parameters
    ----------
    result : FilterResult
        What `kalman_filter` gave; also `kalman_smoother(…).filter`.
    lags : int
        How many lags to look at for autocorrelation; fewer where sequences are shorter.
    level : float
        Of the intervals and of the tests, between 0 and 1.

    Returns
    -------
    InnovationDiagnostics
        Statistics with their bounds; `print(….summary())` shows them.

    Raises
    ------
    ValueError
        If an argument has a wrong type or value, or nothing was observed.

    Notes
    -----
    The intervals are for parameters known beforehand. Fitted to the same data, a model does better than they say: fit
    on one part and look at another. In a long recording every model is found to be wrong; `verdict` says whether it
    matters.

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
    """Check a model by innovations, from whatever filter.

    Parameters
    ----------
    innovation : (batch, time, obs)
        Observations minus their one-step predictions.
    innovation_cov : (batch, time, obs, obs)
        Covariance of these predictions, observation noise included; rows and columns of missing channels are not used.
    mask : (batch, time, obs) or (batch, time), optional
        True where observed; what `innovation` holds elsewhere has no influence.
    lags, level
        As for `innovation_diagnostics`.

    Returns
    -------
    InnovationDiagnostics
        As `innovation_diagnostics` gives.

    Raises
    ------
    ValueError
        If an argument has a wrong type, shape or value, or nothing was observed.
    NotPositiveDefiniteError
        If an innovation covariance is not positive definite (a subclass of ValueError).
    """
    check_whole("lags", lags, 1)
    if not 0 < level < 1:
        raise wrong_value("level", f"expected a number between 0 and 1, got {level!r}")
    innovation, cov, seen = _check(innovation, innovation_cov, mask)
    lags = min(lags, innovation.shape[1] - 1)
    quantile = _quantile(level)

    eye = torch.eye(cov.shape[-1], dtype=cov.dtype)
    pairs = seen[..., None] & seen[..., None, :]
    if cov.stride(0) == 0 and bool((seen == seen[:1]).all()):
        cov, pairs = cov[:1], pairs[:1]
    # A missing channel is made independent of the others, with an innovation of 0: then it adds nothing.
    factor = safe_cholesky(torch.where(pairs, cov, eye), INNOVATION_COV)
    whitened = torch.linalg.solve_triangular(factor, innovation[..., None], upper=False)[..., 0]
    nis, degrees, count = whitened.square().sum(-1), seen.sum(-1), seen.sum((0, 1)).double()
    total = degrees.sum()
    larger = _survival(nis.sum(), total)

    bias = whitened.sum((0, 1)) / count
    correlation, weight = _correlation(whitened, seen, bias, lags)
    # The variance of an estimate from n values is 1 / pairs between channels, and within one (n + 2) / n times less.
    scale = weight * (1 + 2 / count.clamp_min(1) * eye)
    each = (scale * correlation.square()).sum(0)
    ljung_box, ljung_box_degrees = each.diagonal(), (weight > 0).sum(0).diagonal()
    portmanteau, portmanteau_degrees = each.sum(), (weight > 0).sum()

    standard = innovation / cov.diagonal(dim1=-2, dim2=-1).sqrt()
    coverage = _coverage(standard, seen, quantile)
    missing = torch.tensor(float("nan"), dtype=torch.float64)
    return InnovationDiagnostics(
        level=level,
        nis=torch.where(degrees > 0, nis, missing),
        degrees=degrees,
        nis_p_value=torch.where(degrees > 0, _survival(nis, degrees), missing),
        nis_mean=float(nis.sum() / total),
        nis_interval=_interval(int(total), level),
        nis_mean_p_value=2 * float(torch.minimum(larger, 1 - larger)),
        whitened=torch.where(seen, whitened, missing),
        count=count.long(),
        bias=bias,
        bias_bound=quantile / count.sqrt(),
        bias_p_value=float(_survival((count * bias.square()).nansum(), (count > 0).sum())),
        variance_ratio=standard.square().sum((0, 1)) / count,
        correlation=torch.where(weight > 0, correlation, missing),
        correlation_bound=quantile / weight.sqrt(),
        ljung_box=ljung_box,
        ljung_box_p_value=_survival(ljung_box, ljung_box_degrees),
        portmanteau=float(portmanteau),
        portmanteau_degrees=int(portmanteau_degrees),
        whiteness_p_value=float(_survival(portmanteau, portmanteau_degrees)),
        coverage=coverage[0],
        coverage_margin=coverage[1],
        coverage_all=coverage[2],
        coverage_all_margin=coverage[3],
        pit=torch.where(seen, torch.special.ndtr(standard), missing),
    )


def _check(innovation: Tensor, cov: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Innovations with zeros where missing, their covariances, and what is observed; in float64 on the CPU."""
    check_tensor("innovation", innovation, None)
    check_tensor("innovation_cov", cov, None)
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
        raise wrong_value("mask", "nothing is observed, so that there is nothing to check")
    filled = torch.where(seen, innovation, innovation.new_zeros(()))
    if not bool(torch.isfinite(filled).all()):
        batch, time, channel = (int(i) for i in (~torch.isfinite(filled)).nonzero()[0])
        raise wrong_value(
            "innovation", f"not finite at batch {batch}, time {time}, channel {channel}; mask what is missing"
        )
    return filled, cov, seen


def _correlation(whitened: Tensor, seen: Tensor, mean: Tensor, lags: int) -> tuple[Tensor, Tensor]:
    """Correlations (lags, obs, obs) of a channel with one earlier, and from how many pairs each was had."""
    observed = seen.to(whitened.dtype)
    centered = torch.where(seen, whitened - mean, whitened.new_zeros(()))
    spread = (centered.square().sum((0, 1)) / observed.sum((0, 1)).clamp_min(1)).sqrt()
    size = spread[:, None] * spread
    correlation = whitened.new_zeros(lags, len(mean), len(mean))
    weight = torch.zeros_like(correlation)
    for k in range(1, lags + 1):
        now, before = (x.flatten(0, 1) for x in (centered[:, k:], centered[:, :-k]))
        weight[k - 1] = observed[:, k:].flatten(0, 1).mT @ observed[:, :-k].flatten(0, 1)
        used = (weight[k - 1] > 0) & (size > 0)
        weight[k - 1] *= used
        correlation[k - 1] = torch.where(used, now.mT @ before / (weight[k - 1] * size), 0.0)
    return correlation, weight


def _coverage(standard: Tensor, seen: Tensor, quantile: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coverage (3, obs) and its margin, and of all channels (3,) and its margin."""
    count = seen.sum((0, 1)).double()
    levels = torch.tensor(COVERAGE_LEVELS, dtype=standard.dtype)
    within = torch.stack([(standard.abs() <= _quantile(level)) & seen for level in COVERAGE_LEVELS]).to(standard.dtype)
    each = within.sum((1, 2)) / count
    each_margin = quantile * (levels * (1 - levels))[:, None].sqrt() / count.sqrt()
    total = int(count.sum())
    # Steps are independent of each other if the model is right, their channels are not.
    surplus = within.sum(-1) - levels[:, None, None] * seen.sum(-1)
    return each, each_margin, within.sum((1, 2, 3)) / total, quantile * surplus.square().sum((1, 2)).sqrt() / total


def _quantile(level: float) -> float:
    """How many standard deviations the central interval of a normal distribution reaches to either side."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def _survival(statistic: Tensor, degrees: Tensor) -> Tensor:
    """Probability that a chi-square is larger; 1 where it has no degrees of freedom."""
    half = 0.5 * degrees.to(statistic.dtype)
    larger = torch.special.gammaincc(half.clamp_min(0.5), 0.5 * statistic)
    return torch.where(degrees > 0, larger, torch.ones_like(larger))


def _interval(degrees: int, level: float) -> tuple[float, float]:
    """Where a chi-square over its degrees of freedom lies at a level."""
    from scipy.special import chdtri  # here, since whoever only filters need not load it

    return float(chdtri(degrees, 0.5 + level / 2)) / degrees, float(chdtri(degrees, 0.5 - level / 2)) / degrees
