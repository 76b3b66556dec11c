"""The commands: their output, and their error messages."""

from __future__ import annotations

import csv
import inspect
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
from typer.main import get_command
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


def fails(*arguments, code=2):
    """Run a command that must fail, check that it prints one line on standard error only, and return that line."""
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


# --- help and errors -------------------------------------------------------------------------------------------------


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, kalmanssl, kalmanssl.cli as c\n"
        "from typer.testing import CliRunner\n"
        "for arguments in (['--help'], ['fit', '--help'], ['--version']):\n"
        "    assert CliRunner().invoke(c.app, arguments).exit_code == 0\n"
        "print([m for m in ('torch', 'pynwb', 'h5py', 'matplotlib', 'sklearn', 'numpy') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["demo", "fit", "decode", "evaluate", "report", "bench"])
def test_help_of_every_command_has_an_example(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"kalmanssl {command}" in result.output.split("Options")[0].split("Usage:")[1].split("\n", 1)[1]


def test_help_shows_the_defaults_of_the_library():
    from kalmanssl.decoding import PositionDecoder
    from kalmanssl.estimator import KalmanSSL

    shown = {o.name: o.show_default for o in get_command(app).commands["fit"].params}
    model, decoder = inspect.signature(KalmanSSL).parameters, inspect.signature(PositionDecoder).parameters
    for option in ("latent_dim", "state_dim", "noise", "epochs"):
        assert shown[option] == str(model[option].default)
    assert shown["level"] == str(decoder["level"].default)
    assert shown["decoder"] == decoder["regressor"].default
    assert shown["bin_size"] == str(inspect.signature(Recording.from_nwb).parameters["bin_size"].default)


def test_assumption_checks_are_exported_at_the_top_level():
    import kalmanssl as ks
    from kalmanssl.identifiability import check_assumptions

    assert ks.check_assumptions is check_assumptions
    assert ks.identifiability.check_assumptions is check_assumptions
    assert {"check_assumptions", "identifiability"} <= set(dir(ks))


def test_version_option_prints_the_version():
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
def test_errors_name_the_option_of_the_wrong_argument(message, parameter, shown):
    options = {"bin_size": "--bin-size", "epoch": "--epoch", "units": "--units"}
    assert one_line(InputError(message, parameter=parameter), options) == shown


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_writes_a_complete_run_and_removes_the_work_folder(run):
    assert {p.name for p in run.iterdir()} == {"metadata.json", "model", "decoder", "evaluation"}
    assert {p.name for p in run.parent.iterdir()} == {"run"}
    metadata = json.loads((run / "metadata.json").read_text())
    assert metadata["recording"]["source"] == "rat.nwb"
    assert metadata["recording"]["units"] == 24
    assert metadata["recording"]["fitted_until_s"] == pytest.approx(UNTIL)
    assert metadata["settings"]["end_zones"] == [0.15, 1.45]
    assert metadata["scores"]["running"]["bins"] > 100
    assert Run.load(run).model.history_["loss"].__len__() == 2


def test_fit_scores_the_held_out_part(run, recording):
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
    assert "no decoder" in fails("decode", out, recording, "--out", tmp_path / "x.csv")
    assert "no decoder" in fails("evaluate", out, recording)
    assert invoke("report", out).exit_code == 0
    assert "colored by time" in (out / "report.html").read_text()


def test_units_can_be_selected_by_a_column_of_the_units_table(recording, tmp_path):
    args = ("--units", "cell_type=inhibitory", "--behavior", "none", "--epochs", 1)
    out = tmp_path / "run"
    assert invoke("fit", recording, "--out", out, *args, "--latent-dim", 2, "--state-dim", 2).exit_code == 0
    assert Run.load(out).model.unit_ids_ == ("25", "26")
    assert "COLUMN=VALUE" in fails("fit", recording, "--out", tmp_path / "no", "--units", "inhibitory")


def test_existing_run_is_replaced_only_with_overwrite_and_only_by_a_complete_run(copy, recording, monkeypatch):
    before = contents(copy)
    monkeypatch.setattr("kalmanssl.runs._run.Recording.from_nwb", lambda *a, **k: pytest.fail("read the recording"))
    assert "--overwrite" in fails("fit", recording, "--out", copy)
    assert contents(copy) == before
    monkeypatch.undo()

    def stop(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kalmanssl.runs._evaluation.Evaluation.save", stop)
    args = ("fit", recording, "--out", copy, "--overwrite", "--behavior", "none", "--epochs", 1, *SMALL[:4])
    assert "No space left" in fails_after_training(*args)
    assert contents(copy) == before
    monkeypatch.undo()
    # The training is not lost: --resume continues after it.
    result = invoke("fit", recording, "--out", copy, "--overwrite", "--resume")
    assert result.exit_code == 0, result.output
    assert not (copy / "decoder").exists()
    assert {p.name for p in copy.parent.iterdir()} == {"copy"}


def fails_after_training(*arguments, code=2):
    """Run a fit that must fail after training has started, and return the last line on standard error."""
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_a_folder_that_is_not_a_run_is_never_replaced(recording, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    assert "never replaced" in fails("fit", recording, "--out", tmp_path, "--overwrite")
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
    message = fails_after_training(*args, code=130)
    assert "run.partial" in message
    assert f"kalmanssl fit {recording} --out {out} --resume" in message
    assert not out.exists()
    kept = contents(tmp_path / "run.partial")
    assert "last.safetensors" in kept
    monkeypatch.undo()

    assert "--resume" in fails(*args)  # checkpoints are not discarded by mistake
    assert "--epochs=5 differs" in fails("fit", recording, "--out", out, "--resume", "--epochs", 5)
    assert contents(tmp_path / "run.partial") == kept
    result = invoke("fit", recording, "--out", out, "--resume")
    assert result.exit_code == 0, result.output
    assert len(Run.load(out).model.history_["loss"]) == 3
    assert Run.load(out).settings.until == UNTIL
    assert {p.name for p in tmp_path.iterdir()} == {"run"}


def test_interrupt_before_the_first_checkpoint_leaves_no_files(recording, tmp_path, monkeypatch):
    def interrupt(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr("kalmanssl.training._progress.Progress.show_step", interrupt)
    message = fails_after_training("fit", recording, "--out", tmp_path / "run", *SMALL, code=130)
    assert "nothing is kept" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", ["CollapseError", "DivergenceError"])
def test_failed_training_is_reported_on_one_line(recording, tmp_path, monkeypatch, error):
    import kalmanssl.errors

    def fail(self, X, y=None, *, resume=False):
        raise getattr(kalmanssl.errors, error)("the latents\nwent away")

    monkeypatch.setattr("kalmanssl.estimator.KalmanSSL.fit", fail)
    message = fails("fit", recording, "--out", tmp_path / "run")
    assert message.startswith("error: the latents went away")


def test_resume_without_an_interrupted_fit_is_an_error(recording, tmp_path):
    assert "nothing to resume" in fails("fit", recording, "--out", tmp_path / "run", "--resume")


@pytest.mark.parametrize(
    ("arguments", "expected_message"),
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
def test_wrong_settings_are_rejected_before_training(recording, tmp_path, monkeypatch, arguments, expected_message):
    monkeypatch.setattr("kalmanssl.training._loop._Loop.run", lambda *a, **k: pytest.fail("trained"))
    chosen = ("fit", recording, "--out", tmp_path / "run", "--epochs", 1, "--latent-dim", 4, "--state-dim", 8)
    assert expected_message in fails(*chosen, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_unusable_recordings_are_rejected(tmp_path, recording):
    (tmp_path / "text.nwb").write_text("no NWB")
    (tmp_path / "half.nwb").write_bytes(recording.read_bytes()[:50_000])
    session(tmp_path / "still.nwb", spikes_of())
    two = [tracked(maze="a"), tracked(maze="b")]
    session(tmp_path / "two.nwb", spikes_of(), position=two)
    session(tmp_path / "silent.nwb", [np.zeros(0)] * 2, position=[tracked()])
    session(tmp_path / "nobody.nwb", position=[tracked()])
    for name, expected_message in {
        "absent": "does not exist",
        "text": "not an NWB file",
        "half": "truncated",
        "still": "--behavior: the file has no SpatialSeries or TimeSeries; give 'none'",
        "two": "--behavior is ambiguous; name one of: aPosition, bPosition",
        "silent": "--units: the selected units have no spikes",
        "nobody": "no units",
    }.items():
        assert expected_message in fails("fit", tmp_path / f"{name}.nwb", "--out", tmp_path / "run"), name
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.partial").exists()


# --- decode ----------------------------------------------------------------------------------------------------------


def test_decode_writes_mean_and_interval_to_csv(run, recording, tmp_path):
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


def test_decode_writes_nwb_with_the_times_of_the_session(run, recording, tmp_path):
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
    assert "no bin" in fails("decode", run, recording, "--out", tmp_path / "y.csv", "--after", 1e6)


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_json_output_is_a_single_object(run, recording):
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


def test_evaluate_uses_the_held_out_part_by_default(run, recording):
    def start(*more):
        result = invoke("evaluate", run, recording, "--json", *more)
        return json.loads(result.stdout), result.stderr

    held_out, messages = start()
    assert held_out["start_s"] == pytest.approx(UNTIL)
    assert "note: evaluated on the held-out part" in messages
    fitted, messages = start("--after", 3700)
    assert (fitted["start_s"], fitted["fitted"]) == (pytest.approx(3700.0), True)
    assert "note: the model was fitted on this part" in messages


def test_smoothing_changes_the_scores(run, recording):
    filtered, smoothed = (
        json.loads(invoke("evaluate", run, recording, "--json", *more).stdout) for more in ((), ("--smooth",))
    )
    assert (filtered["smoothed"], smoothed["smoothed"]) == (False, True)
    assert smoothed["running"]["mean_error"] != filtered["running"]["mean_error"]


def test_evaluate_prints_a_table_of_scores_and_a_line_on_the_assumptions(run, recording):
    text = invoke("evaluate", run, recording).stdout
    for word in ("running bins", "all bins", "median error (m)", "CRPS", "95 %"):
        assert word in text
    rows = Run.load(run).evaluation.assumptions["assumptions"]
    count = [sum(row["verdict"] == verdict for row in rows) for verdict in ("holds", "doubtful", "fails")]
    last = text.splitlines()[-1]
    assert last.startswith("assumptions of identifiability: {} hold, {} doubtful, {} fail".format(*count))


def test_a_part_too_short_for_the_assumption_checks_is_scored(run, recording):
    after = ("--after", 3896)
    result = json.loads(invoke("evaluate", run, recording, "--json", *after).stdout)
    assert result["all"]["bins"] > 100
    assert result["assumptions"]["verdict"] is None
    assert "at least 200 are needed" in result["assumptions"]["reason"]
    assert "assumptions of identifiability not checked: " in invoke("evaluate", run, recording, *after).stdout


# --- damaged runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how", "expected_message"),
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
def test_error_names_the_damaged_run_and_file(copy, recording, name, how, expected_message):
    target = copy / name
    if how == "cut":
        target.write_bytes(target.read_bytes()[:-20])
    elif target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    message = fails("evaluate", copy, recording)
    assert expected_message in message
    assert str(copy) in message


def test_run_with_incomplete_metadata_is_reported_as_damaged(copy, recording):
    metadata = json.loads((copy / "metadata.json").read_text())
    del metadata["behavior"]
    (copy / "metadata.json").write_text(json.dumps(metadata))
    assert "damaged" in fails("evaluate", copy, recording)


# --- report, bench, demo ---------------------------------------------------------------------------------------------


def test_report_is_written_to_the_run_folder_or_to_out(copy, recording, tmp_path):
    assert invoke("report", copy).exit_code == 0
    assert "--overwrite" in fails("report", copy)
    page = tmp_path / "page.html"
    assert invoke("report", copy, recording, "--after", UNTIL, "--smooth", "--out", page).exit_code == 0
    assert "smoothed" in page.read_text()
    assert "smoothed" not in (copy / "report.html").read_text()
    assert "require the recording" in fails("report", copy, "--smooth", "--out", tmp_path / "no.html")


def test_bench_lists_the_suites_and_rejects_unknown_ones(tmp_path, monkeypatch):
    listed = invoke("bench").stdout.split()
    assert {"hc11", "filter"} <= set(listed)
    assert "peers" not in listed  # a folder without a suite
    assert "hc11" in fails("bench", "nothing")
    import kalmanssl.cli._main

    monkeypatch.setattr(kalmanssl.cli._main, "__file__", str(tmp_path / "site-packages/kalmanssl/cli/_main.py"))
    assert "source repository" in fails("bench", "hc11")


@pytest.mark.parametrize("file", ["suite.py", "suite/__main__.py"])
def test_bench_passes_on_arguments_and_exit_code(tmp_path, monkeypatch, file):
    import kalmanssl.cli._main

    (tmp_path / "benchmarks" / file).parent.mkdir(parents=True)
    (tmp_path / "benchmarks" / file).write_text(
        "import sys\nif __name__ == '__main__':\n    sys.exit(7 if sys.argv[1:] == ['--quick', 'x'] else 1)\n"
    )
    monkeypatch.setattr(kalmanssl.cli._main, "__file__", str(tmp_path / "kalmanssl/cli/_main.py"))
    assert invoke("bench", "suite", "--quick", "x").exit_code == 7


def test_bench_shows_the_help_of_the_suite_and_returns_the_exit_code_of_a_signal(tmp_path, monkeypatch):
    import kalmanssl.cli._main

    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "suite.py").write_text(
        "import os, sys\nif __name__ == '__main__':\n"
        "    sys.exit(9) if '--help' in sys.argv else os.kill(os.getpid(), 15)\n"
    )
    monkeypatch.setattr(kalmanssl.cli._main, "__file__", str(tmp_path / "kalmanssl/cli/_main.py"))
    assert invoke("bench", "suite", "--help").exit_code == 9
    assert invoke("bench", "suite").exit_code == 128 + 15


def test_demo_writes_only_to_its_folder_and_replaces_only_its_own_output(tmp_path, monkeypatch):
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
    assert "--overwrite" in fails("demo", "--out", out)
    decoded = (out / "decoded.csv").read_bytes()
    assert invoke("demo", "--out", out, "--overwrite").exit_code == 0
    assert (out / "decoded.csv").read_bytes() == decoded
    (out / "mine.txt").write_text("mine")
    assert "mine.txt" in fails("demo", "--out", out, "--overwrite")
    assert (out / "mine.txt").exists()
