"""What a report says on whether the latents mean anything: the assumptions of identifiability, with verdicts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from kalmanssl.runs._report_page import section

if TYPE_CHECKING:
    from kalmanssl.runs._evaluation import Evaluation

__all__ = ["assumptions_line", "assumptions_section"]

_COLOR = {"holds": "green", "doubtful": "blue", "fails": "orange", "not checked": "muted"}
_OVERALL = {
    "holds": "Nothing was found against any of the {all}. That is no proof: every check has deviations that it cannot "
    "see, and that there are true latents to be found is itself assumed.",
    "doubtful": "None of the {all} clearly fails, but {doubtful} cannot be relied on, and the theorem does not say how "
    "far the latents stray when an assumption nearly holds: take what they show as a hint, and see whether fits with "
    "other seeds agree.",
    "fails": "Of the {all}, {fails} fail, so the theorem does not promise that these are the true latents: another fit "
    "may find others that predict the recording as well. See whether fits with other seeds agree. Behavior that is "
    "decoded from them is not touched by this: its own scores judge it.",
}


def assumptions_line(assumptions: dict[str, Any] | None) -> str:
    """How many assumptions hold, in one line of text.

    Parameters
    ----------
    assumptions : dict, or None
        As in `kalmanssl.runs.Evaluation`.
    """
    if assumptions is None or assumptions["verdict"] is None:
        return f"assumptions of identifiability {_not_checked(assumptions)}"
    return (
        "assumptions of identifiability: {holds} hold, {doubtful} doubtful, {fails} fail (kalmanssl report says which)"
    ).format(**_counts(assumptions))


def assumptions_section(evaluation: Evaluation) -> str:
    """Section of the page with a verdict on every assumption, or with the reason why there is none."""
    found = evaluation.assumptions
    about = (
        "If the recording follows from latents of its own and all of the below holds, then those found are the same up "
        "to a linear map and a shift: loops, branches and straight lines in them are real, distances only up to that "
        "map. The verdicts go by the filter's one-step predictions"
    )
    if found is None or found["verdict"] is None:
        return _section(f"{about}.", f"<p><strong>{escape(_capital(_not_checked(found)))}</strong></p>")
    about += f" at {found['frames']} steps from {found['start_s']:.10g} to {found['stop_s']:.10g} s"
    if evaluation.part["fitted"]:
        about += ", a time that the model was fitted on, which is in its favor"
    head = "".join(f'<th style="text-align:left">{name}</th>' for name in ("assumption", "verdict", "why"))
    rows = "\n".join(
        f'<tr><td class="text" style="overflow-wrap:normal">{escape(says)}</td>'
        f'<td style="text-align:left">{_colored(verdict)}</td>'
        f'<td class="text">{escape(why)}</td></tr>'
        for says, verdict, why in _rows(found)
    )
    return _section(
        f"{about}.",
        f"<p>{escape(_OVERALL[found['verdict']].format(**_counts(found)))}</p>",
        f'<div class="scroll"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>',
    )


def _section(about: str, *parts: str) -> str:
    return section("assumptions", "Do the latents mean anything?", f'<p class="note">{escape(about)}</p>', *parts)


def _counts(found: dict[str, Any]) -> dict[str, int]:
    verdicts = [row["verdict"] for row in found["assumptions"]]
    return {"all": len(verdicts)} | {verdict: verdicts.count(verdict) for verdict in ("holds", "doubtful", "fails")}


def _rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Assumption, verdict and sentence, in the order of the table; what was skipped comes last."""
    checked = [(row["statement"], row["verdict"], row["sentence"]) for row in found["assumptions"]]
    return checked + [(name, "not checked", reason) for name, reason in found.get("skipped", {}).items()]


def _not_checked(assumptions: dict[str, Any] | None) -> str:
    if assumptions is None:
        return "not checked when the run was made; kalmanssl report RUN REC.nwb does it"
    return f"not checked: {assumptions['reason']}"


def _colored(verdict: str) -> str:
    return f'<strong style="color:var(--{_COLOR[verdict]})">{escape(verdict)}</strong>'


def _capital(text: str) -> str:
    return text[0].upper() + text[1:] + "."
