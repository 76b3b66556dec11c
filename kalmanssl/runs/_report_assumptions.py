"""The assumptions of identifiability in the report and on the command line."""

from __future__ import annotations

from typing import Any

__all__ = ["assumption_values", "assumptions_line"]


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


def assumption_values(assumptions: dict[str, Any] | None) -> dict[str, Any]:
    """Return the values of the section on assumptions; without verdicts, `rows` is empty and `reason` says why."""
    if assumptions is None or assumptions["verdict"] is None:
        return {"rows": [], "reason": _reason(assumptions)}
    rows = [(row["statement"], row["verdict"], row["sentence"]) for row in assumptions["assumptions"]]
    rows += [(name, "not checked", reason) for name, reason in assumptions.get("skipped", {}).items()]
    return {"rows": rows, "verdict": assumptions["verdict"], **_counts(assumptions)} | {
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
