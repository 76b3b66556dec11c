"""Coverage of the intervals where bins are trusted and where they are not, and why they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.runs._text import cell, percent, scaled_unit

if TYPE_CHECKING:
    from kalmanssl.decoding import DecodedPosition

__all__ = ["trust_rows", "trust_scores", "trust_sentence"]

_FEW = 0.0005  # share of the bins that is not worth a reason
_LEVELS = ("50", "80", "95")


def trust_scores(decoded: DecodedPosition, truth: np.ndarray, runs: np.ndarray | None, usual: float) -> dict[str, Any]:
    """Compute the coverage of trusted and other bins.

    Parameters
    ----------
    decoded : DecodedPosition
    truth : (time,) or (time, dims)
        NaN where it is unknown; some bins are known.
    runs : (time,) bool or None
        In which bins the animal runs.
    usual : float
        Share of the bins that were not trusted on held-out time of the fit.

    Returns
    -------
    dict
        `untrusted`, the share of all bins, also of those with unknown behavior, that are not trusted; `usual`;
        `reasons`, the share of them with each reason of `DecodedPosition.reason`; and `groups`, the coverage of
        "trusted" and "not trusted" bins with known behavior, and of those at rest and moving, as `conditional_coverage`
        returns it.
    """
    from kalmanssl.decoding import conditional_coverage

    trusted = decoded.trusted
    label = np.where(trusted, "trusted", "not trusted").astype(object)
    conditions = {"trust": label}
    if runs is not None:
        conditions["running"] = label + np.where(runs, ", moving", ", at rest").astype(object)
    found = conditional_coverage(decoded, truth, conditions)
    reasons = decoded.reason[~trusted]
    return {
        "untrusted": float(1 - trusted.mean()),
        "usual": usual,
        "reasons": {str(name): float((reasons == name).mean()) for name in np.unique(reasons)},
        "groups": [group for name in conditions for group in found.get(name, [])],
    }


def trust_rows(trust: dict[str, Any] | None, unit: str = "", like: float | None = None) -> list[list[str]]:
    """Return the coverage of trusted and other bins as a table of text; empty if there is none.

    `unit` is that of the behavior; widths are in the unit in which the value `like` is easy to read.
    """
    if not trust:
        return []
    factor, shown = scaled_unit(like, unit)
    last = f"width of 95 %{f' ({shown})' if shown else ''}"
    rows = [["bins", "count", *(f"inside {level} % (%)" for level in _LEVELS), last]]
    for group in trust["groups"]:
        cells = [percent(group["coverage"][level], group["coverage_error"][level]) for level in _LEVELS]
        rows.append([str(group["label"]), str(group["bins"]), *cells, cell(factor * group["width"]["95"])])
    return rows


def trust_sentence(trust: dict[str, Any] | None) -> str:
    """Say in words how many bins are not trusted, and why."""
    if not trust:
        return ""
    share = f"{100 * trust['untrusted']:.1f} % of the bins are not trusted"
    if "usual" in trust:  # not in older evaluations
        share += f" (on held-out time of the fit: {100 * trust['usual']:.1f} %)"
    if not trust["reasons"]:
        return f"{share}."
    if trust["untrusted"] < _FEW:
        return f"fewer than {100 * 2 * _FEW:g} % of the bins are not trusted."
    words = {
        "unfamiliar latents": "their latents lie far from those of the fit",
        "contradicts other bins": "their activity contradicts that of the bins around them",
        "no activity": "they have no activity",
    }
    parts = sorted(trust["reasons"].items(), key=lambda item: -item[1])
    if len(parts) == 1:
        return f"{share}, because {words.get(parts[0][0], parts[0][0])}."
    return f"{share}: " + ", ".join(f"{100 * part:.0f} % because {words.get(name, name)}" for name, part in parts) + "."
