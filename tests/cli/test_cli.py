"""The commands: what they write, and how they refuse."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nwb_sessions import session, spikes_of, tracked
from typer.testing import CliRunner

from kalmanssl.cli import app
from kalmanssl.cli._errors import one_line
from kalmanssl.data import Recording
from kalmanssl.datasets import place_cells
from kalmanssl.errors import InputError
from kalmanssl.runs import Run

ZONES = ("--end-zones", "0.15", "1.45")
SMALL = ("--latent-dim", "4", "--state-dim", "8", "--decoder", "linear")
UNTIL = 3780.0


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(*arguments, code=2):
    """Run a command that must fail: one line on standard error, nothing on standard output."""
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("note:", "Recording("))]
    errors = [line for line in lines if line.startswith("error: ")]
    assert lines[-1:] == errors, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    return errors[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "rat.nwb"
    place_cells(n_units=24, n_interneurons=2, duration=300.0).to_nwb(path)
    return path


@pytest.fixture(scope="module")
def run(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "run"
    result = invoke("fit", recording, "--out", out, "--until", UNTIL, *ZONES, *SMALL, "--epochs", 2)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


# --- light -----------------------------------------------------------------------------------------------------------


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, kalmanssl, kalmanssl.cli as c\n"
        "from typer.testing import CliRunner\n"
        "for ask in (['--help'], ['fit', '--help'], ['--version']):\n"
        "    assert CliRunner().invoke(c.app, ask).exit_code == 0\n"
        "print([m for m in ('torch', 'pynwb', 'h5py', 'matplotlib', 'sklearn', 'numpy') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["demo", "fit", "decode", "evaluate", "report", "bench"])
def test_every_command_explains_itself_with_an_example(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"kalmanssl {command}" in result.output.split("Options")[0].split("Usage:")[1].split("\n", 1)[1]


def test_checks_are_found_at_the_top():
    import kalmanssl as ks
    from kalmanssl.identifiability import check_assumptions

    assert ks.check_assumptions is check_assumptions
    assert ks.identifiability.check_assumptions is check_assumptions
    assert {"check_assumptions", "identifiability"} <= set(dir(ks))


def test_version():
    import kalmanssl

    assert invoke("--version").stdout == f"kalmanssl {kalmanssl.__version__}\n"


@pytest.mark.parametrize(
    ("message", "parameter", "shown"),
    [
        ("bin_size must be positive; got -1", "bin_size", "--bin-size must be positive; got -1"),
        ("epoch='x' is not in the file", "epoch", "--epoch='x' is not in the file"),
        ("there are no spikes;\nchoose others", "units", "--units: there are no spikes; choose others"),
        ("units_of_time are wrong", "units", "--units: units_of_time are wrong"),
        ("latents has shape (3,)", "latents", "latents has shape (3,)"),
        ("the file is damaged", None, "the file is damaged"),
    ],
)
def test_errors_name_the_option_of_the_argument_at_fault(message, parameter, shown):
    options = {"bin_size": "--bin-size", "epoch": "--epoch", "units": "--units"}
    assert one_line(InputError(message, parameter=parameter), options) == shown


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_leaves_a_whole_run_and_no_work_folder(run):
    assert {p.name for p in run.iterdir()} == {"metadata.json", "model", "decoder", "evaluation"}
    assert {p.name for p in run.parent.iterdir()} == {"run"}
    metadata = json.loads((run / "metadata.json").read_text())
    assert metadata["recording"]["source"] == "rat.nwb"
    assert metadata["recording"]["units"] == 24
    assert metadata["recording"]["fitted_until_s"] == pytest.approx(UNTIL)
    assert metadata["settings"]["end_zones"] == [0.15, 1.45]
    assert metadata["scores"]["running"]["bins"] > 100
    assert Run.load(run).model.history_["loss"].__len__() == 2


def test_fit_scores_what_it_left_out(run, recording):
    whole = Run.load(run)
    _, rest = Recording.from_nwb(recording).split(at=UNTIL)
    assert whole.evaluation.part["fitted"] is False
    assert whole.evaluation.scores["all"]["bins"] == np.isfinite(rest.behavior["position"]).sum()


def test_same_seed_gives_the_same_run(run, recording, tmp_path):
    args = ("--until", UNTIL, *ZONES, *SMALL, "--epochs", 2)
    assert invoke("fit", recording, "--out", tmp_path / "again", *args).exit_code == 0
    assert invoke("fit", recording, "--out", tmp_path / "other", *args, "--seed", 1).exit_code == 0
    weights = [(folder / "model/weights.safetensors").read_bytes() for folder in (run, tmp_path / "again")]
    assert weights[0] == weights[1]
    assert weights[0] != (tmp_path / "other/model/weights.safetensors").read_bytes()
    assert (run / "decoder/weights.safetensors").read_bytes() == (
        tmp_path / "again/decoder/weights.safetensors"
    ).read_bytes()


def test_fit_without_behavior(recording, tmp_path):
    out = tmp_path / "run"
    args = ("--behavior", "none", "--epochs", 1, "--latent-dim", 4, "--state-dim", 8)
    assert invoke("fit", recording, "--out", out, *args).exit_code == 0
    assert not (out / "decoder").exists()
    assert "no decoder" in refused("decode", out, recording, "--out", tmp_path / "x.csv")
    assert "no decoder" in refused("evaluate", out, recording)
    assert invoke("report", out).exit_code == 0
    assert "colored by time" in (out / "report.html").read_text()


def test_units_can_be_chosen_by_column(recording, tmp_path):
    args = ("--units", "cell_type=inhibitory", "--behavior", "none", "--epochs", 1)
    out = tmp_path / "run"
    assert invoke("fit", recording, "--out", out, *args, "--latent-dim", 2, "--state-dim", 2).exit_code == 0
    assert Run.load(out).model.unit_ids_ == ("25", "26")
    assert "COLUMN=VALUE" in refused("fit", recording, "--out", tmp_path / "no", "--units", "inhibitory")


def test_existing_run_is_refused_before_the_fit_and_replaced_only_when_the_new_one_is_done(
    copy, recording, monkeypatch
):
    before = contents(copy)
    monkeypatch.setattr("kalmanssl.runs._run.Recording.from_nwb", lambda *a, **k: pytest.fail("read the recording"))
    assert "--overwrite" in refused("fit", recording, "--out", copy)
    assert contents(copy) == before
    monkeypatch.undo()

    def stop(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kalmanssl.runs._evaluation.Evaluation.save", stop)
    args = ("fit", recording, "--out", copy, "--overwrite", "--behavior", "none", "--epochs", 1, *SMALL[:4])
    assert "No space left" in refused_after_progress(*args)
    assert contents(copy) == before
    monkeypatch.undo()
    # The work is not lost either: the training that was done need not be repeated.
    result = invoke("fit", recording, "--out", copy, "--overwrite", "--resume")
    assert result.exit_code == 0, result.output
    assert not (copy / "decoder").exists()
    assert {p.name for p in copy.parent.iterdir()} == {"copy"}


def refused_after_progress(*arguments, code=2):
    """Run a fit that must fail after training: the last line on standard error says why."""
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_a_folder_that_is_no_run_is_never_replaced(recording, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    assert "never replaced" in refused("fit", recording, "--out", tmp_path, "--overwrite")
    assert (tmp_path / "thesis.tex").read_text() == "all of it"


def test_interrupted_fit_is_resumed(recording, tmp_path, monkeypatch, interruptible):
    from kalmanssl.training._progress import Progress

    seen = []

    def interrupt(self, metrics):
        seen.append(metrics)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "show_epoch", interrupt)
    out = tmp_path / "run"
    args = ("fit", recording, "--out", out, "--until", UNTIL, *ZONES, *SMALL, "--epochs", 3)
    message = refused_after_progress(*args, code=130)
    assert "run.partial" in message
    assert f"kalmanssl fit {recording} --out {out} --resume" in message
    assert not out.exists()
    kept = contents(tmp_path / "run.partial")
    assert "last.safetensors" in kept
    monkeypatch.undo()

    assert "--resume" in refused(*args)  # what was kept is not thrown away by mistake
    assert "--epochs=5 differs" in refused("fit", recording, "--out", out, "--resume", "--epochs", 5)
    assert contents(tmp_path / "run.partial") == kept
    result = invoke("fit", recording, "--out", out, "--resume")
    assert result.exit_code == 0, result.output
    assert len(Run.load(out).model.history_["loss"]) == 3
    assert Run.load(out).settings.until == UNTIL
    assert {p.name for p in tmp_path.iterdir()} == {"run"}


def test_interrupt_before_the_first_checkpoint_keeps_nothing(recording, tmp_path, monkeypatch):
    def interrupt(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr("kalmanssl.training._progress.Progress.show_step", interrupt)
    message = refused_after_progress("fit", recording, "--out", tmp_path / "run", *SMALL, code=130)
    assert "nothing is kept" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", ["CollapseError", "DivergenceError"])
def test_failed_training_is_said_on_one_line(recording, tmp_path, monkeypatch, error):
    import kalmanssl.errors

    def fail(self, X, y=None, *, resume=False):
        raise getattr(kalmanssl.errors, error)("the latents\nwent away")

    monkeypatch.setattr("kalmanssl.estimator.KalmanSSL.fit", fail)
    message = refused("fit", recording, "--out", tmp_path / "run")
    assert message.startswith("error: the latents went away")


def test_nothing_to_resume(recording, tmp_path):
    assert "nothing to resume" in refused("fit", recording, "--out", tmp_path / "run", "--resume")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--until", "100"), "--until=100 leaves nothing"),
        (("--behavior", "nose"), "--behavior='nose' is not in the file"),
        (("--epoch", "Sleep"), "--epoch='Sleep' is not in"),
        (("--end-zones", "-5", "9"), "--end-zones=[-5.0, 9.0]: the animal never runs"),
        (("--end-zones", "1", "0"), "--end-zones overlap"),
        (("--end-zones", "0", "1", "--min-speed", "1"), "not both"),
        (("--units", "color=red"), "--units: the units table has no column 'color'"),
        (("--bin-size", "0"), "--bin-size must be"),
        (("--latent-dim", "9", "--state-dim", "2"), "--state-dim must be at least"),
        (("--noise", "pink"), "pink"),
        (("--level", "2"), "--level must be between 0 and 1"),
        (("--decoder", "magic"), "--decoder must be one of mlp, linear; got 'magic'"),
        (("--period", "-1"), "--period must be positive"),
        (("--until", "3600.5"), "window"),
    ],
)
def test_bad_settings_are_refused_before_training(recording, tmp_path, monkeypatch, arguments, says):
    monkeypatch.setattr("kalmanssl.training._loop._Loop.run", lambda *a, **k: pytest.fail("trained"))
    chosen = ("fit", recording, "--out", tmp_path / "run", "--epochs", 1, "--latent-dim", 4, "--state-dim", 8)
    assert says in refused(*chosen, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_bad_recordings_are_refused(tmp_path, recording):
    (tmp_path / "text.nwb").write_text("no NWB")
    (tmp_path / "half.nwb").write_bytes(recording.read_bytes()[:50_000])
    session(tmp_path / "still.nwb", spikes_of())
    two = [tracked(maze="a"), tracked(maze="b")]
    session(tmp_path / "two.nwb", spikes_of(), position=two)
    session(tmp_path / "silent.nwb", [np.zeros(0)] * 2, position=[tracked()])
    session(tmp_path / "nobody.nwb", position=[tracked()])
    for name, says in {
        "absent": "does not exist",
        "text": "not an NWB file",
        "half": "truncated",
        "still": "--behavior: the file has no SpatialSeries or TimeSeries; give 'none'",
        "two": "--behavior is ambiguous; name one of: aPosition, bPosition",
        "silent": "--units: the selected units have no spikes",
        "nobody": "no units",
    }.items():
        assert says in refused("fit", tmp_path / f"{name}.nwb", "--out", tmp_path / "run"), name
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.partial").exists()


# --- decode ----------------------------------------------------------------------------------------------------------


def test_decode_to_csv(run, recording, tmp_path):
    out = tmp_path / "decoded.csv"
    assert invoke("decode", run, recording, "--out", out, "--after", UNTIL).exit_code == 0
    with out.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["time", "mean", "lower", "upper"]
    table = np.array(rows[1:], dtype=float)
    rest = Recording.from_nwb(recording).restrict(start=UNTIL)
    np.testing.assert_allclose(table[:, 0], rest.time, atol=1e-6)
    opened = Run.load(run)
    expected = opened.decoder.predict(opened.model.transform(rest))
    for column, values in enumerate((expected.mean, expected.lower, expected.upper), start=1):
        np.testing.assert_allclose(table[:, column], values, rtol=1e-4, atol=1e-4)
    smooth = tmp_path / "smooth.csv"
    assert invoke("decode", run, recording, "--out", smooth, "--after", UNTIL, "--smooth").exit_code == 0
    assert smooth.read_text() != out.read_text()


def test_decode_to_nwb_in_the_clock_of_the_session(run, recording, tmp_path):
    from pynwb import NWBHDF5IO

    out = tmp_path / "decoded.nwb"
    assert invoke("decode", run, recording, "--out", out).exit_code == 0
    whole = Recording.from_nwb(recording)
    with NWBHDF5IO(str(out), "r") as io, NWBHDF5IO(str(recording), "r") as source:
        file = io.read()
        series = file.processing["kalmanssl"]["decoded_position"].spatial_series
        assert set(series) == {"mean", "lower", "upper"}
        np.testing.assert_allclose(series["mean"].timestamps[:], whole.time)
        assert (series["lower"].data[:] <= series["upper"].data[:]).all()
        assert series["mean"].unit == "meters"
        assert file.session_start_time == source.read().session_start_time


def test_decode_needs_no_behavior(run, recording, tmp_path):
    bare = replace(Recording.from_nwb(recording, units="all"), behavior={}, behavior_unit={})
    bare.to_nwb(tmp_path / "bare.nwb")
    result = invoke("decode", run, tmp_path / "bare.nwb", "--out", tmp_path / "bare.csv")
    assert result.exit_code == 0, result.output
    assert "without behavior" in result.stderr
    assert "no SpatialSeries" in refused("evaluate", run, tmp_path / "bare.nwb")


def test_decode_refuses_other_units_and_names_them(run, tmp_path):
    place_cells(n_units=23, n_interneurons=0, duration=60.0).to_nwb(tmp_path / "fewer.nwb")
    message = refused("decode", run, tmp_path / "fewer.nwb", "--out", tmp_path / "x.csv")
    assert "1 missing (24)" in message


def test_decode_never_writes_over_what_exists(run, recording, tmp_path):
    out = tmp_path / "decoded.csv"
    out.write_text("mine")
    assert "--overwrite" in refused("decode", run, recording, "--out", out)
    assert out.read_text() == "mine"
    assert invoke("decode", run, recording, "--out", out, "--overwrite").exit_code == 0
    size = recording.stat().st_size
    assert "the recording itself" in refused("decode", run, recording, "--out", recording, "--overwrite")
    assert recording.stat().st_size == size
    assert ".csv or .nwb" in refused("decode", run, recording, "--out", tmp_path / "x.txt")
    assert "no bin" in refused("decode", run, recording, "--out", tmp_path / "y.csv", "--after", 1e6)


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_json_is_one_object_and_nothing_else(run, recording):
    code = "import sys; from kalmanssl.cli import main; main()"
    command = [sys.executable, "-c", code, "evaluate", str(run), str(recording), "--after", str(UNTIL), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    stored = json.loads((run / "metadata.json").read_text())["scores"]
    for part in ("running", "all"):
        assert result[part]["median_error"] == pytest.approx(stored[part]["median_error"], rel=1e-3)
        assert set(result[part]["coverage"]) == {"50", "80", "95"}
    assert (result["behavior"], result["unit"], result["fitted"]) == ("position", "m", False)
    checked = json.loads((run / "evaluation/metadata.json").read_text())["assumptions"]
    assert result["assumptions"]["verdict"] == checked["verdict"]
    verdicts = {row["name"]: row["verdict"] for row in result["assumptions"]["assumptions"]}
    assert verdicts == {row["name"]: row["verdict"] for row in checked["assumptions"]}
    assert {"gaussian", "coverage", "injective"} <= set(verdicts)


def test_evaluate_takes_the_part_left_out_unless_told_otherwise(run, recording):
    def start(*more):
        result = invoke("evaluate", run, recording, "--json", *more)
        return json.loads(result.stdout), result.stderr

    left_out, said = start()
    assert left_out["start_s"] == pytest.approx(UNTIL)
    assert "held-out part" in said
    seen, said = start("--after", 3700)
    assert (seen["start_s"], seen["fitted"]) == (pytest.approx(3700.0), True)
    assert "fitted on" in said


def test_evaluate_can_smooth(run, recording):
    filtered, smoothed = (
        json.loads(invoke("evaluate", run, recording, "--json", *more).stdout) for more in ((), ("--smooth",))
    )
    assert (filtered["smoothed"], smoothed["smoothed"]) == (False, True)
    assert smoothed["running"]["mean_error"] != filtered["running"]["mean_error"]


def test_evaluate_prints_a_table(run, recording):
    text = invoke("evaluate", run, recording).stdout
    for word in ("running bins", "all bins", "median error (m)", "CRPS", "95 %"):
        assert word in text
    rows = Run.load(run).evaluation.assumptions["assumptions"]
    count = [sum(row["verdict"] == verdict for row in rows) for verdict in ("holds", "doubtful", "fails")]
    last = text.splitlines()[-1]
    assert last.startswith("assumptions of identifiability: {} hold, {} doubtful, {} fail".format(*count))


def test_a_part_too_short_for_the_checks_is_scored_all_the_same(run, recording):
    after = ("--after", 3896)
    result = json.loads(invoke("evaluate", run, recording, "--json", *after).stdout)
    assert result["all"]["bins"] > 100
    assert result["assumptions"]["verdict"] is None
    assert "at least 200 are needed" in result["assumptions"]["reason"]
    assert "assumptions of identifiability not checked: " in invoke("evaluate", run, recording, *after).stdout


# --- damaged runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how", "says"),
    [
        ("", "remove", "no run at"),
        ("metadata.json", "remove", "metadata.json is missing"),
        ("metadata.json", "cut", "metadata.json is damaged"),
        ("model", "remove", "no saved model"),
        ("model/metadata.json", "cut", "metadata.json is damaged"),
        ("model/weights.safetensors", "remove", "weights.safetensors is missing"),
        ("model/weights.safetensors", "cut", "checksum"),
        ("decoder", "remove", "no saved decoder"),
        ("decoder/weights.safetensors", "cut", "checksum"),
        ("evaluation/metadata.json", "remove", "metadata.json is missing"),
    ],
)
def test_damaged_run_is_named(copy, recording, name, how, says):
    target = copy / name
    if how == "cut":
        target.write_bytes(target.read_bytes()[:-20])
    elif target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    message = refused("evaluate", copy, recording)
    assert says in message
    assert str(copy) in message


def test_run_with_incomplete_metadata_is_reported_as_damaged(copy, recording):
    metadata = json.loads((copy / "metadata.json").read_text())
    del metadata["behavior"]
    (copy / "metadata.json").write_text(json.dumps(metadata))
    assert "damaged" in refused("evaluate", copy, recording)


# --- report, bench, demo ---------------------------------------------------------------------------------------------


def test_report_lands_in_the_run_or_where_it_is_told(copy, recording, tmp_path):
    assert invoke("report", copy).exit_code == 0
    assert "--overwrite" in refused("report", copy)
    page = tmp_path / "page.html"
    assert invoke("report", copy, recording, "--after", UNTIL, "--smooth", "--out", page).exit_code == 0
    assert "smoothed" in page.read_text()
    assert "smoothed" not in (copy / "report.html").read_text()
    assert "require the recording" in refused("report", copy, "--smooth", "--out", tmp_path / "no.html")


def test_bench_lists_and_refuses(tmp_path, monkeypatch):
    listed = invoke("bench").stdout.split()
    assert {"hc11", "filter"} <= set(listed)
    assert "peers" not in listed  # a folder that holds no suite
    assert "hc11" in refused("bench", "nothing")
    import kalmanssl.cli._main

    monkeypatch.setattr(kalmanssl.cli._main, "__file__", str(tmp_path / "site-packages/kalmanssl/cli/_main.py"))
    assert "source repository" in refused("bench", "hc11")


@pytest.mark.parametrize("file", ["suite.py", "suite/__main__.py"])
def test_bench_hands_on_arguments_and_exit_code(tmp_path, monkeypatch, file):
    import kalmanssl.cli._main

    (tmp_path / "benchmarks" / file).parent.mkdir(parents=True)
    (tmp_path / "benchmarks" / file).write_text(
        "import sys\nif __name__ == '__main__':\n    sys.exit(7 if sys.argv[1:] == ['--quick', 'x'] else 1)\n"
    )
    monkeypatch.setattr(kalmanssl.cli._main, "__file__", str(tmp_path / "kalmanssl/cli/_main.py"))
    assert invoke("bench", "suite", "--quick", "x").exit_code == 7


def test_bench_help_is_that_of_the_suite_and_an_end_by_a_signal_is_numbered_as_in_shells(tmp_path, monkeypatch):
    import kalmanssl.cli._main

    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "suite.py").write_text(
        "import os, sys\nif __name__ == '__main__':\n"
        "    sys.exit(9) if '--help' in sys.argv else os.kill(os.getpid(), 15)\n"
    )
    monkeypatch.setattr(kalmanssl.cli._main, "__file__", str(tmp_path / "kalmanssl/cli/_main.py"))
    assert invoke("bench", "suite", "--help").exit_code == 9
    assert invoke("bench", "suite").exit_code == 128 + 15


def test_demo_does_everything_and_keeps_to_its_folder(tmp_path, monkeypatch):
    import kalmanssl.runs._demo

    small = kalmanssl.runs._demo.DemoSize(
        n_units=16, duration=240.0, latent_dim=4, state_dim=8, epochs=1, decoder="linear"
    )
    monkeypatch.setattr(kalmanssl.runs._demo, "DemoSize", lambda: small)
    out = tmp_path / "demo"
    result = invoke("demo", "--out", out)
    assert result.exit_code == 0, result.output
    assert {p.name for p in out.iterdir()} == {"recording.nwb", "run", "decoded.csv", "report.html"}
    assert str(out / "report.html") in result.stdout
    assert "--overwrite" in refused("demo", "--out", out)
    decoded = (out / "decoded.csv").read_bytes()
    assert invoke("demo", "--out", out, "--overwrite").exit_code == 0
    assert (out / "decoded.csv").read_bytes() == decoded
    (out / "mine.txt").write_text("mine")
    assert "mine.txt" in refused("demo", "--out", out, "--overwrite")
    assert (out / "mine.txt").exists()
