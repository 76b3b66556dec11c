"""Saving and loading of an evaluation, and reports of those that earlier versions saved."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from report_pages import Outline, assumptions_of, sections_of, simulated, with_assumptions

from kalmanssl.identifiability import check_assumptions
from kalmanssl.runs import Evaluation, Run
from kalmanssl.runs.report._report import build_report


def test_an_evaluation_is_the_same_after_saving_and_loading(run, html, tmp_path):
    run.evaluation.save(tmp_path / "evaluation")
    again = Evaluation.load(tmp_path / "evaluation")
    assert again.scores == run.evaluation.scores
    assert again.part == run.evaluation.part
    assert again.assumptions == run.evaluation.assumptions
    assert again.arrays.keys() == run.evaluation.arrays.keys()
    np.testing.assert_array_equal(again.arrays["time"], run.evaluation.arrays["time"])
    np.testing.assert_allclose(again.arrays["mean"], run.evaluation.arrays["mean"], rtol=1e-6)


def test_saved_times_are_exact_in_the_clock_of_unix(run, html, tmp_path):
    late = dict(run.evaluation.arrays)
    times = [name for name in late if name.endswith("time")]
    assert sorted(times) == ["block_time", "time", "worst_time"]
    late |= {name: late[name] + 1.6e9 for name in times}
    replace(run.evaluation, arrays=late).save(tmp_path / "evaluation")
    again = Evaluation.load(tmp_path / "evaluation")
    for name in times:
        np.testing.assert_array_equal(again.arrays[name], late[name])


def test_an_evaluation_is_shown_in_one_line_and_as_a_table(run):
    shown = repr(run.evaluation)
    assert shown.startswith("Evaluation(recording ")
    assert "median error, moving bins" in shown
    assert "(in the unit of the recording); inside the 95 % interval" in shown
    assert len(shown) < 400
    assert "median error, moving bins" in run.evaluation._repr_html_()


def test_infinite_and_undefined_numbers_are_saved_as_null(run, tmp_path, monkeypatch):
    report = check_assumptions(run.model, simulated()[1])
    first, *others = report.assumptions
    broken = replace(first, value=math.nan, chance=math.inf, numbers=first.numbers | {"p": -math.inf})
    odd = replace(report, assumptions=(broken, *others))
    monkeypatch.setattr("kalmanssl.identifiability.check_assumptions", lambda *a, **k: odd)
    evaluation = Evaluation.of(run, simulated()[1])
    evaluation.save(tmp_path / "evaluation")
    stored = json.loads((tmp_path / "evaluation/metadata.json").read_text())["assumptions"]
    json.dumps(stored, allow_nan=False)
    assert (stored["assumptions"][0]["value"], stored["assumptions"][0]["chance"]) == (None, None)
    assert stored["assumptions"][0]["numbers"]["p"] is None
    assert stored["assumptions"][1]["value"] == pytest.approx(others[0].value)
    assert evaluation.assumptions == Evaluation.load(tmp_path / "evaluation").assumptions == stored
    assert first.sentence in build_report(with_assumptions(run, stored))


def test_an_evaluation_saved_without_assumptions_can_be_loaded(run, tmp_path):
    run.evaluation.save(tmp_path / "evaluation")
    metadata = json.loads((tmp_path / "evaluation/metadata.json").read_text())
    del metadata["assumptions"]
    (tmp_path / "evaluation/metadata.json").write_text(json.dumps(metadata))
    old = Evaluation.load(tmp_path / "evaluation")
    assert old.assumptions is None
    assert old.scores == run.evaluation.scores
    old_run = with_assumptions(run, old.assumptions)
    html = build_report(old_run)
    assert Outline(html).sections == sections_of(old_run)
    paragraphs, rows = assumptions_of(html)
    assert "Not checked when the run was made" in paragraphs[1]
    assert rows == []


def test_the_report_of_an_older_evaluation_has_no_errors_by_place(run):
    old = {
        name: array for name, array in run.evaluation.arrays.items() if not name.startswith(("block", "place", "worst"))
    }
    scores = {
        name: part and {k: v for k, v in part.items() if k != "references"}
        for name, part in run.evaluation.scores.items()
    }
    del scores["rest"]
    earlier = Run(
        run.settings, run.model, run.decoder, run.metadata, replace(run.evaluation, arrays=old, scores=scores)
    )
    assert Outline(build_report(earlier)).sections == [s for s in sections_of(run) if s != "errors"]
