"""Short texts and tables of objects for notebooks."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from kalmanssl import KalmanSSL, PositionDecoder
from kalmanssl.datasets import place_cells
from kalmanssl.kalman import kalman_filter, kalman_smoother
from kalmanssl.runs import Evaluation, Run, RunSettings
from kalmanssl.utils.sparkline import sparkline
from kalmanssl.utils.summaries import Summary


class Cells(HTMLParser):
    """The cells of a table; every tag must be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.cells.append(data)


def table_of(value):
    """Return the title and the rows of the table of an object."""
    title, *cells = Cells(value._repr_html_()).cells
    return title, dict(zip(cells[::2], cells[1::2], strict=True))


@pytest.fixture(scope="module")
def recording():
    return place_cells(n_units=12, n_interneurons=0, duration=60.0)


@pytest.fixture(scope="module")
def model(recording):
    return KalmanSSL(latent_dim=3, state_dim=4, epochs=1, progress=False, random_state=0).fit(recording)


def test_a_recording(recording):
    title, rows = table_of(recording)
    assert title == "Recording"
    assert rows["activity"] == "12 units x 2400 bins of 25 ms"
    assert rows["behavior"].startswith("position (meters)")
    assert rows["epochs"] == "MazeEpoch"
    rate = recording.activity.sum() / recording.n_units / recording.duration
    assert rows["mean rate"] == f"{rate:.3g} per second"


def test_latents_and_decoded_behavior(recording, model):
    latents = model.transform(recording)
    title, rows = table_of(latents)
    assert title == "Latents"
    assert (rows["bins"], rows["state dimensions"], rows["latent dimensions"]) == ("2400", "4", "3")
    assert rows["posterior"].startswith("filtered")
    assert len(repr(latents)) < 300
    assert "\n" not in repr(latents)
    decoder = PositionDecoder(regressor="linear", random_state=0).fit(latents, recording.behavior["position"])
    decoded = decoder.predict(latents)
    title, rows = table_of(decoded)
    width = np.mean(decoded.upper - decoded.lower)
    assert (title, rows["mean width of the 95 % interval"]) == ("DecodedPosition", f"{width:.3g}")
    assert rows["not trusted"] == f"{100 * (1 - decoded.trusted.mean()):.1f} % of the bins"
    assert len(repr(decoded)) < 300
    assert repr(decoded[:3]).startswith("DecodedPosition(bins 3; time ")
    assert len(repr(decoded[:0])) < 100
    side = np.where(recording.behavior["position"] < 0.8, "left", "right")
    labels = PositionDecoder(regressor="mlp", random_state=0).fit(latents, side).predict(latents)
    assert table_of(labels)[1]["labels"] == "2 (left, right)"
    assert len(repr(labels)) < 300


def test_a_run(recording, model):
    facts = {"source": "rat <1>.nwb", "units": 12, "start_s": 3600.0, "fitted_until_s": 3660.0, "bin_size_s": 0.025}
    decoder = PositionDecoder(regressor="linear", random_state=0)
    decoder.fit(model.transform(recording), recording.behavior["position"])
    metadata = {"recording": facts, "behavior": {"name": "position", "unit": "meters"}}
    run = Run(RunSettings("rat.nwb"), model, decoder, metadata)
    assert table_of(run)[1]["recording"] == "rat <1>.nwb"
    assert "<1>" not in run._repr_html_()
    run.evaluation = Evaluation.of(run, recording)
    _, rows = table_of(run)
    assert "median error, all bins" in rows
    assert rows["inside the 95 % interval"].endswith(" %")
    assert repr(run).startswith("Run(recording rat <1>.nwb; fitted 3600 to 3660 s, 12 units; ")


def test_results_of_the_filter():
    y = torch.randn(2, 30, 3)
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[:, :3] = False
    parameters = {"A": 0.9 * torch.eye(2), "Q": torch.ones(2), "C": torch.randn(3, 2), "R": torch.ones(3)}
    parameters |= {"m0": torch.zeros(2), "P0": torch.eye(2)}
    found = kalman_filter(y, mask=mask, **parameters)
    title, rows = table_of(found)
    assert title == "FilterResult"
    assert (rows["sequences"], rows["steps"], rows["observations"]) == ("2", "30", "3, 10 % missing")
    assert table_of(kalman_smoother(y, **parameters))[1]["state dimensions"] == "2"
    arrays = kalman_filter(y.numpy(), **{name: value.numpy() for name, value in parameters.items()})
    assert table_of(arrays)[0] == "FilterResult"


def points_of(svg):
    """Return the lines of a picture, (points, 2) each."""
    path = re.findall(r'd="([^"]*)" fill="none"', svg)[0]
    lines = [line.removesuffix("h.1").split("L") for line in path.split("M")[1:]]
    return [np.array([[float(v) for v in point.split(",")] for point in line]) for line in lines]


def test_a_small_picture_has_the_numbers_and_ends_at_gaps():
    (line,) = points_of(sparkline(np.arange(5000.0)))
    assert len(line) == 140
    assert (np.diff(line[:, 0]) > 0).all()
    np.testing.assert_allclose(line[:, 1], np.linspace(38, 2, 140), atol=0.11)
    values = np.array([0.0, 1.0, np.nan, 3.0])
    assert [len(line) for line in points_of(sparkline(values))] == [2, 1]
    angle = np.array([5.0, 6.0, 0.2, 1.0])
    assert [len(line) for line in points_of(sparkline(angle, angle - 1, angle + 1, 2 * np.pi))] == [2, 2]
    assert "fill-opacity" in sparkline(angle, angle - 1, angle + 1)
    assert sparkline(np.full(3, np.nan)) == sparkline(np.zeros(0)) == ""


def test_notebooks_have_a_picture_of_numbers_over_time(recording, model):
    latents = model.transform(recording)
    decoder = PositionDecoder(regressor="linear", random_state=0).fit(latents, recording.behavior["position"])
    for shown in (recording, latents, decoder.predict(latents)):
        html = shown._repr_html_()
        Cells(html)
        assert html.count("<svg") == 1
        assert len(html) < 12_000
    assert "<svg" not in decoder.predict(latents)[:0]._repr_html_()


def test_text_is_escaped():
    class Odd(Summary):
        def _summary(self):
            return [("<name>", "a & b")]

    assert "&lt;name&gt;" in Odd()._repr_html_()
    assert "a &amp; b" in Odd()._repr_html_()
    assert repr(Odd()) == "Odd(<name> a & b)"
