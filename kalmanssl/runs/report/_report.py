"""Report of a run: one HTML page with figures, scores and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kalmanssl.runs._seeds import seeds_sentence
from kalmanssl.runs._text import unit_sentence, words
from kalmanssl.runs.report import _sections as sections
from kalmanssl.runs.report._assumptions import assumption_values
from kalmanssl.runs.report._errors import errors, place_view
from kalmanssl.runs.report._fit_sections import dynamics, settings, training
from kalmanssl.runs.report._page import render_page
from kalmanssl.runs.report._tiles import tiles

if TYPE_CHECKING:
    from kalmanssl.runs._run import Run

__all__ = ["build_report"]


def build_report(run: Run) -> str:
    """Return the report of a run as the text of an HTML page that loads no other file; see `Run.write_report`."""
    evaluation = run.evaluation
    recording = run.metadata["recording"]
    source = recording["source"] if evaluation is None else evaluation.part["source"]
    values: dict[str, Any] = {
        "title": f"{source}: kalmanssl report",
        "source": source,
        "run": run,
        "behavior": words(run.behavior),
        "recording": recording,
        "evaluation": evaluation,
        "dynamics": dynamics(run),
        "training": training(run),
        "seeds": seeds_sentence(run.metadata.get("seeds")),
        "settings": settings(run),
        "made": f"kalmanssl {run.metadata.get('kalmanssl', '')}, fitted {run.metadata.get('made', 'now')}",
    }
    if evaluation is not None:
        values |= {
            "unit": unit_sentence(evaluation.main[1], f"{words(run.behavior)} and its errors", run.behavior_unit),
            "tiles": tiles(run, evaluation),
            "errors": errors(run, evaluation),
            "place": place_view(run, evaluation),
            "decoded": sections.decoded(run, evaluation),
            "scores": sections.scores(run, evaluation),
            "latents": sections.latents(run, evaluation),
            "assumptions": assumption_values(
                evaluation.assumptions,
                is_counts=sections.kind_of_activity(run) != "signal",
            ),
            "noise": sections.noise(evaluation),
        }
    return render_page("report.html.jinja", values)
