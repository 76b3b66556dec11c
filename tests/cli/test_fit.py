"""kalmanssl fit: its output, interrupted fits, and rejected settings and recordings."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
from cli_commands import SMALL, UNTIL, ZONES, contents, fails, fails_after_training, invoke
from nwb_sessions import session, spikes_of, tracked

from kalmanssl.data import Recording
from kalmanssl.datasets import place_cells
from kalmanssl.runs import Run


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


def test_fit_with_a_weight_of_the_behavior(recording, tmp_path):
    args = ("--until", UNTIL, *ZONES, *SMALL, "--epochs", 1, "--behavior-weight", 2)
    assert invoke("fit", recording, "--out", tmp_path / "run", *args).exit_code == 0
    model = Run.load(tmp_path / "run").model
    assert model.behavior_weight == 2
    assert len(model.history_["behavior"]) == 1
    without = ("fit", recording, "--out", tmp_path / "none", "--behavior", "none", "--behavior-weight")
    assert "--behavior-weight needs a behavior" in fails(*without, 2)


def test_fit_of_a_whole_recording_that_ends_before_the_split_notes_that_nothing_is_held_out(recording, tmp_path):
    args = ("--behavior", "none", *SMALL, "--epochs", 1, "--until", 5000)
    result = invoke("fit", recording, "--out", tmp_path / "run", *args)
    assert result.exit_code == 0, result.output
    assert "note: until=5000 is after the end of the recording, so nothing is held out from the fit" in result.stderr


def test_fit_without_behavior(recording, tmp_path):
    out = tmp_path / "run"
    args = ("--behavior", "none", "--epochs", 1, "--latent-dim", 4, "--state-dim", 8)
    assert invoke("fit", recording, "--out", out, *args).exit_code == 0
    assert not (out / "decoder").exists()
    assert "no decoder" in fails("decode", out, recording, "--out", tmp_path / "x.csv")
    assert "no decoder" in fails("evaluate", out, recording)
    assert invoke("report", out).exit_code == 0
    assert "colored by time" in (out / "report.html").read_text()


def test_a_recording_in_short_segments_is_fitted_with_shorter_windows(tmp_path):
    whole = place_cells(n_units=10, duration=60.0, random_state=0)
    time = whole.time + 2.0 * (np.arange(len(whole)) // 48)
    Recording.from_arrays(whole.activity, time=time).to_nwb(tmp_path / "trials.nwb")
    result = invoke(
        "fit", tmp_path / "trials.nwb", "--out", tmp_path / "run", "--behavior", "none", *SMALL, "--epochs", 1
    )
    assert result.exit_code == 0, result.output
    assert "trained on windows of 48 bins, not 100, since the segments are short" in result.stderr
    assert Run.load(tmp_path / "run").model.window_ == 48


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
        (("--end-zones", "1", "0"), "--end-zones must be two increasing numbers"),
        (("--end-zones", "0", "1", "--min-speed", "1"), "not both"),
        (("--units", "color=red"), "--units: the units table has no column 'color'"),
        (("--bin-size", "0"), "--bin-size must be"),
        (("--latent-dim", "9", "--state-dim", "2"), "--state-dim must be at least"),
        (("--noise", "pink"), "pink"),
        (("--level", "2"), "--level must be between 0 and 1"),
        (("--decoder", "magic"), "--decoder must be one of ensemble, mlp, linear; got 'magic'"),
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
