"""Behavior that consists of labels, through all commands: a column of the table of trials, text, bools and numbers."""

import csv
import json

import numpy as np
import pytest
from cli_commands import fails, invoke
from pynwb import NWBHDF5IO
from pynwb.base import TimeSeries

from kalmanssl import PositionDecoder, Recording
from kalmanssl.datasets import place_cells
from kalmanssl.runs import Run

UNTIL = 3750.0
TINY = ("--latent-dim", 4, "--state-dim", 8, "--epochs", 2, "--until", UNTIL)


def halves(recording):
    """Intervals in which the rat is in one half of the track, with the name of the half."""
    near = recording.behavior["position"] < 0.8
    borders = np.flatnonzero(np.diff(near)) + 1
    time, half = recording.time, 0.5 * recording.bin_size
    return [
        (time[rows[0]] - half, time[rows[-1]] + half, "near" if near[rows[0]] else "far, away")
        for rows in np.split(np.arange(len(time)), borders)
    ]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A simulated recording whose trials have a half of the track, a number, and a label that does not change."""
    path = tmp_path_factory.mktemp("labels") / "rat.nwb"
    recording = place_cells(n_units=24, n_interneurons=0, duration=210.0)
    recording.to_nwb(path)
    with NWBHDF5IO(str(path), "a") as io:
        content = io.read()
        for name in ("half", "number", "task"):
            content.add_trial_column(name, name)
        for start, stop, half in halves(recording):
            content.add_trial(start_time=start, stop_time=stop, half=half, number=float(half == "near"), task="run")
        is_near = recording.behavior["position"] < 0.8
        module = content.processing["behavior"]
        module.add(TimeSeries(name="is_near", data=is_near, timestamps=recording.time, unit="bool"))
        io.write(content)
    return path


@pytest.fixture(scope="module")
def run(session, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted") / "run"
    result = invoke("fit", session, "--out", out, "--behavior", "trials/half", *TINY)
    assert result.exit_code == 0, result.output
    assert "accuracy (%)" in result.stdout
    return out


def test_a_column_of_the_trials_is_read_as_a_label_for_every_bin(session):
    recording = Recording.from_nwb(session, behavior="trials/half")
    position = Recording.from_nwb(session, behavior="position").behavior["position"]
    half = recording.behavior["half"]
    assert half.dtype == object
    assert set(half) == {"near", "far, away"}
    assert np.mean((half == "near") == (position < 0.8)) > 0.999
    near = Recording.from_nwb(session, behavior="is_near").behavior["is_near"]
    assert set(near) == {True, False}
    np.testing.assert_array_equal(near == True, half == "near")  # noqa: E712


def test_labels_are_written_to_a_file_and_read_back(tmp_path):
    counts = np.random.default_rng(0).poisson(0.2, size=(200, 3))
    labels = np.array(["a", "b", None, "b"] * 50, dtype=object)
    known = np.arange(200) % 2 == 0
    recording = Recording.from_arrays(counts, behavior={"text": labels, "known": known})
    recording.to_nwb(tmp_path / "labels.nwb")
    read = Recording.from_nwb(tmp_path / "labels.nwb", behavior=["text", "known"])
    np.testing.assert_array_equal(read.behavior["text"], labels)
    np.testing.assert_array_equal(read.behavior["known"], known.astype(object))


def test_fit_decodes_the_held_out_labels_better_than_chance(run):
    loaded = Run.load(run)
    scores = loaded.evaluation.scores["all"]
    assert loaded.evaluation.scores["running"] is None
    assert scores["labels"] == ["far, away", "near"]
    assert scores["accuracy"] > scores["chance_level"] + 0.2
    assert scores["coverage"]["95"] > 0.9
    assert [group["label"] for group in scores["conditional"]["half"]] == ["far, away", "near"]
    assert len(scores["conditional"]["lag"]) == 4


def test_decode_writes_probabilities_the_most_probable_label_and_the_set(run, session, tmp_path):
    out = tmp_path / "decoded.csv"
    result = invoke("decode", run, session, "--out", out, "--after", UNTIL)
    assert result.exit_code == 0, result.output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["time", "label", "set", "probability_far, away", "probability_near"]
    near = np.array([float(row["probability_near"]) for row in rows])
    far = np.array([float(row["probability_far, away"]) for row in rows])
    np.testing.assert_allclose(near + far, 1, atol=2e-5)
    assert [row["label"] for row in rows] == ["near" if p > 0.5 else "far, away" for p in near]
    assert {row["set"] for row in rows} <= {"near", "far, away", "far, away|near"}
    assert all(row["label"] in row["set"].split("|") for row in rows)


def test_decode_writes_the_same_to_nwb(run, session, tmp_path):
    out = tmp_path / "decoded.nwb"
    result = invoke("decode", run, session, "--out", out, "--after", UNTIL, "--smooth")
    assert result.exit_code == 0, result.output
    with NWBHDF5IO(str(out), "r") as io:
        module = io.read().processing["kalmanssl"]["decoded_half"]
        probability = np.asarray(module["probability"].data)
        label, inside = module["label"].data[:], np.asarray(module["set"].data)
        assert "columns: far, away, near" in module["probability"].description
    assert probability.shape == inside.shape == (len(label), 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-5)
    assert set(label) <= {"near", "far, away"}


def test_evaluate_prints_the_scores_of_labels_as_a_table_and_as_json(run, session):
    table = invoke("evaluate", run, session)
    assert table.exit_code == 0, table.output
    assert "labels in the 95 % set" in table.stdout
    result = invoke("evaluate", run, session, "--json")
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert scores["behavior"] == "half"
    assert scores["running"] is None
    assert scores["all"]["accuracy"] > 0.5
    assert scores["other_label_bins"] == 0
    assert set(scores["all"]["set_size"]) == {"50", "80", "95"}


def test_report_shows_probabilities_and_the_confusion_of_labels(run, tmp_path):
    result = invoke("report", run, "--out", tmp_path / "report.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text()
    assert "probability of each label of half" in page
    assert "Number of bins with each decoded label, for each true label." in page
    assert "labels in the 95 % set" in page
    assert page.count('<div class="tile">') == 4
    assert "always the most frequent label: " in page
    assert "chance: 50 %" in page
    assert "half far, away" in page
    assert "Moving bins" not in page
    assert "median error" not in page


def test_labels_that_the_decoder_was_not_fitted_on_are_counted_and_not_scored(run, session):
    from kalmanssl.runs import Evaluation, read_recording

    loaded = Run.load(run)
    part = read_recording(session, loaded.settings).restrict(start=UNTIL)
    part.behavior["half"][:100] = "elsewhere"
    evaluation = Evaluation.of(loaded, part)
    assert evaluation.part["other_label_bins"] == 100
    assert evaluation.scores["all"]["bins"] == len(part) - 100


def test_settings_that_do_not_apply_to_labels_are_named_before_the_fit(session, tmp_path):
    half = ("fit", session, "--out", tmp_path / "run", "--behavior", "trials/half")
    assert "--end-zones does not apply to 'half'" in fails(*half, "--end-zones", 0.1, 1.4)
    assert "--min-speed does not apply to 'half'" in fails(*half, "--min-speed", 0.1)
    assert "--period does not apply to 'half'" in fails(*half, "--period", 1)
    assert "--decoder must be ensemble or mlp for 'half'" in fails(*half, "--decoder", "linear")
    task = ("fit", session, "--out", tmp_path / "run", "--behavior", "task")
    assert "'task' has only the label 'run'" in fails(*task)
    unknown = fails("fit", session, "--out", tmp_path / "run", "--behavior", "trials/side")
    assert "intervals/trials/half" in unknown


def test_numbers_are_labels_only_with_discrete(session):
    from kalmanssl.runs import RunSettings, read_recording
    from kalmanssl.runs._labels import consists_of_labels

    settings = RunSettings(recording=str(session), behavior="trials/number")
    number = read_recording(session, settings).behavior["number"]
    assert number.dtype == float
    assert set(number) == {0.0, 1.0}
    assert not consists_of_labels(settings, number)
    assert consists_of_labels(RunSettings(recording=str(session), discrete=True), number)
    assert PositionDecoder(discrete=True).discrete


@pytest.mark.parametrize(
    ("discrete", "behavior"), [(None, "trials/number"), (True, "trials/number"), (None, "position")]
)
def test_numbers_that_may_be_labels_are_noted(session, discrete, behavior):
    from kalmanssl.runs import RunSettings, summarize_recording
    from kalmanssl.runs._fit_data import read_fit_data

    settings = RunSettings(recording=str(session), until=UNTIL, behavior=behavior, discrete=discrete)
    lines = []
    read_fit_data(settings, summarize_recording(session, settings), lines.append)
    noted = [line for line in lines if line.startswith("note: number has few distinct values")]
    assert len(noted) == (discrete is None and behavior == "trials/number")


@pytest.mark.parametrize("decoder", [None, "ensemble", "mlp"])
def test_readouts_with_networks_decode_labels(decoder):
    from kalmanssl.runs import RunSettings
    from kalmanssl.runs._labels import check_label_settings

    check_label_settings(RunSettings(recording="x", decoder=decoder), "choice", np.array(["left", "right"] * 5))
