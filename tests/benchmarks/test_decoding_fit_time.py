"""The command `decoding fit-time`."""

import json
import os

import pytest
from decoding.__main__ import app
from suite import RESULTS
from typer.testing import CliRunner

from kalmanssl.kalman.backends import BACKENDS, filter_auto

pytestmark = pytest.mark.filterwarnings("ignore:calibrated on .* blocks of time:UserWarning")


def test_fits_of_both_implementations_agree_and_restore_the_backend(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    arguments = ["fit-time", "--quick", "--out", str(tmp_path), "--only", "compiled", "--only", "torch"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    compiled, torch = json.loads((tmp_path / "results.json").read_text())["results"]
    assert compiled["name"] == "compiled"
    assert 0 < compiled["model_cpu_s"] < compiled["fit_cpu_s"]
    for method, scores in compiled["scores"].items():
        assert scores["crps"] == pytest.approx(torch["scores"][method]["crps"], rel=0.05)
    assert BACKENDS["auto"] is filter_auto
    assert "NUMBA_DISABLE_JIT" not in os.environ


def test_unknown_methods_are_refused(tmp_path):
    result = CliRunner().invoke(app, ["fit-time", "--only", "fast", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "use one of 'compiled'" in result.output


def test_stored_results_are_of_every_method():
    stored = json.loads((RESULTS / "fit_time" / "results.json").read_text())
    assert [row["name"] for row in stored["results"]] == ["compiled", "torch", "reference", "cebra"]
