"""The HTML report of a run."""

from __future__ import annotations

import base64
import copy
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jinja2 import UndefinedError
from report_pages import SECTIONS, Outline, assumptions_of, sections_of

from kalmanssl.datasets import place_cells
from kalmanssl.decoding import PositionDecoder
from kalmanssl.errors import InputError
from kalmanssl.runs import Evaluation, Run, RunSettings, render_page
from kalmanssl.runs._text import percent, with_unit
from kalmanssl.runs.report._fit_sections import dynamics
from kalmanssl.runs.report._latents_3d import latents_3d
from kalmanssl.runs.report._report import build_report


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
        f"{percent(scores['coverage']['95'], scores['coverage_error']['95'])} %",
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


def test_tables_scroll_in_their_own_box_and_paragraphs_are_not_divided_between_printed_pages(html):
    assert html.count("<table") == html.count('<div class="scroll"><table') > 5
    style = re.search(r"<style>(.*?)</style>", html, flags=re.DOTALL).group(1)
    assert re.search(r"^\.scroll \{ overflow-x: auto;", style, flags=re.MULTILINE)
    printed = style[style.index("@media print") :]
    kept = re.search(r"([^{}]*)\{ break-inside: avoid; \}", printed).group(1)
    assert {"p", "li", "figure", "tr", ".scroll"} <= {name.strip() for name in kept.split(",")}


def test_a_behavior_has_one_unit_on_the_page(run, html):
    assert run.behavior_unit == "m"
    assert set(re.findall(r"\((mm|cm|m|km)\)", html)) == {"cm"}
    assert set(re.findall(r"<b>[\d.]+ (\w+)</b>", html)) == {"cm"}  # tiles
    assert "Here position and its errors are in cm; the recording and decoded files are in m." in html
    assert "between 15 and 145 cm" in html
    assert "Set for this run, in the unit of the recording" in html
    assert re.search(r"<td>speed [\d.]+ to [\d.]+ cm/s</td>", html)
    ticks = re.search(r"<figure>(?:(?!</figure>).)*tracked position \(cm\).*?</figure>", html, flags=re.DOTALL).group()
    assert ">100<" in ticks  # of a track of 1.6 m


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
    assert "position x (cm)" in html
    assert "position y (cm)" in html
    decoded = re.search(r'<section id="decoded">.*?</section>', html, flags=re.DOTALL).group()
    assert decoded.count(">time (s)<") == 1
    assert Outline(html).sections == sections_of(planar)


def test_the_page_says_how_the_second_stage_went(run):
    model = copy.copy(run.model)
    model.noise_history_ = {"held_out_score": [0.25, 0.5], "held_out_score_error": [0.04, 0.31]}
    page = build_report(replace(run, model=model))
    assert "gain 0.250 ± 0.040, 0.50 ± 0.31 nats per bin" in page
    model.noise_history_ = {"held_out_score": [0.25, 0.5]}  # of an earlier version
    page = build_report(replace(run, model=model))
    assert "gain 0.25, 0.5 nats per bin" in page
    reference = "the gain above with those of windows with much activity"
    assert (reference in page) == (model.activity_sampling_power > 0)
    model.activity_sampling_power = 0.0 if reference in page else 2.0
    assert (reference in build_report(replace(run, model=model))) == (model.activity_sampling_power > 0)
    model.noise_history_ = {}
    assert "only the dynamics were fitted" not in build_report(replace(run, model=model))


def test_an_existing_file_is_replaced_only_on_request(run, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        run.write_report(page)
    assert page.read_text() == "mine"
    run.write_report(page, overwrite=True)
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


def test_constant_noise_has_no_panel(run, html):
    assert "The observation noise of this model is constant" in html
    assert "noise sd</text>" not in html
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
