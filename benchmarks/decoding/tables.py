"""Tables of the results: one for each target, and a comparison with the best baselines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from results_store import Row

from decoding.methods import OURS

__all__ = ["best_baseline", "by_method", "crps_of", "representation", "score_tables", "summary", "targets_in"]

COLUMNS = (
    "method", "ahead", "median / mean", "R²", "CRPS", "energy", "cover 50", "80", "95", "width 95", "/ narrowest", "80",
    "area 95", "CPU s: choice", "fit", "decode",
)  # fmt: skip
SUMMARY = (
    "target", "bins", "our filter", "best causal baseline", "ratio", "our smoother", "best baseline", "ratio",
)  # fmt: skip
FILTER, SMOOTHER = f"{OURS}, filter", f"{OURS}, smoother"
LATENTS, COUNTS = f"{OURS}, neighbors on filtered latents", "neighbors, causal 200 ms"


def targets_in(rows: Iterable[Row]) -> list[str]:
    """Return the targets of the rows in order."""
    return list(dict.fromkeys(row["target"] for row in rows))


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows that did not fail, one per seed, by method; those fitted on running bins are marked so."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        if "failed" not in row:
            name = row["method"] + (" (fitted on running bins)" if row["fitted_on"] == "running" else "")
            grouped.setdefault(name, []).append(row)
    return grouped


def median(rows: Sequence[Row], *keys: str) -> float:
    """Return the median over seeds of an entry; NaN if a row does not have it."""
    values = []
    for row in rows:
        value = row
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        values.append(np.nan if value is None else value)
    return float(np.median(values))


def score_tables(rows: Sequence[Row]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Return a title and a table of medians over seeds for all bins and for running bins of each target."""
    tables = []
    for target in targets_in(rows):
        of_target = [row for row in rows if row["target"] == target]
        for bins, words in (("all", "all bins"), ("running", "running bins")):
            lines = [
                _line(name, runs, bins)
                for name, runs in by_method(of_target).items()
                if runs[0].get(bins) and (bins == "running" or runs[0]["fitted_on"] == "all")
            ]
            if lines:
                tables.append((f"{target} ({of_target[0]['unit']}), {words}", [COLUMNS, *lines]))
    return tables


def _line(name: str, runs: list[Row], bins: str) -> tuple[str, ...]:
    """Return one line of a table of scores."""
    covers = []
    for level in ("50", "80", "95"):
        error = median(runs, bins, "coverage_error", level)
        covers.append(f"{100 * median(runs, bins, 'coverage', level):.0f} ± {100 * error:.0f}")
    return (
        name,
        runs[0]["look_ahead"],
        f"{median(runs, bins, 'median_error'):.3g} / {median(runs, bins, 'mean_error'):.3g}",
        f"{median(runs, bins, 'r2'):.3f}",
        f"{median(runs, bins, 'crps'):.3g}",
        _number(median(runs, bins, "energy")),
        *covers,
        _number(median(runs, bins, "width", "95")),
        *(_ratio(median(runs, bins, "width_ratio", level)) for level in ("95", "80")),
        _number(median(runs, bins, "area", "95")),
        *(f"{median(runs, key):.1f}" for key in ("select_cpu_s", "fit_cpu_s", "decode_cpu_s")),
    )


def _ratio(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else ""


def crps_of(rows: Sequence[Row], target: str, method: str, bins: str) -> float:
    """Return the median CRPS over seeds of a method fitted on all bins; NaN if there is none."""
    runs = [r for r in rows if (r["target"], r["method"], r["fitted_on"]) == (target, method, "all")]
    runs = [run for run in runs if "failed" not in run]
    return median(runs, bins, "crps") if runs else float("nan")


def best_baseline(rows: Sequence[Row], target: str, bins: str, causal: bool) -> tuple[str, float] | None:
    """Return the name and the CRPS of the best method that is not ours; only causal ones, or all."""
    others = by_method(row for row in rows if row["target"] == target and row["group"] != "ours")
    scores = {
        name: median(runs, bins, "crps")
        for name, runs in others.items()
        if runs[0].get(bins)
        and (runs[0]["look_ahead"] == "no" or not causal)
        and (bins == "running" or runs[0]["fitted_on"] == "all")
    }
    return min(scores.items(), key=lambda item: item[1]) if scores else None


def representation(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the CRPS of causal neighbors on our filtered latents beside causal neighbors on smoothed counts."""
    lines: list[tuple[str, ...]] = [("target", "bins", "neighbors on our latents", "on counts", "ratio")]
    for target in targets_in(rows):
        for bins in ("all", "running"):
            ours, counts = (crps_of(rows, target, method, bins) for method in (LATENTS, COUNTS))
            if np.isfinite([ours, counts]).all():
                lines.append((target, bins, _number(ours), _number(counts), f"{ours / counts:.2f}"))
    return lines


def summary(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the CRPS of our filter beside the best causal baseline, and of our smoother beside the best of all.

    The ratio is ours divided by the baseline's: below one, ours is better. On running bins, baselines that were fitted
    on running bins alone count too.
    """
    lines: list[tuple[str, ...]] = [SUMMARY]
    for target in targets_in(rows):
        for bins in ("all", "running"):
            line = [target, bins]
            for method, causal in ((FILTER, True), (SMOOTHER, False)):
                ours, best = crps_of(rows, target, method, bins), best_baseline(rows, target, bins, causal)
                line += [_number(ours), f"{best[1]:.3g}: {best[0]}" if best else ""]
                line += [f"{ours / best[1]:.2f}" if best and np.isfinite(ours) else ""]
            lines.append(tuple(line))
    return lines
