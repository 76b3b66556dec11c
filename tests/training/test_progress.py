"""Compilation is shown in the progress of a fit, and only if it happens."""

from __future__ import annotations

import importlib.util
import io
import sys

import numpy as np
import pytest
from rich.console import Console

from kalmanssl import KalmanSSL
from kalmanssl.datasets import place_cells
from kalmanssl.kalman.kernels import has_compiler, watch_compilation
from kalmanssl.runs._fit import _log_first
from kalmanssl.training import Phase, Phases
from kalmanssl.training._phases import active_phases
from kalmanssl.training._progress import Progress
from kalmanssl.utils.progress import COMPILING, progress_part, report_progress

needs_numba = pytest.mark.skipif(not has_compiler(), reason="needs numba")

MODULE = """
from kalmanssl.datasets import place_cells
from kalmanssl.kalman.kernels import cached_njit

@cached_njit
def inner(x):
    return x + 1

@cached_njit
def outer(x):
    return inner(x) * 2
"""


def load(path):
    """Import a file as a new module, without compiled code."""
    spec = importlib.util.spec_from_file_location("kernels_of_a_test", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernels_of_a_test"] = module
    spec.loader.exec_module(module)
    return module


@needs_numba
def test_a_compilation_is_told_once_and_code_from_the_cache_is_not(tmp_path, monkeypatch):
    path = tmp_path / "kernels_of_a_test.py"
    path.write_text(MODULE)
    told = []
    first = load(path)
    with watch_compilation(told.append):
        assert first.outer(1) == 4
        assert told == [True, False]
        assert first.outer(2) == 6
        assert load(path).outer(1) == 4
        assert told == [True, False]
        assert first.outer(1.0) == 4.0
        assert told == [True, False] * 2
    first.inner(1j)
    assert told == [True, False] * 2


def test_the_progress_bar_shows_a_compilation_while_it_lasts():
    with Progress(0, 10) as bar:
        bar.show_epoch({"loss": 1.5})
        bar.show_compilation(True)
        assert bar.score == bar._bar.tasks[0].fields["score"] == COMPILING
        bar.show_compilation(False)
        assert bar.score == bar._bar.tasks[0].fields["score"] == "loss 1.500 nats"


@needs_numba
def test_the_progress_bar_watches_compilations(monkeypatch):
    from numba import njit

    shown = []
    monkeypatch.setattr(Progress, "show_compilation", lambda self, begins: shown.append(begins))
    with Progress(0, 10):
        njit(lambda x: x - 1)(1)
    njit(lambda x: x - 2)(1)
    assert shown == [True, False]


def test_a_log_has_one_line_for_all_compilations():
    lines = []
    watch = _log_first(lines.append)
    for begins in (True, False, True, False):
        watch(begins)
    assert lines == ["compiling, only at the first use on this machine"]


def test_both_stages_of_a_fit_have_a_progress_bar_with_their_name(capsys):
    activity = np.random.default_rng(0).poisson(1.0, (400, 4))
    settings = {"latent_dim": 2, "state_dim": 2, "epochs": 1, "noise_epochs": 1, "steps_per_epoch": 2, "window": 40}
    KalmanSSL(**settings, device="cpu").fit(activity)
    lines = [line for line in capsys.readouterr().err.splitlines() if "2/2" in line]
    assert [line.split(" ━")[0] for line in lines] == ["fit", "fit dynamics"]


PHASES = [
    Phase("reading", 1.0),
    Phase("encoder", 8.0, True),
    Phase("held-out fit", 8.0, True),
    Phase("decoder", 3.0),
]


def train_both_stages(n_epochs=2):
    """Go through the bars of a training with two stages; return the share of all work after each step."""
    shares = []
    for stage, gain in (("fit", 1.0), ("fit dynamics", 1.25)):
        with Progress(0, n_epochs, stage, "gain") as bar:
            for epoch in range(n_epochs):
                bar.show_step(epoch + 1)
                bar.show_epoch({"loss": 7.0, "held_out_loss": 9.0, "held_out_score": gain})
                phases = active_phases()
                shares.append(None if phases._bar is None else phases._bar.tasks[0].completed)
    return shares


def test_phases_are_lines_where_there_is_no_terminal():
    lines = []
    with Phases(PHASES, lines.append, Console(file=io.StringIO())) as phases:
        phases.begin("reading")
        train_both_stages()
        train_both_stages()
        phases.begin("decoder")
    assert active_phases() is None
    steps = [f"phase {number} of 4: {phase.name}" for number, phase in enumerate(PHASES, start=1)]
    assert [line for line in lines if line.startswith("phase")] == steps
    others = [line for line in lines if not line.startswith("phase")]
    assert [line.split(":")[0] for line in others] == ["encoder", "held-out fit"]
    assert [" s, held-out gain 1.250 nats per step" in line for line in others] == [True, True]
    assert ["(0: " in line for line in others] == [True, False]  # what it compares with is said once
    assert others[1].endswith("nats per step")


def test_the_gain_of_a_recording_is_shown_in_nats_per_bin():
    with Phases(PHASES, lambda _: None, Console(file=io.StringIO())) as phases:
        for bins, expected in ((None, "5.000 nats per step"), (4, "1.250 nats per bin")):
            Progress(0, 1, "fit", "gain", bins).show_epoch({"held_out_loss": 1.0, "held_out_score": 5.0})
            assert phases.score == f"held-out gain {expected}"


def test_phases_are_one_bar_on_a_terminal():
    shown = io.StringIO()
    lines = []
    with Phases(PHASES, lines.append, Console(file=shown, force_terminal=True, width=100)) as phases:
        phases.begin("reading")
        first, second = train_both_stages(), train_both_stages()
        task = phases._bar.tasks[0]
        assert task.description == "3/4 held-out fit"
        assert "held-out gain 1.250 nats per step" in task.fields["more"]
        phases.begin("decoder")
        assert task.completed == pytest.approx(17 / 20)
        with progress_part(0.5, 1.0):  # the second of two parts of the phase, half done
            report_progress(0.5)
        assert task.completed == pytest.approx((17 + 3) / 20)
        report_progress(0.1)
        assert task.completed == pytest.approx((17 + 0.3) / 20)
    np.testing.assert_allclose(first, np.array([1 + 8 * 0.4, 1 + 8 * 0.8, 1 + 8 * 0.9, 1 + 8]) / 20)
    np.testing.assert_allclose(second, np.array(first) + 8 / 20)
    assert (task.description, task.completed) == ("done", 1.0)
    assert lines == []
    assert "100%" in shown.getvalue()


def test_an_error_ends_the_phases_and_leaves_no_bar():
    phases = Phases(PHASES, print, Console(file=io.StringIO(), force_terminal=True))
    with pytest.raises(ValueError, match="sleeping"), phases:
        phases.begin("sleeping")
    assert active_phases() is None
    assert not phases._bar.live.is_started


def test_the_gain_of_both_stages_has_the_same_scale():
    recording = place_cells(n_units=12, n_interneurons=0, duration=60.0, random_state=0)
    settings = {"latent_dim": 3, "state_dim": 4, "epochs": 2, "noise_epochs": 1, "steps_per_epoch": 20}
    model = KalmanSSL(**settings, device="cpu", progress=False, random_state=0).fit(recording)
    before, after = max(model.history_["held_out_score"]), model.noise_history_["held_out_score"][-1]
    assert abs(after - before) < 0.5 * abs(before)
    losses = model.noise_history_["held_out_loss"][-1], model.history_["held_out_loss"][-1]
    assert abs(losses[0] - losses[1]) > 0.5 * abs(before)  # losses have different scales
