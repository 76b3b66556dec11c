"""--from, --to and --during of all commands, and the choice of units by rate."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from cli_commands import SMALL, UNTIL, ZONES, fails, invoke

from kalmanssl.data import Recording
from kalmanssl.runs import Run

LAPS = np.array([[3600.0, 3690.0], [3700.0, 3790.0], [3800.0, 3890.0]])


@pytest.fixture(scope="module")
def with_table(recording, tmp_path_factory):
    """The simulated recording with one more label of epochs."""
    path = tmp_path_factory.mktemp("table") / "rat.nwb"
    whole = Recording.from_nwb(recording, units="all")
    replace(whole, epochs={"laps": LAPS}).to_nwb(path)
    return path


@pytest.fixture(scope="module")
def windowed(with_table, tmp_path_factory):
    """A run fitted on the laps, without the last minute before the split."""
    out = tmp_path_factory.mktemp("windowed") / "run"
    where = ("--until", UNTIL, "--during", "laps", "--from", 3600, "--to", 3760, "--from", 3770, "--to", 4000)
    result = invoke("fit", with_table, "--out", out, *where, "--min-rate", 0.5, *ZONES, *SMALL, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "events/s in the fitted part" in result.stderr
    return out


def test_a_fit_in_windows_uses_no_other_time(windowed, with_table):
    run = Run.load(windowed)
    facts = run.metadata["recording"]
    expected = [[3600.0, 3690.0], [3700.0, 3760.0], [3770.0, UNTIL]]
    np.testing.assert_allclose(facts["fitted_windows"], expected, atol=0.03)
    assert facts["fitted_s"] == pytest.approx(160.0, abs=0.1)
    whole = Recording.from_nwb(with_table).restrict(expected)
    rate = whole.activity.mean(axis=0) / whole.bin_size
    assert run.model.unit_ids_ == tuple(np.array(whole.unit_ids)[rate >= 0.5])
    assert 0 < facts["units"] == len(run.model.unit_ids_) < whole.n_units
    assert run.evaluation.part["start_s"] == pytest.approx(UNTIL)
    assert run.evaluation.part["stop_s"] == pytest.approx(3890.0)


def test_evaluation_and_decoding_of_windows(windowed, with_table, tmp_path):
    def evaluated(*where):
        result = invoke("evaluate", windowed, with_table, "--json", *where)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    same = evaluated()
    assert (same["start_s"], same["stop_s"]) == (pytest.approx(UNTIL), pytest.approx(3890.0))
    assert same["all"]["bins"] == Run.load(windowed).evaluation.scores["all"]["bins"]
    between = evaluated("--from", 3762, "--to", 3769)
    assert (between["fitted"], between["all"]["bins"]) == (False, 280)
    assert evaluated("--from", 3750, "--to", 3769)["fitted"]
    late = evaluated("--during", "laps", "--after", 3795)
    assert (late["start_s"], late["stop_s"]) == (pytest.approx(3800.0), pytest.approx(3890.0))
    out = tmp_path / "some.csv"
    two = ("--from", 3610, "--to", 3620, "--from", 3605, "--to", 3606)
    assert invoke("decode", windowed, with_table, "--out", out, *two).exit_code == 0
    time = np.loadtxt(out, delimiter=",", skiprows=1, usecols=0)
    np.testing.assert_array_equal(time, Recording.from_nwb(with_table).restrict([[3605, 3606], [3610, 3620]]).time)
    page = tmp_path / "report.html"
    assert invoke("report", windowed, with_table, "--out", page, "--during", "laps").exit_code == 0
    assert "3890" in page.read_text()


@pytest.mark.parametrize(
    ("where", "expected_message"),
    [
        (("--from", 3610), "--from and --to come in pairs, but there are 1 and 0"),
        (("--from", 3610, "--to", 3620, "--to", 3630), "there are 1 and 2 of them"),
        (("--from", 3620, "--to", 3610), "the window --from 3620 --to 3610 ends before it begins"),
        (("--from", 3620, "--to", 3620), "is empty"),
        (("--from", "nan", "--to", 3620), "has no such time"),
        (("--from", 3610, "--to", 3630, "--from", 3620, "--to", 3640), "overlap: join them"),
        (("--from", 10, "--to", 20), "--from=10 to 20 s contains no bin of this part: the recording covers 3600"),
        (
            ("--during", "naps"),
            "is not a table of intervals or an epoch of the recording; it has: laps",
        ),
        (("--during", "laps", "--from", 3692, "--to", 3698), "--from=3692 to 3698 s contains no bin"),
    ],
)
def test_bad_windows_are_refused_on_one_line(windowed, with_table, tmp_path, monkeypatch, where, expected_message):
    monkeypatch.setattr("kalmanssl.training._loop._Loop.run", lambda *a, **k: pytest.fail("trained"))
    assert expected_message in fails("fit", with_table, "--out", tmp_path / "run", *SMALL, *where)
    assert expected_message in fails("evaluate", windowed, with_table, *where)
    assert expected_message in fails("decode", windowed, with_table, "--out", tmp_path / "x.csv", *where)
    assert expected_message in fails("report", windowed, with_table, "--out", tmp_path / "x.html", *where)
    assert list(tmp_path.iterdir()) == []


def test_windows_of_a_report_need_the_recording(windowed, tmp_path):
    expected = "require the recording"
    assert expected in fails("report", windowed, "--out", tmp_path / "x.html", "--from", 1, "--to", 2)


def test_units_are_selected_by_id(recording, tmp_path):
    args = ("--units", "id=2,3,5", "--behavior", "none", "--epochs", 1, "--latent-dim", 2, "--state-dim", 2)
    assert invoke("fit", recording, "--out", tmp_path / "run", *args).exit_code == 0
    assert Run.load(tmp_path / "run").model.unit_ids_ == ("2", "3", "5")
    assert "none of 24 units is left" in fails("fit", recording, "--out", tmp_path / "no", "--min-rate", 500)
