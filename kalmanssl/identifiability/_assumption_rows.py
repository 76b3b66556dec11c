"""Rows of the table of assumptions: thresholds with their justification, and a sentence for each verdict."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kalmanssl.identifiability._injectivity import FoldingEntropy, NeighborViolation
from kalmanssl.identifiability._report import Assumption, Threshold, Verdict, judge
from kalmanssl.identifiability._residual_statistics import Deviation

__all__ = [
    "constant_covariance",
    "covariance",
    "coverage",
    "degenerate",
    "folding",
    "gaussian",
    "injective",
    "jacobian",
    "white",
]

# L-kurtosis deviates by 0.02 for a Student t with 14 degrees of freedom, which is hard to distinguish from a Gaussian,
# and by 0.05 with 6 or 7 degrees of freedom, where the tails of the predictive distribution are clearly wrong.
GAUSSIAN = Threshold(0.02, 0.05)
# A variance that varies by 20 % is a standard deviation that varies by 10 %, which is common in recordings. With 50 %,
# variances two standard deviations apart differ by a factor of three.
CONSTANT_COVARIANCE = Threshold(0.2, 0.5)
# With a correlation of 0.1, 1 % of the residual variance is still predictable; with 0.3, a tenth.
WHITE = Threshold(0.1, 0.3)
# 95 % intervals cover 93 % if the variance is 1.15 times too large, and 89 % if it is 1.5 times too large (logarithms).
COVARIANCE = Threshold(float(np.log(1.15)), float(np.log(1.5)))
# Theorem 1 requires more than 0. If less than 2 % of the variance in a direction is predicted, the objective determines
# that direction less than estimation error does; below 0.1 % it is undetermined.
COVERAGE = Threshold(0.02, 1e-3, lower_is_worse=True)
# The same at single points, for standard deviations instead of variances: square roots of the above.
JACOBIAN = Threshold(0.14, 0.03, lower_is_worse=True)
# In videos of a dot, a map that is non-injective on a fifth of the frames gives 0.15 and one on all frames gives 2.
# Noise of the latents with a third of their standard deviation gives 0.23 for an injective map.
INJECTIVE = Threshold(0.05, 0.3)
# Standard errors. Below this value the data do not distinguish random frames, so non-injectivity cannot be detected.
CONTRAST = 5.0
# Nats. If a fraction p of the frames is mapped two to one, the entropy loss is p log 2: 7 % and 29 % of the frames.
FOLDING = Threshold(0.05, 0.2)
# Relative standard error of local slopes, above which their determinants are mostly noise.
SLOPE_ERROR = 0.3
# Single precision cannot resolve variance ratios below 1e-7. A ratio of 1e-3 is a standard deviation 30 times smaller.
DEGENERATE = Threshold(1e-3, 1e-6, lower_is_worse=True)


def gaussian(found: Deviation) -> Assumption:
    """Judge whether the residuals are Gaussian."""
    return _row(
        "gaussian",
        "prediction residuals are Gaussian",
        "largest deviation of L-skewness or L-kurtosis from Gaussian",
        found,
        GAUSSIAN,
        lambda verdict: (
            f"The largest deviation from Gaussian is {found.size:.3f} ({found.where}). Laplace noise would give 0.11."
        ),
    )


def constant_covariance(found: Deviation, model: float) -> Assumption:
    """Judge whether the residual covariance is constant; `model` is the variation that the model itself predicts."""
    if model > max(found.size - found.chance, 0.0):
        text = f"The model itself predicts variances that vary over time by {100 * model:.0f} % (standard deviation)."
        found = Deviation(model, 0.0, "predicted variance", found.numbers | {"residuals": found.size})
    else:
        text = (
            f"The expected variance changes by {100 * found.size:.0f} % (standard deviation, {found.where}) with the "
            "predicted mean or the previous residual."
        )
    return _row(
        "constant_covariance",
        "residual covariance is constant",
        "standard deviation of the expected variance over its mean",
        found,
        CONSTANT_COVARIANCE,
        lambda verdict: (
            text + ("" if verdict == "holds" else " The theorem does not cover noise that depends on the state.")
        ),
    )


def white(found: Deviation) -> Assumption:
    """Judge whether the residuals are independent of earlier residuals."""
    return _row(
        "white",
        "residuals are independent of earlier ones",
        "largest correlation with an earlier residual",
        found,
        WHITE,
        lambda verdict: (
            f"The largest correlation is {found.size:.3f} ({found.where})."
            + ("" if verdict == "holds" else " The predictor does not use all information of the past.")
        ),
    )


def covariance(found: Deviation) -> Assumption:
    """Judge whether the predicted covariance matches the residuals."""
    ratio, nis = found.numbers["worst_ratio"], found.numbers["nis"]
    return _row(
        "covariance",
        "the predicted covariance is correct",
        "largest |log| ratio of residual to predicted variance",
        found,
        COVARIANCE,
        lambda verdict: (
            f"The residual variance is {nis:.2f} times the predicted variance on average, and {ratio:.2f} times "
            "in the worst direction."
        ),
    )


def coverage(found: Deviation) -> Assumption:
    """Judge whether the predicted means span the latent space."""
    return _row(
        "coverage",
        "predicted means span the latent space",
        "smallest fraction of variance predicted in any direction",
        found,
        COVERAGE,
        lambda verdict: (
            f"In the least predictable direction {100 * found.size:.2f} % of the variance is predicted. The effective "
            f"number of predicted directions is {found.numbers['effective_rank']:.1f}."
        ),
    )


def jacobian(found: Deviation) -> Assumption:
    """Judge whether the prediction depends on the past in every direction."""
    return _row(
        "jacobian",
        "the Jacobian of the predictor has full rank",
        "smallest singular value (5th percentile over the data)",
        found,
        JACOBIAN,
        lambda verdict: (
            f"At 95 % of the points, the prediction changes in every direction by at least {found.size:.3g} standard "
            f"deviations per standard deviation of the past (minimum {found.numbers['minimum']:.2g}, median "
            f"{found.numbers['median']:.2g})."
        ),
    )


def folding(found: FoldingEntropy) -> Assumption:
    """Judge injectivity from the true latents."""
    shared = np.clip(found.nats / np.log(2), 0, 1)
    clear = found.slope_error <= SLOPE_ERROR
    return _row(
        "folding",
        "the encoder is injective on the true latents",
        "entropy lost by non-injectivity (nats)",
        Deviation(found.nats, 0.0, "", {"slope_error": found.slope_error}),
        FOLDING,
        lambda verdict: (
            f"Non-injectivity loses {found.nats:.3f} nats, as if {100 * shared:.0f} % of the frames were mapped two to "
            "one."
            if clear
            else "In some direction the latents depend too weakly on the true latents, or are too noisy, to test this "
            f"(relative error of slopes {found.slope_error:.2g})."
        ),
        None if clear else "doubtful",
    )


def injective(found: NeighborViolation) -> Assumption:
    """Judge injectivity from the data alone."""
    clear = found.contrast >= CONTRAST
    return _row(
        "injective",
        "times with the same latent have the same data",
        "data difference of latent neighbors (0: none, 1: as for random times)",
        Deviation(found.ratio, found.chance, "", {"contrast": found.contrast}),
        INJECTIVE,
        lambda verdict: (
            f"Beyond noise, the data at times with similar latents differ {max(found.ratio, 0.0):.3f} times as much as "
            "at random times (0: not at all, 1: as much)."
            if clear
            else "The data are too noisy to distinguish even random times, so this cannot be tested."
        ),
        None if clear else "doubtful",
    )


def degenerate(name: str, kind: str, found: Deviation) -> Assumption:
    """Judge whether a covariance has full rank."""
    return _row(
        name,
        f"the {kind} covariance is not degenerate",
        "smallest over largest eigenvalue, latents at unit variance",
        found,
        DEGENERATE,
        lambda verdict: f"The smallest eigenvalue is {found.size:.2g} of the largest.",
    )


def _row(
    name: str,
    statement: str,
    statistic: str,
    found: Deviation,
    threshold: Threshold,
    sentence: Callable[[Verdict], str],
    verdict: Verdict | None = None,
) -> Assumption:
    """Make one row; the verdict follows from the threshold unless it is given."""
    if verdict is None:
        verdict, reason = judge(found, threshold)
    else:
        reason = ""
    return Assumption(
        name=name,
        statement=statement,
        statistic=statistic,
        value=found.size,
        chance=found.chance,
        threshold=threshold,
        verdict=verdict,
        sentence=sentence(verdict) + reason,
        numbers=found.numbers,
    )
