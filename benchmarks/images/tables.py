"""Tables of the results, and the effect of mutual information compared with that of the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from pages import mean_and_sd
from results_store import Results
from scipy.stats import t as student

from images.baselines import BASELINES
from images.categories import CATEGORIES
from images.combinations import COMBINATIONS, PARTNERS
from images.timing import TIMED

__all__ = [
    "COLUMNS", "INTRODUCTION", "Difference", "category_lines", "difference_lines", "differences", "scores", "table",
    "timing_lines", "verdict",
]  # fmt: skip

COLUMNS = (
    "combination",
    "linear probe",
    "kNN probe",
    "published",
    "dimensions: variance > 1e-3, > 1 % of the largest",
    "participation ratio",
    "fit (CPU s)",
    "step: encoder, objective (ms)",
)
INTRODUCTION = (
    "Accuracy on test images of probes on the features of images without augmentation: logistic regression, and a vote "
    "of twenty nearest neighbors, both fitted on training images. Mean ± standard deviation over seeds. Published: "
    "linear probe on CIFAR-10 with ResNet-18 after 1000 epochs (LDM paper, Table A1); with a smaller encoder only the "
    "differences between methods are comparable. Dimensions: number of eigenvalues λ of the covariance of the latents "
    "above 1e-3 (as in the paper; it depends on the scale of the latents), and above a hundredth of the largest one; "
    "participation ratio: (Σλ)² / Σλ². A step is forward and backward for both views."
)
CATEGORY_COLUMNS = ("categories", "accuracy", "best matching", "categories used", "entropy of an image (bits)")


def scores(results: Results, name: str) -> dict[int, float]:
    """Return the accuracy of the linear probe of a combination for each seed."""
    return {row["seed"]: row["linear_probe"] for row in results.good("combinations", name)}


def table(results: Results) -> list[tuple[str, ...]]:
    """Return the rows of the main table as text, see `COLUMNS`: combinations, baselines, failed runs."""
    lines: list[tuple[str, ...]] = []
    for name, one in COMBINATIONS.items():
        rows = results.good("combinations", name)
        if rows:
            published = "" if one.published is None else f"{one.published:.4f}"
            lines.append((name, *_accuracy(rows), published, *_dimensions_and_costs(rows)))
    for name in BASELINES:
        rows = results.good("baselines", name)
        if rows:
            lines.append((name, *_accuracy(rows), "", "", "", "", ""))
    for row in results.rows.values():
        if "failed" in row and row["part"] != "timing":
            lines.append((f"{row['combination']}, seed {row['seed']}", row["failed"], *[""] * 6))
    return lines


def _accuracy(rows: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the accuracies of both probes as text."""
    return mean_and_sd([row["linear_probe"] for row in rows]), mean_and_sd([row["knn_probe"] for row in rows])


def _dimensions_and_costs(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the dimensions, the time of a fit and the time of a step as text."""

    def mean(what: str, scale: float = 1.0) -> float:
        return scale * float(np.mean([row[what] for row in rows]))

    return (
        f"{mean('effective_dimension'):.0f}, {mean('above_share'):.0f}",
        f"{mean('participation_ratio'):.1f}",
        f"{mean('fit_s'):.0f}",
        f"{mean('encoder_step_s', 1000):.1f}, {mean('objective_step_s', 1000):.1f}",
    )


class Difference:
    """The effect of mutual information in one pair of combinations.

    Attributes
    ----------
    name : str
        Name of the combination without mutual information.
    value : float
        Linear probe with mutual information minus that without it, mean over the seeds that both have.
    seeds : int
        Number of these seeds.
    deviation : float or None
        Pooled standard deviation of the linear probes over seeds; None with a single seed.
    published : float or None
        The difference in the paper.
    """

    def __init__(self, results: Results, name: str) -> None:
        one = COMBINATIONS[name]
        assert one.partner is not None
        without, with_it = scores(results, name), scores(results, one.partner)
        common = sorted(without.keys() & with_it.keys())
        first, second = (np.array([some[seed] for seed in common]) for some in (without, with_it))
        self.name, self.seeds = name, len(common)
        self.value = float((second - first).mean()) if common else float("nan")
        several = len(common) > 1
        self.deviation = float(np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)) if several else None
        partner = COMBINATIONS[one.partner]
        both = one.published is not None and partner.published is not None
        self.published = partner.published - one.published if both else None  # type: ignore[operator]


def differences(results: Results) -> list[Difference]:
    """Return the differences of all pairs of combinations that have results."""
    return [one for one in (Difference(results, name) for name in PARTNERS) if one.seeds]


def difference_lines(results: Results) -> list[tuple[str, ...]]:
    """Return the heading and the rows of the table of differences."""
    head = ("pair", "with - without", "published", "standard deviation over seeds", "seeds")
    return [
        head,
        *(
            (
                one.name,
                f"{one.value:+.4f}",
                "" if one.published is None else f"{one.published:+.4f}",
                "" if one.deviation is None else f"{one.deviation:.4f}",
                str(one.seeds),
            )
            for one in differences(results)
        ),
    ]


def verdict(results: Results) -> str:
    """Return one or two sentences on whether mutual information matters."""
    found = differences(results)
    if len(found) < 2:
        return "There are too few pairs of combinations to judge the effect of mutual information."
    values = np.array([one.value for one in found])
    mean, error = float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)
    systematic = abs(mean) > student.ppf(0.975, len(values) - 1) * error
    better = int((values > 0).sum())
    text = (
        f"Over {len(values)} pairs mutual information changes the linear probe by {mean:+.4f} ± {error:.4f} (mean and "
        f"its standard error) and is better in {better}; at the 5 % level: "
    )
    text += "a systematic difference" if systematic else "no systematic difference"
    deviations = [one.deviation for one in found if one.deviation is not None]
    if not deviations:
        return text + "; the effect of the seed is unknown, since there is only one."
    typical = float(np.sqrt(np.mean(np.square(deviations))))
    beyond = [
        one.name
        for one in found
        if one.deviation is not None and abs(one.value) > 2 * max(one.deviation, typical) * (2 / one.seeds) ** 0.5
    ]
    text += f"; the standard deviation over seeds is {typical:.4f}. "
    return text + (
        f"Single pairs that differ by more than twice the error of their difference: {', '.join(beyond)}."
        if beyond
        else "No single pair differs by more than twice the error of its difference."
    )


def category_lines(results: Results) -> list[tuple[str, ...]]:
    """Return the heading and the rows of the table of categories."""
    lines: list[tuple[str, ...]] = [CATEGORY_COLUMNS]
    for name in CATEGORIES:
        rows = results.good("categories", name)
        if rows:
            values = {key: [row[key] for row in rows] for key in ("accuracy", "optimal_accuracy", "mean_entropy_bits")}
            used = f"{np.mean([row['used'] for row in rows]):g} of {len(rows[0]['classes'])}"
            accuracies = mean_and_sd(values["accuracy"]), mean_and_sd(values["optimal_accuracy"])
            lines.append((name, *accuracies, used, mean_and_sd(values["mean_entropy_bits"])))
    return lines


def timing_lines(results: Results) -> list[tuple[str, ...]]:
    """Return the heading and the rows of the table of times; a failed row has the reason."""
    rows = {row["combination"]: row for row in results.of("timing")}
    encoder = rows.get(next(iter(TIMED)), {}).get("step_s")
    lines: list[tuple[str, ...]] = [
        (
            "loss or encoder",
            "forward and backward (CPU ms)",
            "relative to the small encoder",
            "ours, alternating with it (CPU ms)",
            "times ours",
        )
    ]
    for name in TIMED:
        row = rows.get(name, {})
        if "step_s" in row:
            seconds = row["step_s"]
            share = f"{seconds / encoder:.3g}" if encoder else ""
            ours = (f"{1000 * row['ours_s']:.3g}", f"{row['times_ours']:.2f}") if "ours_s" in row else ("", "")
            lines.append((name, f"{1000 * seconds:.3g}", share, *ours))
        elif row:
            lines.append((name, row["failed"], "", "", ""))
    return lines
