"""The command `scale`: phases of a fit of simulated recordings of several sizes."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from scale.figure import curves
from scale.phases import busy, in_new_process
from scale.sizes import GOALS, Size
from suite import RESULTS

from kalmanssl.errors import InputError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LIBRARY = ["read", "fit", "cross-fit", "transform", "fit decoder", "decode, filter", "decode, smoother"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of a short recording, also as by the command line, and of two sessions."""
    out = tmp_path_factory.mktemp("scale") / "results"
    sizes = [part for size in ("0.03,10", "0.03,10,2") for part in ("--sizes", size)]
    arguments = [sys.executable, str(BENCHMARKS / "scale"), "--preset", "quick", *sizes, "--out", str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, json.loads((out / "results.json").read_text())["results"]


def test_every_phase_has_its_time_and_memory(results):
    out, rows = results
    assert [(row["way"], row["sessions"]) for row in rows] == [("library", 1), ("command line", 1), ("library", 2)]
    assert [list(row["phases"]) for row in rows] == [
        LIBRARY,
        ["fit and evaluate", "report"],
        ["read", "fit", "transform"],
    ]
    assert [row["bins"] for row in rows] == [4320, 4320, 8640]
    for row in rows:
        assert row["cpu_s"] == pytest.approx(sum(phase["cpu_s"] for phase in row["phases"].values()))
        assert row["peak_mb"] == max(phase["peak_mb"] for phase in row["phases"].values())
        assert all(phase["peak_mb"] > 50 and phase["wall_s"] > 0 for phase in row["phases"].values())
    assert 0 < rows[0]["decode, filter"]["crps"] < 1.6  # meters, on a track of this length
    assert (out / "scale.png").stat().st_size > 1000


def test_each_measurement_has_a_process_of_its_own():
    numbers = {os.getpid(), in_new_process(os.getpid), in_new_process(os.getpid)}
    assert len(numbers) == 3


def test_neighbors_keep_cores_busy_until_the_end():
    with busy(2) as neighbors:
        assert len(neighbors) == 2
        assert all(one.is_alive() for one in neighbors)
    assert not any(one.is_alive() for one in neighbors)


def test_curves_have_the_longest_series_along_each_axis():
    rows = [
        {"way": "library", "hours": hours, "units": units, "sessions": 1}
        for hours, units in ((2, 10), (1, 10), (1, 20), (4, 10))
    ]
    found = curves([*rows, {"way": "command line", "hours": 8, "units": 10, "sessions": 1}])
    assert [row["hours"] for row in found["hours"]] == [1, 2, 4]
    assert [row["units"] for row in found["units"]] == [10, 20]
    assert found["sessions"] == []
    several = [{"way": "library", "hours": 1, "units": 10, "sessions": count} for count in (4, 2)]
    assert [row["sessions"] for row in curves([*rows, *several])["sessions"]] == [2, 4]
    assert curves([]) == {"hours": [], "units": [], "sessions": []}


@pytest.mark.parametrize("text", ["1", "a,2", "1,2,3,4", "0,10", "1,1", "1,2,0", "inf,5", "nan,5", "1,2.5"])
def test_invalid_sizes_are_refused(text):
    with pytest.raises(InputError):
        Size.read(text)


def test_stored_results_have_the_largest_sizes_and_grow_at_most_linearly():
    rows = json.loads((RESULTS / "scale" / "results.json").read_text())["results"]
    library = {Size(row["hours"], row["units"], row["sessions"]): row for row in rows if row["way"] == "library"}
    for size, (seconds, _) in GOALS.items():
        assert library[size]["wall_s"] <= seconds
    hours = curves(rows)["hours"]
    assert len(hours) >= 4
    for shorter, longer in pairwise(hours):
        ratio = longer["bins"] / shorter["bins"]
        assert longer["cpu_s"] < 1.1 * ratio * shorter["cpu_s"]
        assert longer["peak_mb"] < 1.1 * ratio * shorter["peak_mb"]
