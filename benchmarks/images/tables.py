"""Tables of what was found, and what mutual information changes beside what a seed changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from kept import Results
from pages import spread
from scipy.stats import t as student

from images.baselines import BASELINES
from images.categories import CATEGORIES
from images.combinations import COMBINATIONS
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
    "participation",
    "fit (CPU s)",
    "step: encoder, objective (ms)",
)
INTRODUCTION = (
    "Accuracy on test images that is read from features of images that are not augmented, by probes fitted on training "
    "images: logistic regression, and twenty neighbors that vote. Mean ± standard deviation over seeds. Published: "
    "linear probe on CIFAR-10 with ResNet-18 after 1000 epochs (LDM paper, Table A1); of a smaller encoder only the "
    "differences between methods can be compared with it. Dimensions: eigenvalues λ of the covariance of the latents "
    "above 1e-3, as in the paper, which depends on their scale, and above a hundredth of the largest, which does not; "
    "participation: (Σλ)² / Σλ². A step is one of both views, forward and backward."
)
ROWS_OF_CATEGORIES = ("categories", "accuracy", "best matching", "categories used", "entropy of an image (bits)")


def scores(results: Results, name: str, what: str = "linear_probe") -> dict[int, float]:
    """Return a score of a combination by seed."""
    return {row["seed"]: row[what] for row in results.good("combinations", name)}


def table(results: Results) -> list[tuple[str, ...]]:
    """Rows of the table as text, see `COLUMNS`: combinations, then baselines, then what failed."""
    lines: list[tuple[str, ...]] = []
    for name, one in COMBINATIONS.items():
        rows = results.good("combinations", name)
        if rows:
            published = "" if one.published is None else f"{one.published:.4f}"
            lines.append((name, *_accuracy(rows), published, *_more(rows)))
    for name in BASELINES:
        rows = results.good("baselines", name)
        if rows:
            lines.append((name, *_accuracy(rows), "", "", "", "", ""))
    for row in results.rows.values():
        if "failed" in row and row["part"] != "timing":
            lines.append((f"{row['combination']}, seed {row['seed']}", row["failed"], *[""] * 6))
    return lines


def _accuracy(rows: list[dict[str, Any]]) -> tuple[str, str]:
    return spread([row["linear_probe"] for row in rows]), spread([row["knn_probe"] for row in rows])


def _more(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    def mean(what: str, scale: float = 1.0) -> float:
        return scale * float(np.mean([row[what] for row in rows]))

    return (
        f"{mean('effective_dimension'):.0f}, {mean('above_share'):.0f}",
        f"{mean('participation_ratio'):.1f}",
        f"{mean('fit_s'):.0f}",
        f"{mean('encoder_step_s', 1000):.1f}, {mean('objective_step_s', 1000):.1f}",
    )


class Difference:
    """What mutual information changes in one pair of combinations.

    Attributes
    ----------
    name : str
        Of the one without.
    value : float
        Linear probe with it minus without, mean over seeds that both have.
    seeds : int
    deviation : float or None
        Standard deviation over seeds of the probes of either (pooled); None with a single seed.
    published : float or None
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
    """Return the differences of all pairs of which both were run."""
    firsts = [n for n, one in COMBINATIONS.items() if one.partner and not one.make().mutual_information]
    return [one for one in (Difference(results, name) for name in firsts) if one.seeds]


def difference_lines(results: Results) -> list[tuple[str, ...]]:
    """Heading and rows of the differences."""
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
    """Say in one or two sentences whether mutual information matters."""
    found = differences(results)
    if len(found) < 2:
        return "Too few pairs were run to say anything about mutual information."
    values = np.array([one.value for one in found])
    mean, error = float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)
    systematic = abs(mean) > student.ppf(0.975, len(values) - 1) * error
    better = int((values > 0).sum())
    said = (
        f"Over {len(values)} pairs mutual information changes the linear probe by {mean:+.4f} ± {error:.4f} (mean and "
        f"its standard error) and is ahead in {better}; at the 5 % level: "
    )
    said += "a systematic difference" if systematic else "no systematic difference"
    deviations = [one.deviation for one in found if one.deviation is not None]
    if not deviations:
        return said + "; with one seed it is not known how much a seed changes."
    typical = float(np.sqrt(np.mean(np.square(deviations))))
    beyond = [
        one.name
        for one in found
        if one.deviation is not None and abs(one.value) > 2 * max(one.deviation, typical) * (2 / one.seeds) ** 0.5
    ]
    said += f"; another seed changes it by {typical:.4f} (standard deviation). "
    return said + (
        f"Single pairs that differ by more than twice the error of their difference: {', '.join(beyond)}."
        if beyond
        else "No single pair differs by more than twice the error of its difference."
    )


def category_lines(results: Results) -> list[tuple[str, ...]]:
    """Heading and rows of the experiment with categories."""
    lines: list[tuple[str, ...]] = [ROWS_OF_CATEGORIES]
    for name in CATEGORIES:
        rows = results.good("categories", name)
        if rows:
            every = {key: [row[key] for row in rows] for key in ("accuracy", "optimal_accuracy", "mean_entropy_bits")}
            used = f"{np.mean([row['used'] for row in rows]):g} of {len(rows[0]['classes'])}"
            accuracies = spread(every["accuracy"]), spread(every["optimal_accuracy"])
            lines.append((name, *accuracies, used, spread(every["mean_entropy_bits"])))
    return lines


def timing_lines(results: Results) -> list[tuple[str, ...]]:
    """Heading and rows of what steps cost, and the reason of each that could not be had."""
    rows = {row["combination"]: row for row in results.of("timing")}
    encoder = rows.get(next(iter(TIMED)), {}).get("step_s")
    lines: list[tuple[str, ...]] = [
        ("what", "forward and backward (CPU ms)", "times the small encoder", "ours by turns with it", "times ours")
    ]
    for name in TIMED:
        row = rows.get(name, {})
        if "step_s" in row:
            seconds = row["step_s"]
            share = f"{seconds / encoder:.3g}" if encoder else ""
            turns = (f"{1000 * row['ours_s']:.3g}", f"{row['times_ours']:.2f}") if "ours_s" in row else ("", "")
            lines.append((name, f"{1000 * seconds:.3g}", share, *turns))
        elif row:
            lines.append((name, row["failed"], "", "", ""))
    return lines
