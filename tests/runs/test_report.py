"""The HTML report of a run."""

from __future__ import annotations

import base64
import copy
import html as markup
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jinja2 import UndefinedError

from kalmanssl.data import Recording, running_bins
from kalmanssl.datasets import place_cells
from kalmanssl.decoding import PositionDecoder
from kalmanssl.errors import InputError
from kalmanssl.estimator import KalmanSSL
from kalmanssl.identifiability import check_assumptions
from kalmanssl.runs import Evaluation, Run, RunSettings, assumptions_line, render_page, score_rows, write_report
from kalmanssl.runs._excerpt import excerpt_bins
from kalmanssl.runs._references import fit_references
from kalmanssl.runs._text import with_unit
from kalmanssl.runs._trust_scores import trust_rows, trust_sentence
from kalmanssl.runs.report._assumptions import assumption_values
from kalmanssl.runs.report._latents_3d import latents_3d
from kalmanssl.runs.report._report import build_report
from kalmanssl.runs.report._sections import _miscoverage, _range, dynamics
from kalmanssl.runs.report._tiles import reference_line

SECTIONS = [
    "decoded",
    "scores",
    "errors",
    "latents",
    "assumptions",
    "noise",
    "dynamics",
    "training",
    "settings",
    "notes",
]


def sections_of(run):
    """Return the sections that the page must have; alarms come first, if there are any."""
    return [*(["alarms"] if run.evaluation.alarms else []), *SECTIONS]


class Outline(HTMLParser):
    """The ids, sections and figures of a page; every tag must be closed."""

    void = frozenset({"meta", "br", "img", "link", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.sections: list[str] = []
        self.figures: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "section":
            self.sections.append(found["id"])
        if tag == "svg":
            self.figures.append(found.get("aria-label", ""))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def simulated():
    return place_cells(n_units=20, n_interneurons=0, duration=240.0).split(at=3780.0)


@pytest.fixture(scope="module")
def run():
    training, rest = simulated()
    small = {"latent_dim": 4, "state_dim": 8, "epochs": 1, "random_state": 0}
    settings = RunSettings(recording="a <b>rat</b>.nwb", end_zones=[0.15, 1.45], model=small)
    model = KalmanSSL(**small, progress=False).fit(training)
    metadata = {
        "recording": {
            "source": "a <b>rat</b>.nwb",
            "units": 20,
            "bin_size_s": 0.025,
            "spikes": 1234567,
            "start_s": 3600.0,
            "stop_s": 3840.0,
            "fitted_until_s": 3780.0,
            "fitted_s": 180.0,
            "notes": ["the clock was <odd>"],
        },
        "behavior": {"name": "position", "unit": "meters"},
        "reference": fit_references(training, "position", None, None),
    }
    decoder = PositionDecoder(regressor="linear").fit(model.transform(training), training.behavior["position"])
    run = Run(settings, model, decoder, metadata)
    run.evaluation = Evaluation.of(run, rest)
    return run


@pytest.fixture(scope="module")
def html(run):
    return build_report(run)


def test_the_page_has_all_sections_and_figures(run, html):
    outline = Outline(html)
    assert outline.sections == sections_of(run)
    assert outline.open == []
    assert len(outline.figures) == 8 + 2 + len(run.evaluation.arrays["worst_time"])
    assert all(outline.figures)


def test_the_page_loads_no_other_file(html):
    assert "http" not in html
    assert not re.search(r'(?:src|href)="(?!#|data:)', html)
    assert "@import" not in html
    assert html.count("<script") == 2
    assert "fetch(" not in html
    assert "import(" not in html


def test_latents_in_three_dimensions_are_those_of_the_evaluation(run, html):
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html)[1])
    points = np.frombuffer(base64.b64decode(data["points"]), "<i2").reshape(-1, 3)
    colors = np.frombuffer(base64.b64decode(data["colors"]), np.uint8)
    a = run.evaluation.arrays
    known = np.isfinite(a["color"])
    assert len(points) == len(colors) == known.sum()
    inside = np.abs(points).max(axis=1) < 32767  # the others are far away and were moved to the edge
    assert inside.mean() > 0.98
    scale = points[inside] / a["latents"][known][inside]
    np.testing.assert_allclose(scale, np.median(scale), atol=0.5 / np.abs(a["latents"][known][inside]).min())
    assert np.corrcoef(colors, a["color"][known])[0, 1] > 0.999
    share = a["variance_explained"]
    assert (np.diff(share) <= 0).all()
    assert 0 < share.sum() <= 1
    assert data["labels"][0] == f"latent axis 1 ({100 * share[0]:.2g} %)"
    assert f"latent axis 1 ({100 * share[0]:.2g} % of variance)" in html


def test_latents_of_two_dimensions_are_not_drawn_in_three(run):
    two = copy.deepcopy(run)
    two.evaluation.arrays["latents"] = two.evaluation.arrays["latents"][:, :2]
    assert "<script" not in build_report(two)


def test_colors_of_circular_behavior_close():
    color = np.array([0.0, 0.25, 0.5, 0.999, 1.0, -0.25])
    index = np.frombuffer(base64.b64decode(latents_3d(np.eye(6), color, ["a", "b", "c"], 1.0)["colors"]), np.uint8)
    assert list(index) == [0, 16, 32, 63, 0, 48]


def test_ids_are_unique_and_every_reference_has_a_target(html):
    ids = Outline(html).ids
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html))
    assert {a or b for a, b in used} <= set(ids)
    assert used


def test_text_from_the_recording_is_escaped(html):
    assert "a &lt;b&gt;rat&lt;/b&gt;.nwb" in html
    assert "the clock was &lt;odd&gt;" in html
    assert "<b>rat" not in html


def test_the_page_shows_scores_and_settings_as_numbers(run, html):
    scores = run.evaluation.scores["running"]
    for number in (
        with_unit(scores["median_error"], "m"),
        f"{100 * scores['coverage']['95']:.1f} %",
        "1,234,567 spikes",
        "state_dim",
        "0.15, 1.45",
        "decay time",
    ):
        assert number in html


def test_figures_use_the_colors_of_the_page(html):
    from kalmanssl.plotting._style import INK, MUTED

    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert INK not in figures
    assert MUTED not in figures
    assert "var(--ink)" in figures
    assert "prefers-color-scheme: dark" in html


def test_the_same_run_gives_the_same_page(run, html):
    assert build_report(run) == html


def test_the_page_says_if_the_model_was_fitted_on_the_time_shown(run):
    evaluation = replace(run.evaluation, part=run.evaluation.part | {"fitted": True})
    fitted = Run(run.settings, run.model, run.decoder, run.metadata, evaluation)
    assert "fitted on this time" in build_report(fitted)
    assert "fitted on this time" not in build_report(run)
    assert 'biases the verdicts toward "holds"' in assumptions_of(build_report(fitted))[0][0]
    assert 'biases the verdicts toward "holds"' not in assumptions_of(build_report(run))[0][0]


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


def test_a_run_without_decoder_has_a_report(run):
    metadata = run.metadata | {"behavior": None}
    bare = Run(RunSettings("x"), run.model, None, metadata)
    rest = place_cells(n_units=20, n_interneurons=0, duration=60.0)
    bare.evaluation = Evaluation.of(bare, rest)
    outline = Outline(build_report(bare))
    assert outline.sections == [s for s in SECTIONS if s not in ("scores", "errors")]


def test_each_dimension_of_the_behavior_has_its_own_axes(run):
    recording = place_cells(n_units=20, n_interneurons=0, duration=120.0)
    position = recording.behavior["position"]
    recording.behavior["position"] = np.stack([position, np.sin(position)], axis=1)
    settings = RunSettings("x", min_speed=0.1)
    decoder = PositionDecoder(regressor="linear").fit(run.model.transform(recording), recording.behavior["position"])
    planar = Run(settings, run.model, decoder, run.metadata)
    planar.evaluation = Evaluation.of(planar, recording)
    html = build_report(planar)
    assert "position x (m)" in html
    assert "position y (m)" in html
    decoded = re.search(r'<section id="decoded">.*?</section>', html, flags=re.DOTALL).group()
    assert decoded.count(">time (s)<") == 1
    assert Outline(html).sections == sections_of(planar)


def test_an_evaluation_is_the_same_after_saving_and_loading(run, html, tmp_path):
    run.evaluation.save(tmp_path / "evaluation")
    again = Evaluation.load(tmp_path / "evaluation")
    assert again.scores == run.evaluation.scores
    assert again.part == run.evaluation.part
    assert again.assumptions == run.evaluation.assumptions
    assert again.arrays.keys() == run.evaluation.arrays.keys()
    np.testing.assert_array_equal(again.arrays["time"], run.evaluation.arrays["time"])
    np.testing.assert_allclose(again.arrays["mean"], run.evaluation.arrays["mean"], rtol=1e-6)


def assumptions_of(html):
    """Return the paragraphs of the section on assumptions, and the rows of its table, as text."""
    section = re.search(r'<section id="assumptions">.*?</section>', html, flags=re.DOTALL).group()

    def text_of(tag):
        found = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", section, flags=re.DOTALL)
        return [markup.unescape(re.sub(r"<[^>]*>", "", part)).strip() for part in found]

    cells = text_of("td")
    return text_of("p"), [tuple(cells[i : i + 3]) for i in range(0, len(cells), 3)]


def with_assumptions(run, assumptions):
    return Run(run.settings, run.model, run.decoder, run.metadata, replace(run.evaluation, assumptions=assumptions))


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


def test_the_page_says_that_a_recording_is_too_short_for_the_checks(run):
    short = simulated()[1].restrict(stop=3783.0)
    evaluation = Evaluation.of(run, short)
    assert evaluation.scores["all"]["bins"] == len(short)
    assert evaluation.assumptions["verdict"] is None
    assert "at least 200 are needed" in evaluation.assumptions["reason"]
    paragraphs, rows = assumptions_of(build_report(Run(run.settings, run.model, run.decoder, run.metadata, evaluation)))
    assert evaluation.assumptions["reason"] in paragraphs[1]
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


def test_the_excerpt_contains_much_running(run):
    shown = run.evaluation.arrays
    runs = running_bins(simulated()[1].behavior["position"], end_zones=(0.15, 1.45))
    assert shown["runs"].sum() >= 0.8 * max(runs[start : start + 1600].sum() for start in range(len(runs) - 1599))
    assert np.ptp(shown["time"]) == pytest.approx(40.0, abs=0.1)
    assert np.all(np.diff(shown["time"]) < 0.03)


def test_the_excerpt_is_typical_and_not_the_one_with_the_most_running():
    recording = Recording.from_arrays(np.ones((20_000, 2)), bin_size=0.025)  # 500 s, excerpts of 40 s
    runs = np.arange(20_000) % 10 != 0
    runs[1000:2600] = True  # an exception near the start
    runs[9000:11_000] = False  # rest in the middle
    shown = excerpt_bins(recording, runs)
    assert shown.stop - shown.start == 1600
    assert runs[shown].sum() >= 0.8 * 1600
    assert abs(shown.start + 800 - 10_000) < 2000


@pytest.mark.parametrize(("gap", "seconds"), [(1.0, 40.0), (12.0, 4.0)])
def test_the_excerpt_has_several_trials_but_not_if_most_of_it_were_gaps(gap, seconds):
    time = np.concatenate([(4.0 + gap) * trial + 0.025 * np.arange(160) for trial in range(30)])  # trials of 4 s
    recording = Recording.from_arrays(np.ones((len(time), 2)), time=time, bin_size=0.025)
    shown = time[excerpt_bins(recording, np.ones(len(time)))]
    assert shown[-1] - shown[0] + 0.025 == pytest.approx(seconds, abs=1.1)
    assert shown[-1] - shown[0] < seconds


def test_intervals_at_rest_are_not_called_wrong_on_the_time_of_the_fit(run):
    scores = copy.deepcopy(run.evaluation.scores)
    scores["rest"]["coverage"]["95"], scores["rest"]["coverage_error"]["95"] = 1.0, 0.001
    for fitted in (True, False):
        evaluation = replace(run.evaluation, scores=scores, part=run.evaluation.part | {"fitted": fitted})
        page = build_report(replace(run, evaluation=evaluation))
        assert ("Intervals at rest are wider than they need to be: 100.0" in page) is not fitted
        assert "hatched" not in page
        assert ("They are calibrated for new data" in page) is fitted


def test_the_page_says_how_the_second_stage_went(run):
    model = copy.copy(run.model)
    model.noise_history_ = {"held_out_score": [0.25, 0.5]}
    assert "gain 0.25, 0.5 nats per bin" in build_report(replace(run, model=model))
    model.noise_history_ = {}
    assert "only the dynamics were fitted" not in build_report(replace(run, model=model))


def test_ranges_and_references_are_in_the_unit_of_what_they_stand_beside():
    groups = [{"low": 2e-7, "high": 0.02}, {"low": 0.02, "high": 0.15}]
    assert _range("speed", groups[0], groups, "m/s") == "speed 0 to 2 cm/s"
    assert _range("lag", {"low": 1.0, "high": 90.0}, [{"low": 1.0, "high": 90.0}], "s") == "lag 1 to 90 s"
    ridge = {"median_error": 0.0206}
    scores = {"median_error": 0.0053, "references": {"ridge": ridge}}
    assert (
        reference_line("all", scores, "m") == "median error for comparison, all bins: 20.6 mm with a ridge regression"
    )


def test_the_share_of_untrusted_bins_is_compared_with_the_usual_one():
    trust = {"untrusted": 0.193, "usual": 0.2, "reasons": {"no activity": 1.0}}
    expected = "19.3 % of the bins are not trusted (20.0 % on held-out time of the fit): 100 % because they have no"
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
    assert rows["median error (cm)"] == ["5"]
    assert rows["width of the 95 % interval (cm)"] == ["20"]
    assert rows["R²"] == ["–"]
    assert rows["inside the 95 % interval (%)"] == ["95.1 ± 1.2"]
    assert score_rows({"running": None, "all": None}, "m") == []


def test_an_existing_file_is_replaced_only_on_request(run, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write_report(run, page)
    assert page.read_text() == "mine"
    write_report(run, page, overwrite=True)
    assert page.read_text() == build_report(run)


def test_a_page_can_extend_the_base_template_from_another_folder(tmp_path):
    (tmp_path / "page.jinja").write_text(
        '{% extends "base.html.jinja" %}{% block content %}<p>{{ text }} at {{ 3600.5 | seconds }} s</p>{% endblock %}'
    )
    html = render_page("page.jinja", {"title": "A & B", "text": "1 < 2"}, folder=tmp_path)
    assert "<title>A &amp; B</title>" in html
    assert "<p>1 &lt; 2 at 3600.5 s</p>" in html
    assert "--ink" in html
    with pytest.raises(UndefinedError, match="text"):
        render_page("page.jinja", {"title": "A"}, folder=tmp_path)


def test_text_in_the_description_of_a_figure_is_escaped_once(run):
    metadata = run.metadata | {"behavior": {"name": "x & <y>", "unit": "meters"}}
    named = Run(run.settings, run.model, run.decoder, metadata, run.evaluation)
    outline = Outline(build_report(named))
    assert "the tracked x & <y>" in outline.figures[0]


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
    assert found["inside the 95 % interval"].startswith("nominal: 95 %, standard error ")
    assert found["inside the 95 % interval, bins at rest"].startswith("nominal: 95 %")
    assert "CRPS (continuous ranked probability score) is the mean absolute error of the whole" in html
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


def test_a_rotation_that_decays_before_a_quarter_of_its_period_is_no_rhythm(run):
    A = np.zeros((4, 4))
    for block, (modulus, period) in enumerate([(0.99, 20.0), (0.6, 20.0)]):  # decay in 99 and in 2 steps
        angle = 2 * np.pi / period
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        A[2 * block : 2 * block + 2, 2 * block : 2 * block + 2] = modulus * turn
    model = SimpleNamespace(bins_per_step_=2, model_=SimpleNamespace(predictor=SimpleNamespace(A=torch.as_tensor(A))))
    found = dynamics(Run(run.settings, model, None, run.metadata))
    assert found["step"] == "50 ms"
    assert [row[1] for row in found["rows"][1:]] == ["1 s", "none"]
    assert [row[2] for row in found["rows"][1:]] == ["4.97 s", "97.9 ms"]


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


def test_constant_noise_has_no_panel(run, html):
    assert "The noise of this model is constant" in html
    assert "noise sd</text>" not in html.replace("noise sd (latent", "")
    varying = run.evaluation.arrays["noise"] * np.linspace(1, 2, len(run.evaluation.arrays["noise"]))[:, None]
    changed = replace(run.evaluation, arrays=run.evaluation.arrays | {"noise": varying})
    assert "noise of each latent over time" in build_report(
        Run(run.settings, run.model, run.decoder, run.metadata, changed)
    )


@pytest.mark.parametrize("kind", ["plane", "circle"])
def test_behavior_in_the_plane_or_on_a_circle_has_its_own_figure(run, kind):
    recording = place_cells(n_units=20, n_interneurons=0, duration=120.0)
    position = recording.behavior["position"]
    angle = 2 * np.pi * position / 1.7
    recording.behavior["position"] = np.stack([np.cos(angle), np.sin(angle)], axis=1) if kind == "plane" else angle
    period = None if kind == "plane" else 2 * np.pi
    settings = RunSettings("x", min_speed=0.1, period=period)
    latents = run.model.transform(recording)
    decoder = PositionDecoder(regressor="linear", period=period).fit(latents, recording.behavior["position"])
    other = Run(settings, run.model, decoder, run.metadata | {"reference": None})
    other.evaluation = Evaluation.of(other, recording)
    html = build_report(other)
    figures = Outline(html).figures
    what = "on a map, with the regions of three bins" if kind == "plane" else "on a circle; time goes from the center"
    assert sum(what in figure for figure in figures) == 1
    assert sum("by place" in figure for figure in figures) == 1
    if kind == "plane":
        assert other.evaluation.arrays["regions"].shape[0] == 3
        assert other.evaluation.arrays["regions"].any(axis=(1, 2)).all()


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
