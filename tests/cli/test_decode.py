"""kalmanssl decode: its output files, and rejected recordings."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
from cli_commands import UNTIL, fails, invoke
from nwb_checks import content_of

from kalmanssl.data import Recording
from kalmanssl.datasets import place_cells
from kalmanssl.runs import Run


def test_decode_writes_mean_and_interval_to_csv(run, recording, tmp_path):
    out = tmp_path / "decoded.csv"
    assert invoke("decode", run, recording, "--out", out, "--after", UNTIL).exit_code == 0
    with out.open(newline="") as file:
        rows = list(csv.reader(file))
    bounds = [f"{end}_{level}" for level in (50, 80, 95) for end in ("lower", "upper")]
    assert rows[0] == ["time", "mean", "lower", "upper", *bounds, "trust", "trusted"]
    table = np.array(rows[1:], dtype=float)
    rest = Recording.from_nwb(recording).restrict(start=UNTIL)
    np.testing.assert_allclose(table[:, 0], rest.time, atol=1e-6)
    opened = Run.load(run)
    expected = opened.decoder.predict(opened.model.transform(rest))
    for column, values in enumerate((expected.mean, expected.lower, expected.upper), start=1):
        np.testing.assert_allclose(table[:, column], values, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(table[:, 4], expected.interval(0.5)[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(table[:, -2], expected.trust, atol=1e-3)
    assert set(table[:, -1]) <= {0.0, 1.0}
    assert (table[:, -1] != expected.trusted).mean() < 0.01
    smooth = tmp_path / "smooth.csv"
    assert invoke("decode", run, recording, "--out", smooth, "--after", UNTIL, "--smooth").exit_code == 0
    assert smooth.read_text() != out.read_text()


def test_decode_writes_nwb_with_the_times_of_the_session(run, recording, tmp_path):
    from pynwb import NWBHDF5IO

    out = tmp_path / "decoded.nwb"
    assert invoke("decode", run, recording, "--out", out).exit_code == 0
    whole = Recording.from_nwb(recording)
    with NWBHDF5IO(str(out), "r") as io, NWBHDF5IO(str(recording), "r") as source:
        file = io.read()
        series = file.processing["kalmanssl"]["decoded_position"].spatial_series
        bounds = {f"{end}_{level}" for level in (50, 80, 95) for end in ("lower", "upper")}
        assert set(series) == {"mean", "lower", "upper"} | bounds
        np.testing.assert_allclose(series["mean"].get_timestamps(), whole.time)
        assert (series["lower"].data[:] <= series["upper"].data[:]).all()
        assert series["mean"].unit == "meters"
        assert file.session_start_time == source.read().session_start_time


def test_decode_adds_the_results_to_a_copy_of_the_recording(run, recording, tmp_path):
    out, again = tmp_path / "copy.nwb", tmp_path / "again.nwb"
    before = recording.read_bytes()
    assert invoke("decode", run, recording, "--out", out, "--append-to-copy", "--after", UNTIL).exit_code == 0
    assert recording.read_bytes() == before
    assert content_of(out, "/processing/kalmanssl") == content_of(recording)
    message = fails("decode", run, out, "--out", again, "--append-to-copy")
    assert message.startswith("error: --module 'kalmanssl' exists in ")
    options = ("--append-to-copy", "--module", "filtered")
    assert invoke("decode", run, out, "--out", again, "--after", UNTIL, *options).exit_code == 0
    assert content_of(again, "/processing/filtered") == content_of(out)


def test_decode_needs_no_behavior(run, recording, tmp_path):
    bare = replace(Recording.from_nwb(recording, units="all"), behavior={}, behavior_unit={})
    bare.to_nwb(tmp_path / "bare.nwb")
    result = invoke("decode", run, tmp_path / "bare.nwb", "--out", tmp_path / "bare.csv")
    assert result.exit_code == 0, result.output
    assert "without behavior" in result.stderr
    assert "no SpatialSeries" in fails("evaluate", run, tmp_path / "bare.nwb")


def test_decode_rejects_recordings_with_other_units_and_names_them(run, tmp_path):
    place_cells(n_units=23, n_interneurons=0, duration=60.0).to_nwb(tmp_path / "fewer.nwb")
    message = fails("decode", run, tmp_path / "fewer.nwb", "--out", tmp_path / "x.csv")
    assert "1 missing (24)" in message


def test_decode_replaces_files_only_with_overwrite_and_never_the_recording(run, recording, tmp_path):
    out = tmp_path / "decoded.csv"
    out.write_text("mine")
    assert "--overwrite" in fails("decode", run, recording, "--out", out)
    assert out.read_text() == "mine"
    assert invoke("decode", run, recording, "--out", out, "--overwrite").exit_code == 0
    size = recording.stat().st_size
    assert "the recording itself" in fails("decode", run, recording, "--out", recording, "--overwrite")
    assert recording.stat().st_size == size
    assert ".csv or .nwb" in fails("decode", run, recording, "--out", tmp_path / "x.txt")
    assert "--after=1000000 leaves nothing" in fails(
        "decode", run, recording, "--out", tmp_path / "y.csv", "--after", 1e6
    )
