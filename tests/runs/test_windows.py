"""Notes on the intervals that choose the time of a fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kalmanssl.data import Recording, summarize_nwb
from kalmanssl.runs import RunSettings
from kalmanssl.runs._fit_data import read_fit_data
from kalmanssl.runs._windows import interval_notes

TRIALS = {
    "apart": [[0, 30], [30, 50], [60, 90]],
    "overlapping": [[60, 90], [0, 30], [20, 50], [25, 28]],
    "outside": [[0, 30], [500, 530], [101, 102]],
}
NOTES = {
    "apart": [],
    "overlapping": ["2 of 4 intervals of trials overlap earlier ones and are joined with them: 20 to 50 s"],
    "outside": ["2 of 3 intervals of trials contain no bin of the recording and are not used: 101 to 102 s"],
}


def recording(spans: list[list[int]]) -> Recording:
    counts = np.random.default_rng(0).poisson(1.0, (2000, 5))
    plain = Recording.from_arrays(counts, bin_size=0.05, behavior={"position": np.sin(np.arange(2000) / 20)})
    return replace(plain, epochs={"trials": np.array(spans, dtype=float)})


@pytest.mark.parametrize("case", TRIALS)
def test_intervals_that_overlap_or_have_no_bin_are_named(case: str) -> None:
    one = recording(TRIALS[case])
    assert interval_notes(one, ["trials"]) == NOTES[case]
    assert interval_notes(one, ["other"]) == interval_notes(one, []) == []


def test_a_fit_names_them(tmp_path: Path) -> None:
    path, lines = tmp_path / "a.nwb", list[str]()
    recording(TRIALS["outside"]).to_nwb(path)
    data = read_fit_data(RunSettings(recording=str(path), during=["trials"]), summarize_nwb(path), lines.append)
    assert f"note: {NOTES['outside'][0]}" in lines
    assert data.training.duration == pytest.approx(30.0)
