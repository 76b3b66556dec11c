"""The checks of the assumptions in the report of a run."""

from __future__ import annotations

import pytest
from report_pages import assumptions_of, simulated, with_assumptions

from kalmanssl.identifiability import check_assumptions
from kalmanssl.runs import Evaluation, Run, assumptions_line
from kalmanssl.runs.report._assumptions import assumption_values
from kalmanssl.runs.report._report import build_report


def test_the_page_shows_the_verdicts_of_the_saved_evaluation(run, tmp_path):
    run.evaluation.save(tmp_path / "evaluation")
    saved = Run(run.settings, run.model, run.decoder, run.metadata, Evaluation.load(tmp_path / "evaluation"))
    found = check_assumptions(run.model, simulated()[1])
    assert len({row.verdict for row in found.assumptions}) > 1  # otherwise the rows could not be told apart
    paragraphs, rows = assumptions_of(build_report(saved))
    assert rows == [(row.statement, row.verdict, row.sentence) for row in found.assumptions]
    assert f"{found.frames} steps" in paragraphs[0]
    assert saved.evaluation.assumptions["verdict"] == found.verdict == "fails"
    failed = sum(row.verdict == "fails" for row in found.assumptions)
    assert f"{failed} of the {len(rows)} assumptions fail" in paragraphs[1]
    assert "the theorem does not guarantee" in paragraphs[1]


@pytest.mark.parametrize(
    ("verdict", "says"), [("holds", "not a proof"), ("doubtful", "tentative"), ("fails", "does not guarantee")]
)
def test_the_page_explains_the_overall_verdict(run, verdict, says):
    found = run.evaluation.assumptions
    rows = [row | {"verdict": verdict} for row in found["assumptions"]]
    changed = found | {"verdict": verdict, "assumptions": rows}
    paragraphs, table = assumptions_of(build_report(with_assumptions(run, changed)))
    assert says in paragraphs[1]
    assert {word for _, word, _ in table} == {verdict}
    counts = {"holds": 0, "doubtful": 0, "fails": 0} | {verdict: len(rows)}
    line = "{holds} hold, {doubtful} doubtful, {fails} fail".format(**counts)
    assert line in assumptions_line(changed)


def test_an_assumption_that_was_not_checked_is_listed_with_the_reason(run):
    skipped = run.evaluation.assumptions | {"skipped": {"folding": "latents < noise"}}
    assert assumptions_of(build_report(with_assumptions(run, skipped)))[1][-1] == (
        "folding",
        "not checked",
        "latents < noise",
    )


def test_the_page_says_that_a_recording_is_too_short_for_the_checks(run):
    short = simulated()[1].restrict(stop=3783.0)
    evaluation = Evaluation.of(run, short)
    assert evaluation.scores["all"]["bins"] == len(short)
    assert evaluation.assumptions["verdict"] is None
    assert "200 steps are needed for 4 latents" in evaluation.assumptions["reason"]
    paragraphs, rows = assumptions_of(build_report(Run(run.settings, run.model, run.decoder, run.metadata, evaluation)))
    assert evaluation.assumptions["reason"] in paragraphs[1]
    assert "A step of the filter is" in paragraphs[1]
    assert rows == []
    assert evaluation.assumptions["reason"] in assumptions_line(evaluation.assumptions)


def test_assumptions_are_checked_on_the_middle_of_a_long_recording(run):
    rest = simulated()[1]
    found = Evaluation.of(run, rest, max_checked_steps=250).assumptions
    middle = rest.restrict(start=found["start_s"], stop=found["stop_s"])
    assert found["frames"] == 250 - 10
    assert len(middle) == 250 * run.model.bins_per_step_
    assert middle.time[0] - rest.time[0] == pytest.approx(rest.time[-1] - middle.time[-1], abs=0.026)
    assert found["assumptions"] == check_assumptions(run.model, middle).to_dict()["assumptions"]
    assert run.evaluation.assumptions["start_s"] == run.evaluation.part["start_s"]


def test_failures_that_are_usual_for_spikes_are_named(run):
    rows = [
        {"name": name, "statement": f"the {name}", "verdict": verdict, "sentence": "s"}
        for name, verdict in (
            ("gaussian", "fails"),
            ("white", "fails"),
            ("injective", "doubtful"),
            ("coverage", "holds"),
        )
    ]
    found = run.evaluation.assumptions | {"assumptions": rows, "verdict": "fails"}
    values = assumption_values(found)
    assert [sentence.split(" (")[0] for sentence in values["ordinary"]] == ["“the gaussian”", "“the injective”"]
    assert values["serious"] == ["the white"]
    assert assumption_values(found, is_counts=False)["ordinary"] == []
    html = build_report(with_assumptions(run, found))
    assert "Usual for spikes, and no sign of a bad fit: “the gaussian” (a bin with few spikes" in html
    assert "Not explained by spikes: the white. Look at this first" in html
