"""Run every example and check what it prints and saves."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example in an empty folder; return what it prints. Its figure must exist."""

    def run_example(name: str) -> str:
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        return capsys.readouterr().out

    return run_example


def test_every_example_is_tested() -> None:
    source = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'run("{path.stem}")' in source


def test_choose_latent_dim(run) -> None:
    assert "chosen: 2 latents" in run("choose_latent_dim")


def test_filter_alone(run) -> None:
    out = run("filter_alone")
    assert "log-likelihood " in out
    assert "No evidence against the model" in out
    assert "Check R first, which seems too large" in out


def test_fit_and_decode(run) -> None:
    coverage = float(re.search(r"covers (\d+\.\d)%", run("fit_and_decode"))[1])
    assert 85 < coverage <= 100


def test_images_without_labels(run) -> None:
    pytest.importorskip("kornia")
    accuracy = float(re.search(r"(\d+\.\d) % of the test digits", run("images_without_labels"))[1])
    assert accuracy > 93  # 96 % for seed 0; random weights reach 85 %


def test_live_decoding(run) -> None:
    out = run("live_decoding")
    coverage = float(re.search(r"covers (\d+\.\d)%", out)[1])
    assert 85 < coverage <= 100
    assert int(re.search(r"(\d+) bins were predicted without activity", out)[1]) > 0


def test_live_decoding_stream(run) -> None:
    out = run("live_decoding_stream")
    routes = re.findall(r"(TCP|LSL): (\d+) bins, at most (\S+) m", out)
    assert [name for name, *_ in routes] == (["TCP"] if "LSL WAS NOT USED" in out else ["TCP", "LSL"])
    for _, n_bins, difference in routes:
        assert int(n_bins) == 1200
        assert float(difference) < 1e-4
    assert "left out a bin: activity must be one bin of" in out
    assert "left out a message that is not [time, [counts]]: [" in out
    assert "the stream stopped: timed out" in out


def test_latents_with_labels(run) -> None:
    errors = [
        float(value) for value in re.findall(r"median error of the test part (\d+\.\d)", run("latents_with_labels"))
    ]
    assert errors[0] > 60
    assert errors[1] < 25


def test_linear_ica(run) -> None:
    rows = [line.split() for line in run("linear_ica").splitlines() if "LinearICA" in line]
    assert len(rows) == 2
    for row in rows:
        assert float(row[-1]) > 0.97


def test_pynapple_roundtrip(run) -> None:
    pytest.importorskip("pynapple")
    assert float(re.search(r"median error in \d+ runs: (\d+\.\d) cm", run("pynapple_roundtrip"))[1]) < 12


def test_several_sessions(run) -> None:
    out = run("several_sessions")
    assert float(re.search(r"median error without labels: (\d+\.\d) cm", out)[1]) < 10  # 29 by chance
    assert float(re.search(r"median error with them: (\d+\.\d) cm", out)[1]) < 10
    assert float(re.search(r"covers (\d+\.\d)%", out)[1]) > 85
    assert "margin to another solution" in out


def test_trials(run) -> None:
    coverage = float(re.search(r"covers (\d+\.\d)%", run("trials"))[1])
    assert 80 < coverage <= 98


def test_two_views(run) -> None:
    out = run("two_views")
    found = [float(value) for value in re.findall(r"R² of the shared process (-?\d\.\d+)", out)]
    assert found[0] < 0.2
    assert min(found[1:]) > 0.7
    assert "forecast to 501.0 s" in out


def test_which_units(run) -> None:
    out = run("which_units")
    score, best = re.search(r"co-smoothing: (\d\.\d+) ± \S+ bits per spike; true rates: (\d\.\d+)", out).groups()
    assert 0.3 * float(best) < float(score) < float(best)
    assert int(re.search(r"(\d+) of 16 cells", out)[1]) >= 12
    assert int(re.search(r"(\d+) of 8 noise units", out)[1]) <= 3
