"""`benchmarks/gpu_check.sh` at small sizes on the CPU; what it measures on a GPU is the same code."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from gpu import filters, timing
from gpu.__main__ import app
from gpu.encoders import PRECISIONS, works_of
from gpu.filters import SIZES, dynamax_cells, filter_cells
from gpu.training import MODELS
from typer.testing import CliRunner

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.sh"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu") / "results"
    command = [str(SCRIPT), "--device", "cpu", "--quick", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "results.json").read_text()), done


def test_every_part_is_measured(results):
    found, _ = results
    rows = found["results"]
    measured = {part: [row for row in rows if row["part"] == part] for part in ("filter", "training", "encoder")}
    assert [row["name"] for row in measured["filter"]] == ["scan", "loop"] * 6
    assert [row["name"] for row in measured["training"]] == list(MODELS)
    assert len(measured["encoder"]) == 2
    assert sum(row["part"] == "crossover" for row in rows) == 4
    for row in rows:
        if row["part"] != "dynamax":
            assert "failed" not in row, row
            assert 0 < row["wall_min_s"] <= row["wall_s"]
            assert row["peak_mb"] > 50
            assert row["repeats"] > 0


def test_the_filter_is_right_and_models_learn(results):
    rows = results[0]["results"]
    errors = [row["error"] for row in rows if row["part"] in ("filter", "crossover") and row["task"] != "smoother"]
    assert len(errors) == 12
    assert max(errors) < 1e-5
    losses = [row["loss"] for row in rows if row["part"] == "training"]
    assert all(loss is not None for loss in losses)
    assert all(row["images_per_s"] == pytest.approx(row["images"] / row["wall_s"]) for row in rows if "images" in row)


def test_settings_device_and_tables_are_shown(results):
    found, done = results
    assert found["settings"]["preset"] == "quick"
    assert found["machine"]["device"] == "cpu"
    for title in ("Filter, wall milliseconds", "Loops and scans", "Training", "Image encoder", "results: "):
        assert title in done.stdout
    assert "scan" in done.stdout


def in_process(*options, out):
    arguments = ["--device", "cpu", "--quick", "--quiet", "--parts", "encoder", "--out", str(out), *options]
    return CliRunner().invoke(app, arguments)


def test_what_there_was_no_time_for_is_run_by_the_next_call(tmp_path, monkeypatch):
    left = iter([1.0, 1.0, 0.0])
    with monkeypatch.context() as patched:
        patched.setattr(timing.Clock, "left", property(lambda clock: next(left)))
        assert in_process(out=tmp_path / "results").exit_code == 0
    read = lambda: json.loads((tmp_path / "results" / "results.json").read_text())["results"]  # noqa: E731
    first, second = read()
    assert "wall_s" in first
    assert second["failed"] == "no time left"
    assert in_process(out=tmp_path / "results").exit_code == 0
    assert read()[0] == first
    assert "wall_s" in read()[1]


def test_a_device_that_does_not_exist_is_refused(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = in_process("--device", "cuda", out=tmp_path / "results")
    assert done.exit_code == 2
    assert "device 'cuda' does not exist" in done.output


def test_an_error_does_not_end_the_run(tmp_path, monkeypatch):
    def fails(*arguments, **keywords):
        raise RuntimeError("CUDA out of memory.\nTry less")

    monkeypatch.setattr("gpu.__main__.run_encoder", fails)
    assert in_process(out=tmp_path / "results").exit_code == 0
    rows = json.loads((tmp_path / "results" / "results.json").read_text())["results"]
    assert [row["failed"] for row in rows] == ["RuntimeError: CUDA out of memory."] * 2


def test_all_sizes_of_the_table_are_planned():
    cells = list(filter_cells(SIZES, with_cpu=True))
    assert {size for _, size, _, _ in cells} == set(SIZES)
    assert {name for name, *_ in cells} == {filters.SCAN, filters.LOOP, filters.ON_CPU}
    assert (filters.LOOP, SIZES[-1], "varying", "forward") not in cells
    assert len(set(cells)) == len(cells)
    assert {name for name, *_ in dynamax_cells(SIZES)} == {filters.DYNAMAX, filters.DYNAMAX_SCAN}
    assert [precision for _, precision in works_of(torch.device("cuda"))] == [*PRECISIONS, *PRECISIONS]


def test_calls_are_repeated_within_the_budget_and_long_ones_are_not(monkeypatch):
    durations = iter([3.0, 0.4, 0.7])
    monkeypatch.setattr(timing, "_wall", lambda work, device: next(durations))
    row = timing.time_calls(lambda: None, torch.device("cpu"), 1.0)
    assert (row["first_s"], row["wall_s"], row["wall_min_s"], row["repeats"]) == (3.0, pytest.approx(0.55), 0.4, 2)
    durations = iter([9.0])
    row = timing.time_calls(lambda: None, torch.device("cpu"), 1.0)
    assert (row["first_s"], row["wall_s"], row["repeats"]) == (9.0, 9.0, 0)


def test_the_median_step_leaves_out_the_first_half():
    stamps = timing.Stamps()
    stamps.times = [0.0, 10.0, 20.0, 21.0, 23.0]
    assert stamps.row() == {"wall_s": 1.5, "wall_min_s": 1.0, "repeats": 2}
