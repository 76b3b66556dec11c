"""The assumptions of identifiability in the report and on the command line."""

from __future__ import annotations

from typing import Any

__all__ = ["assumption_values", "assumptions_line"]


# Why an assumption usually does not hold for counts of spikes, by the name of the check.
_ORDINARY = {
    "gaussian": "a bin with few spikes gives latents with heavy tails",
    "constant_covariance": "the variance of counts grows with the rate",
    "injective": "with few spikes in a bin, the noise hides whether two latents have the same data",
}


def assumptions_line(assumptions: dict[str, Any] | None) -> str:
    """Return one line of text with the number of assumptions that hold, are doubtful and fail.

    Parameters
    ----------
    assumptions : dict, or None
        See `kalmanssl.runs.Evaluation`.
    """
    if assumptions is None or assumptions["verdict"] is None:
        return f"assumptions of identifiability {_reason(assumptions)}"
    return (
        "assumptions of identifiability: {holds} hold, {doubtful} doubtful, {fails} fail (details: kalmanssl report)"
    ).format(**_counts(assumptions))


def assumption_values(assumptions: dict[str, Any] | None, is_counts: bool = True) -> dict[str, Any]:
    """Return the values of the section on assumptions; without verdicts, `rows` is empty and `reason` says why.

    With `is_counts`, `ordinary` has a sentence for each assumption without the verdict "holds" for which this is usual
    for spike counts, and `serious` the other assumptions that fail.
    """
    if assumptions is None or assumptions["verdict"] is None:
        return {"rows": [], "reason": _reason(assumptions)}
    rows = [(row["statement"], row["verdict"], row["sentence"]) for row in assumptions["assumptions"]]
    rows += [(name, "not checked", reason) for name, reason in assumptions.get("skipped", {}).items()]
    open_ones = [row for row in assumptions["assumptions"] if row["verdict"] != "holds"]
    usual = _ORDINARY if is_counts else {}
    kinds = {
        "ordinary": [f"“{row['statement']}” ({usual[row['name']]})" for row in open_ones if row["name"] in usual],
        "serious": [row["statement"] for row in open_ones if row["name"] not in usual and row["verdict"] == "fails"],
    }
    return {"rows": rows, "verdict": assumptions["verdict"], **kinds, **_counts(assumptions)} | {
        name: assumptions[name] for name in ("frames", "start_s", "stop_s")
    }


def _counts(assumptions: dict[str, Any]) -> dict[str, int]:
    """Count all assumptions that were checked, and those with each verdict."""
    verdicts = [row["verdict"] for row in assumptions["assumptions"]]
    return {"count": len(verdicts)} | {verdict: verdicts.count(verdict) for verdict in ("holds", "doubtful", "fails")}


def _reason(assumptions: dict[str, Any] | None) -> str:
    """Return why there are no verdicts."""
    if assumptions is None:
        return "not checked when the run was made; to check them, run kalmanssl report RUN REC.nwb"
    return f"not checked: {assumptions['reason']}"
