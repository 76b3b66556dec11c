"""`ks.fit_run` and `ks.open_run` do in Python what the commands do."""

from __future__ import annotations

import numpy as np
import pytest
from cli_commands import invoke

import kalmanssl as ks
from kalmanssl.runs import RunSettings


def test_a_run_in_python_is_that_of_the_command(run, recording, tmp_path):
    opened = ks.open_run(run)
    settings = opened.settings.given()
    del settings["recording"]
    lines = []
    fitted = ks.fit_run(recording, tmp_path / "run", logger=lines.append, **settings)
    assert lines
    assert fitted.settings == opened.settings
    assert (tmp_path / "run/model/weights.safetensors").read_bytes() == (run / "model/weights.safetensors").read_bytes()
    assert fitted.evaluation.scores == opened.evaluation.scores


def test_a_run_decodes_files_and_recordings_and_writes_its_report(run, recording, tmp_path):
    opened = ks.open_run(run)
    result = invoke("decode", run, recording, "--out", tmp_path / "decoded.csv")
    assert result.exit_code == 0, result.output
    expected = np.genfromtxt(tmp_path / "decoded.csv", delimiter=",", names=True)["mean"]
    decoded = opened.decode(recording)
    np.testing.assert_allclose(decoded.mean, expected, rtol=1e-5)
    np.testing.assert_array_equal(opened.decode(ks.Recording.from_nwb(recording)).mean, decoded.mean)
    assert not np.array_equal(opened.decode(recording, smooth=True).mean, decoded.mean)
    opened.write_report(tmp_path / "report.html")
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_settings_of_python_become_those_of_a_file(tmp_path):
    settings = RunSettings.of(
        tmp_path / "rat.nwb", end_zones=np.array([0.1, 1.5]), hidden=(64,), level=np.float64(0.9), period=None
    )
    assert settings == RunSettings(str(tmp_path / "rat.nwb"), end_zones=[0.1, 1.5], level=0.9, model={"hidden": [64]})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"untill": 1.0}, "there is no setting of a run 'untill': did you mean 'until'"),
        ({"until": "noon"}, "until must be a number"),
        ({"end_zones": (1.0, 0.5)}, "end_zones must be two increasing numbers"),
        ({"units": "CA1"}, "units must be a list of texts"),
        ({"linearize": 1}, "linearize must be true or false"),
        ({"random_state": np.random.default_rng()}, "random_state must be a number, text, or a list of these"),
        ({"end_zones": (0.1, 1.5), "min_speed": 0.1}, "give end_zones .* or min_speed .* not both"),
        ({"checkpoint_dir": "here"}, "there is no setting of a run 'checkpoint_dir'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(recording, tmp_path, wrong, message):
    with pytest.raises(ks.InputError, match=message):
        ks.fit_run(recording, tmp_path / "run", **wrong)
    assert not list(tmp_path.iterdir())


def test_paths_are_checked(tmp_path):
    for wrong in (3, None, object()):
        with pytest.raises(ks.InputError, match="recording"):
            ks.fit_run(wrong, tmp_path / "run")
    with pytest.raises(ks.InputError, match="no run at"):
        ks.open_run(tmp_path / "none")
