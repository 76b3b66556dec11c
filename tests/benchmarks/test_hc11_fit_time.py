"""What a fit costs, as a command, in its short form on a simulated rat."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytestmark = pytest.mark.filterwarnings("ignore:calibrated on .* blocks of time:UserWarning")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_compiled_and_plain_fits_agree_and_leave_everything_as_it_was(tmp_path):
    import hc11_fit_time

    from kalmanssl.kalman.backends import BACKENDS, filter_auto

    arguments = ["--quick", "--out", str(tmp_path), "--only", "compiled", "--only", "torch"]
    result = CliRunner().invoke(hc11_fit_time.app, arguments)
    assert result.exit_code == 0, result.output
    compiled, plain = json.loads((tmp_path / "results.json").read_text())["results"]
    assert compiled["name"] == "compiled"
    assert 0 < compiled["model_cpu_s"] < compiled["fit_cpu_s"]
    for method, scores in compiled["scores"].items():
        assert scores["median"] == pytest.approx(plain["scores"][method]["median"], rel=0.05)
    assert BACKENDS["auto"] is filter_auto
    assert "NUMBA_DISABLE_JIT" not in os.environ


def test_an_unknown_name_is_refused(tmp_path):
    import hc11_fit_time

    result = CliRunner().invoke(hc11_fit_time.app, ["--only", "fast", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "choose among" in result.output
