"""Compilation is shown in the progress of a fit, and only if it happens."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from kalmanssl import KalmanSSL
from kalmanssl.kalman.kernels import has_compiler, watch_compilation
from kalmanssl.runs._fit import _log_first
from kalmanssl.training._progress import COMPILING, Progress

needs_numba = pytest.mark.skipif(not has_compiler(), reason="needs numba")

MODULE = """
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
        score = bar._bar.tasks[0].fields["score"]
        bar.show_compilation(True)
        assert bar._bar.tasks[0].fields["score"] == COMPILING
        bar.show_compilation(False)
        assert bar._bar.tasks[0].fields["score"] == score == "loss 1.500 nats"


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
    assert lines == ["compiling (first use on this machine)"]


def test_both_stages_of_a_fit_have_a_progress_bar_with_their_name(capsys):
    activity = np.random.default_rng(0).poisson(1.0, (400, 4))
    settings = {"latent_dim": 2, "state_dim": 2, "epochs": 1, "noise_epochs": 1, "steps_per_epoch": 2, "window": 40}
    KalmanSSL(**settings, device="cpu").fit(activity)
    lines = [line for line in capsys.readouterr().err.splitlines() if "2/2" in line]
    assert [line.split(" ━")[0] for line in lines] == ["fit", "fit dynamics"]
