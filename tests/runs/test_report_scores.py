"""Scores in the report of a run: tiles, tables, and verdicts about intervals."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
from report_pages import simulated

from kalmanssl.runs import Evaluation, Run, score_rows
from kalmanssl.runs._evaluated_bins import EvaluatedBins
from kalmanssl.runs._text import cell, number, percent, score_sentence, with_unit
from kalmanssl.runs._trust_scores import trust_rows, trust_sentence
from kalmanssl.runs.report._report import build_report
from kalmanssl.runs.report._sections import _miscoverage, _range
from kalmanssl.runs.report._tiles import reference_line, tiles


def test_coverage_of_trusted_bins_is_shown_with_the_reasons_of_the_others(run, html):
    trust = run.evaluation.scores["all"]["trust"]
    section = re.search(r'<section id="scores">.*?</section>', html, flags=re.DOTALL).group()
    assert trust_sentence(trust) in section
    assert [group["label"] for group in trust["groups"] if "trusted" in group["label"]] == [
        group["label"] for group in trust["groups"]
    ]
    assert trust_rows(trust, "m")[0][-1] in ("width of 95 % (m)", "width of 95 % (cm)")
    for row in trust_rows(trust)[1:]:
        assert f"<td>{row[0]}</td><td>{row[1]}</td>" in section
    decoded = run.decoder.predict(run.model.transform(simulated()[1]))
    assert trust["untrusted"] == pytest.approx((~decoded.trusted).mean())
    assert sum(trust["reasons"].values()) == pytest.approx(1 if trust["untrusted"] else 0)
    counts = {group["label"]: group["bins"] for group in trust["groups"]}
    assert counts["trusted"] == counts["trusted, at rest"] + counts["trusted, moving"]


def test_intervals_at_rest_are_not_called_wrong_on_the_time_of_the_fit(run):
    scores = copy.deepcopy(run.evaluation.scores)
    scores["rest"]["coverage"]["95"], scores["rest"]["coverage_error"]["95"] = 1.0, 0.001
    for fitted in (True, False):
        evaluation = replace(run.evaluation, scores=scores, part=run.evaluation.part | {"fitted": fitted})
        page = build_report(replace(run, evaluation=evaluation))
        assert ("Intervals at rest are wider than they need to be: 100.0" in page) is not fitted
        assert "hatched" not in page
        assert ("They are calibrated for new data" in page) is fitted


def test_ranges_and_references_are_in_the_unit_of_what_they_stand_beside(run):
    groups = [{"low": 2e-7, "high": 0.02}, {"low": 0.02, "high": 0.15}]
    assert _range("speed", groups[0], groups, 100.0, "cm/s") == "speed 0 to 2 cm/s"
    assert _range("lag", {"low": 1.0, "high": 90.0}, [{"low": 1.0, "high": 90.0}], 1.0, "s") == "lag 1 to 90 s"
    ridge = {"median_error": 0.0206, "mean_error": 0.0307}
    scores = {"median_error": 0.0053, "references": {"ridge": ridge}}
    evaluation = replace(run.evaluation, part={"main": "all"}, scores={"running": None, "all": scores})
    assert reference_line(evaluation, "m") == ("median error for comparison, all bins: 2.06 cm with a ridge regression")
    velocity = replace(evaluation, scores=evaluation.scores | {"running": scores})
    assert "mean error for comparison, all bins: 3.07 cm with a ridge regression" in reference_line(velocity, "m")


def test_the_unit_of_the_files_is_said_if_scores_have_another():
    assert score_sentence({"median_error": 0.05}, "m") == (
        "errors and widths are in cm; the recording and decoded files are in m"
    )
    assert "are in degrees; the recording and decoded files are in rad" in score_sentence({"median_error": 0.1}, "rad")
    for scores, unit in (({"median_error": 5.0}, "cm"), ({"median_error": 5.0}, ""), ({"accuracy": 0.9}, "m")):
        assert score_sentence(scores, unit) == ""
    assert score_sentence(None, "m") == ""


def test_scores_of_several_dimensions_are_explained():
    scores = {"median_error": 5.0, "dimensions": [{}, {}]}
    assert score_sentence(scores, "cm") == "errors are distances; CRPS, coverage and widths are means over x and y"
    assert "over x, y and z" in score_sentence(scores | {"dimensions": [{}] * 3}, "cm")


def test_the_share_of_untrusted_bins_is_compared_with_the_usual_one():
    trust = {"untrusted": 0.193, "usual": 0.2, "reasons": {"no activity": 1.0}}
    expected = "19.3 % of the bins are not trusted (on held-out time of the fit: 20.0 %), because they have no"
    assert trust_sentence(trust).startswith(expected)


def test_score_rows_show_undefined_scores_as_a_dash_and_omit_missing_parts():
    one = {
        "median_error": 0.05,
        "mean_error": 0.06,
        "crps": 0.04,
        "r2": float("nan"),
        "bins": 7,
        "coverage": {"95": 0.951},
        "coverage_error": {"95": 0.012},
        "width": {"95": 0.2},
    }
    rows = {row[0]: row[1:] for row in score_rows({"running": None, "all": one}, "m")}
    assert rows[""] == ["all bins"]
    assert rows["median error (cm)"] == ["5.00"]
    assert rows["width of the 95 % interval (cm)"] == ["20.0"]
    assert rows["R²"] == ["–"]
    assert rows["inside the 95 % interval (%)"] == ["95.1 ± 1.2"]
    assert score_rows({"running": None, "all": None}, "m") == []


def test_every_number_of_the_tiles_has_its_reference(run, html):
    tiles = re.findall(r'<div class="tile"><b>(.*?)</b><span>(.*?)</span><small>(.*?)</small></div>', html)
    labels = [label for _, label, _ in tiles]
    assert len(labels) == html.count('<div class="tile">') == 7
    scores = run.evaluation.scores
    found = {label: reference for _, label, reference in tiles}
    references = scores["running"]["references"]
    ridge, occupancy = (with_unit(references[name]["median_error"], "m") for name in ("ridge", "occupancy"))
    assert found["median error, moving bins"] == f"ridge regression: {ridge}; occupancy alone: {occupancy}"
    assert found["CRPS"] == f"occupancy alone: {with_unit(references['occupancy']['crps'], 'm')}"
    explained = "; ± is one standard error" if scores["running"]["coverage_error"]["95"] > 0 else ""
    assert found["inside the 95 % interval"] == f"nominal: 95 %{explained}"
    assert found["inside the 95 % interval, bins at rest"].startswith("nominal: 95 %")
    assert "CRPS (continuous ranked probability score) is the mean absolute error of the whole" in html
    assert html.count("Moving bins:") == 1
    without = Run(run.settings, run.model, run.decoder, {k: v for k, v in run.metadata.items() if k != "reference"})
    without.evaluation = Evaluation.of(without, simulated()[1])
    assert "ridge regression" not in re.sub("<section.*", "", build_report(without), flags=re.DOTALL)


def test_rest_and_running_have_scores_of_their_own(run, html):
    scores = run.evaluation.scores
    assert scores["running"]["bins"] + scores["rest"]["bins"] == scores["all"]["bins"]
    section = re.search(r'<section id="scores">.*?</section>', html, flags=re.DOTALL).group()
    assert "<th>moving bins</th><th>bins at rest</th><th>all bins</th>" in section
    rest = {"95": 0.6}, {"95": 0.01}
    low = scores | {"rest": scores["rest"] | {"coverage": scores["rest"]["coverage"] | rest[0]}}
    low["rest"]["coverage_error"] = scores["rest"]["coverage_error"] | rest[1]
    good = scores | {"rest": low["rest"] | {"coverage": scores["rest"]["coverage"] | {"95": 0.945}}}
    hatched, plain = (
        build_report(Run(run.settings, run.model, run.decoder, run.metadata, replace(run.evaluation, scores=s)))
        for s in (low, good)
    )
    assert "Intervals at rest are hatched because they are too narrow: 60.0 ± 1.0 %" in hatched
    assert "hatched" not in plain
    assert "Intervals at rest" not in plain


@pytest.mark.parametrize(
    ("coverage", "error", "found"),
    [
        (0.60, 0.01, "narrow"),
        (0.92, 0.01, "narrow"),
        (0.92, 0.02, ""),  # within two standard errors
        (0.935, 0.001, ""),  # too little to matter
        (0.972, 0.007, "wide"),
        (0.969, 0.001, ""),
        (0.98, 0.02, ""),
    ],
)
def test_intervals_are_too_narrow_or_too_wide_only_by_a_clear_difference(coverage, error, found):
    assert _miscoverage({"coverage": {"95": coverage}, "coverage_error": {"95": error}}) == found


def test_numbers_have_three_digits_and_never_an_exponent_that_a_position_in_pixels_would_need():
    assert [number(value) for value in (2.0, 0.0316, 1234.5, 0.0, np.nan)] == ["2", "0.0316", "1234", "0", "–"]
    assert [cell(value) for value in (2.0, 0.53, 99.96, 1234.5, 0.0, np.inf, None)] == [
        "2.00", "0.530", "100", "1234", "0", "–", "–",
    ]  # fmt: skip


def test_a_standard_error_that_a_single_block_cannot_have_is_left_out():
    assert percent(0.25, 0.0) == "25.0"
    assert percent(0.951, 0.012) == "95.1 ± 1.2"
    assert percent(0.951, np.nan) == "95.1"


def test_all_bins_count_for_a_velocity_that_also_divides_the_bins(run):
    def bins_of(**changed):
        behavior = run.metadata | {"behavior": {"name": "position", "unit": "cm/s"}}
        one = replace(run, settings=replace(run.settings, **changed), metadata=behavior)
        return EvaluatedBins.of(one, simulated()[1])

    assert EvaluatedBins.of(run, simulated()[1]).main_part == "running"
    assert bins_of(end_zones=run.settings.end_zones).main_part == "running"
    velocity = bins_of(end_zones=None, min_speed=0.1)
    assert velocity.main_part == "all"
    np.testing.assert_array_equal(velocity.main, velocity.known)
    assert velocity.parts["running"].sum() < velocity.known.sum()


def test_scores_of_a_velocity_say_that_all_bins_count(run):
    evaluation = replace(run.evaluation, part=run.evaluation.part | {"main": "all"})
    assert not run.evaluation.divided_by_itself
    assert evaluation.divided_by_itself
    assert evaluation.main == ("all", run.evaluation.scores["all"])
    assert (run.evaluation.main_error, evaluation.main_error) == ("median_error", "mean_error")
    assert tiles(run, evaluation)[0].label == "mean error, all bins"
    narrow = copy.deepcopy(evaluation.scores)
    narrow["rest"]["coverage"]["95"] = 0.5
    for name, said in (("running", True), ("all", False)):
        shown = replace(run.evaluation, scores=narrow, part=run.evaluation.part | {"main": name, "fitted": False})
        assert ("of these bins are inside the 95" in build_report(replace(run, evaluation=shown))) is said
    assert not replace(evaluation, scores=evaluation.scores | {"running": None}).divided_by_itself
    assert "the scores of all bins count" in score_sentence(evaluation.main[1], "cm/s", True)


def test_an_evaluation_of_an_earlier_version_has_the_running_bins_as_its_main_ones(run, tmp_path):
    part = {name: value for name, value in run.evaluation.part.items() if name != "main"}
    replace(run.evaluation, part=part).save(tmp_path / "evaluation")
    assert Evaluation.load(tmp_path / "evaluation").main[0] == "running"
