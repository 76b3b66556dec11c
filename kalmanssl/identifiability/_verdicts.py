"""The rows of the table of assumptions: thresholds with their reasons, and the sentence of each verdict."""

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

# L-kurtosis is off by 0.02 for a Student t with 14 degrees of freedom, which no reader would tell from a normal
# distribution, and by 0.05 with 6 or 7, where the tails of the predictive distribution are plainly wrong.
GAUSSIAN = Threshold(0.02, 0.05)
# A variance that goes up and down by 20 % is a noise level that does so by 10 %, about as much as drifts in any
# recording; at 50 % quiet and loud moments differ threefold within two standard deviations.
CONSTANT_COVARIANCE = Threshold(0.2, 0.5)
# A correlation of 0.1 leaves 1 % of the variance predictable, one of 0.3 a tenth: then the past was not used up.
WHITE = Threshold(0.1, 0.3)
# 95 % intervals cover 93 % at a variance 1.15 times too large, and 89 % at 1.5 times. On the logarithm.
COVARIANCE = Threshold(float(np.log(1.15)), float(np.log(1.5)))
# Theorem 1 asks for more than 0; a direction of which less than a fiftieth of the variance is predicted is fixed by so
# little of the objective that estimation error outweighs it, and below a thousandth it is free.
COVERAGE = Threshold(0.02, 1e-3, least=True)
# The same at single points, as standard deviations of the prediction per one of the past: square roots of the above.
JACOBIAN = Threshold(0.14, 0.03, least=True)
# In videos of a dot 0.15 are had by a fold that a fifth of the frames take part in and 2 by one that all do; a noise of
# the latents of a third of their spread gives 0.23 without any fold.
INJECTIVE = Threshold(0.05, 0.3)
# Standard errors: below, the data do not even tell random frames from each other, and no fold could be found in them.
CONTRAST = 5.0
# Nats: a share p of frames that fold two to one costs p log 2, so these are 7 % and 29 % of the frames.
FOLDING = Threshold(0.05, 0.2)
# Relative error of slopes, above which their determinants are mostly noise.
SLOPE_ERROR = 0.3
# Single precision cannot hold ratios of variance below 1e-7 apart; 1e-3 is a standard deviation 30 times smaller.
DEGENERATE = Threshold(1e-3, 1e-6, least=True)


def gaussian(found: Deviation) -> Assumption:
    """Row on the shape of the residuals."""
    return _row(
        "gaussian",
        "prediction residuals are Gaussian",
        "largest difference of an L-skewness or L-kurtosis from normal",
        found,
        GAUSSIAN,
        lambda verdict: (
            f"The shape differs from a normal one by {found.size:.3f} ({found.where}); Laplace noise would by 0.11."
        ),
    )


def constant_covariance(found: Deviation, model: float) -> Assumption:
    """Row on whether the noise is the same everywhere; `model` is by how much the model itself says it varies."""
    if model > max(found.size - found.chance, 0.0):
        said = f"The model itself predicts variances that differ between frames by {model:.0%} (standard deviation)."
        found = Deviation(model, 0.0, "predicted variance", found.numbers | {"residuals": found.size})
    else:
        said = (
            f"What was predicted, or the residual before, changes the expected variance by {found.size:.0%} "
            f"(standard deviation, {found.where})."
        )
    return _row(
        "constant_covariance",
        "their covariance is constant",
        "standard deviation of the expected variance over its mean",
        found,
        CONSTANT_COVARIANCE,
        lambda verdict: (
            said + ("" if verdict == "holds" else " The theorem does not cover noise that depends on state.")
        ),
    )


def white(found: Deviation) -> Assumption:
    """Row on whether the past is used up."""
    return _row(
        "white",
        "residuals are independent of earlier ones",
        "largest correlation with an earlier residual",
        found,
        WHITE,
        lambda verdict: (
            f"The largest correlation is {found.size:.3f} ({found.where})."
            + ("" if verdict == "holds" else " The predictor leaves something of the past unused.")
        ),
    )


def covariance(found: Deviation) -> Assumption:
    """Row on whether the residuals are as large as predicted."""
    ratio, nis = found.numbers["worst_ratio"], found.numbers["nis"]
    return _row(
        "covariance",
        "the predicted covariance is right",
        "largest |log| ratio of residual to predicted variance",
        found,
        COVARIANCE,
        lambda verdict: (
            f"Residuals have {nis:.2f} times the predicted variance overall (NIS), and {ratio:.2f} times in the worst "
            "direction."
        ),
    )


def coverage(found: Deviation) -> Assumption:
    """Row on whether the predicted means span the latent space."""
    return _row(
        "coverage",
        "predicted means span the latent space",
        "least share of a direction's variance that is predicted",
        found,
        COVERAGE,
        lambda verdict: (
            f"In the least predicted direction {found.size:.2%} of the variance is predicted; as if "
            f"{found.numbers['effective_rank']:.1f} directions were predicted equally well."
        ),
    )


def jacobian(found: Deviation) -> Assumption:
    """Row on whether the predictor is sensitive to the past in every direction."""
    return _row(
        "jacobian",
        "the predictor's Jacobian has full rank",
        "smallest singular value (5th percentile of the data)",
        found,
        JACOBIAN,
        lambda verdict: (
            f"At 95 % of the points the past moves the prediction in every direction by at least {found.size:.3g} "
            f"standard deviations per standard deviation (least {found.numbers['least']:.2g}, "
            f"median {found.numbers['median']:.2g})."
        ),
    )


def folding(found: FoldingEntropy) -> Assumption:
    """Row on folds, from true positions."""
    shared = np.clip(found.nats / np.log(2), 0, 1)
    clear = found.slope_error <= SLOPE_ERROR
    return _row(
        "folding",
        "the encoder is injective on true positions",
        "folding entropy (nats)",
        Deviation(found.nats, 0.0, "", {"slope_error": found.slope_error}),
        FOLDING,
        lambda verdict: (
            f"Folds cost {found.nats:.3f} nats, as if {shared:.0%} of frames shared their latent with another place."
            if clear
            else "In some direction the latents follow the position too weakly, or with too much noise, to tell folds "
            f"(relative error of slopes {found.slope_error:.2g})."
        ),
        None if clear else "doubtful",
    )


def injective(found: NeighborViolation) -> Assumption:
    """Row on folds, from the data alone."""
    clear = found.contrast >= CONTRAST
    return _row(
        "injective",
        "frames with the same latent look the same",
        "unlikeness of latent neighbors (0: none, 1: as random frames)",
        Deviation(found.share, found.chance, "", {"contrast": found.contrast}),
        INJECTIVE,
        lambda verdict: (
            f"Beyond noise, neighbors by latent differ in the data by {max(found.share, 0.0):.3f} of what random "
            "frames do (by fourth powers)."
            if clear
            else "The data are too noisy to tell even random frames from each other, so that no fold could be found."
        ),
        None if clear else "doubtful",
    )


def degenerate(name: str, kind: str, found: Deviation) -> Assumption:
    """Row on a covariance that should have full rank."""
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
    says: str,
    statistic: str,
    found: Deviation,
    threshold: Threshold,
    sentence: Callable[[Verdict], str],
    verdict: Verdict | None = None,
) -> Assumption:
    if verdict is None:
        verdict, reason = judge(found, threshold)
    else:
        reason = ""
    return Assumption(
        name, says, statistic, found.size, found.chance, threshold, verdict, sentence(verdict) + reason, found.numbers
    )
