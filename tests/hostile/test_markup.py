"""Names with markup, template signs and formulas stay text in the report and in tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from cli_commands import invoke

from kalmanssl import Recording

MARKUP = "<script>alert(1)&{{7*7}}"
BEHAVIOR = "=cmd|<b>x&{{7*7}}"
LABELS = ("=1+1", "@<i>far")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a recording whose file, units, behavior and labels have names with markup."""
    folder = tmp_path_factory.mktemp("markup")
    time = 0.1 * np.arange(600)
    is_far = (time % 20) > 10
    counts = np.random.default_rng(0).poisson(1 + 3 * np.outer(is_far, np.arange(4) / 4))
    names = [f"{MARKUP}{unit}" for unit in range(4)]
    labels = np.where(is_far, LABELS[1], LABELS[0]).astype(object)
    recording = Recording.from_arrays(counts, time=time, behavior={BEHAVIOR: labels}, unit_ids=names)
    recording.to_nwb(folder / f"{MARKUP}.nwb")
    made = invoke(
        "fit", folder / f"{MARKUP}.nwb", "--out", folder / "run", "--decoder", "mlp", "--epochs", 1, "--latent-dim", 2,
        "--state-dim", 3,
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    return folder / "run"


def test_markup_is_text_in_the_report(run: Path) -> None:
    assert invoke("report", run).exit_code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<b>x" not in page
    assert "<i>far" not in page
    assert "&lt;script&gt;alert(1)&amp;{{7*7}}" in page
    assert "&lt;b&gt;x&amp;{{7*7}}" in page


def test_formulas_are_text_in_tables(run: Path, tmp_path: Path) -> None:
    done = invoke("decode", run, run.parent / f"{MARKUP}.nwb", "--out", tmp_path / "out.csv")
    assert done.exit_code == 0, done.stderr
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} <= {f"'{label}" for label in LABELS}
    assert len(rows) == 600
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
