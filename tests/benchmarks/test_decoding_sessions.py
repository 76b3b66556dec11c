"""The command `decoding sessions`."""

import json

import pytest
from decoding.__main__ import app
from typer.testing import CliRunner


def test_quick_run_decodes_a_session_without_its_labels_and_compares(tmp_path):
    result = CliRunner().invoke(app, ["sessions", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "results.json").read_text())["results"]
    scores = {(one["session"], one["decoded_with"]): one for one in row["scores"]}
    assert list(scores) == [
        ("simulated 1", "labels of these sessions"),
        ("simulated 2", "no labels of this session"),
        ("simulated 2", "aligned encoder, own labels"),
        *(
            ("simulated 2", f"{minutes} min of labels for the alignment{ending}")
            for minutes in (1, 2, 5)
            for ending in ("", ", and updated levels")
        ),
        ("simulated 2", "this session alone"),
        ("simulated 2", "occupancy only"),
    ]
    for one in scores.values():
        assert one["bins"] == 3200
        assert 0 <= one["coverage"] <= 1
        assert 0 < one["crps"] < 160  # the length of the track; a symmetric track is mirrored in half of the cases
    chance = scores["simulated 2", "occupancy only"]
    assert scores["simulated 2", "aligned encoder, own labels"]["crps"] < chance["crps"]
    assert "margin to another solution" in row["alignment"]
    for minutes, seconds in ((1, 60), (2, 120), (5, 180)):  # of the 180 s of the training part
        one = scores["simulated 2", f"{minutes} min of labels for the alignment"]
        assert one["labeled_s"] == pytest.approx(seconds, abs=1)
        assert one["crps"] < 0.7 * chance["crps"]
