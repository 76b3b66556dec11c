"""CPU time of a fit with each implementation of the Kalman filter, and of CEBRA.

A fit consists of the model, the held-out fits for the calibration, and the decoder. Only the implementation of the
filter differs: errors differ because training amplifies rounding. Times are CPU seconds of all threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from measure import Stopwatch, machine_facts
from results_store import Results, Row
from suite import RESULTS, cli_errors, err_console

from hc11.methods import FULL, QUICK, Preset, run_cebra, run_ours
from hc11.recording import Data, limit_threads, load, score
from kalmanssl.utils.validation import unknown_name_error

__all__ = ["main"]

OURS = ("compiled", "torch", "reference")
CEBRA = "cebra"
NAMES = (*OURS, CEBRA)


def main(
    data: Annotated[Path | None, typer.Option(help="Recording (NWB); by default a simulated one.", exists=True)] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS / "fit_time",
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(NAMES)}; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every method.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Short trainings, as a test.")] = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        names = list(only or NAMES)
        for name in names:
            if name not in NAMES:
                raise unknown_name_error("method", name, NAMES)
        settings = {"data": data and data.name, "quick": quick, "threads": threads}
        results = Results(out, settings, machine_facts(threads), ("name", "seed"))
        limit_threads(threads)
        preset, recording = QUICK if quick else FULL, load(data)
        _measure("compiled", recording, 0, QUICK)  # imports and compilation are not part of a fit
        for seed in range(seeds):
            for name in names:
                if results.is_pending(name, seed):
                    results.add(_measure(name, recording, seed, preset))
                    err_console.print(_describe(results.rows[name, seed]), markup=False, highlight=False)


def _measure(name: str, data: Data, seed: int, preset: Preset) -> Row:
    """Fit once and score on the test part; for our model also time the training of the model alone."""
    row: Row = {"name": name, "seed": seed}
    if name == CEBRA:
        outcomes = run_cebra(data, seed, preset)
    else:
        with _implementation(name):
            outcomes = run_ours(data, seed, preset)
            row["model_cpu_s"] = _train_model(data, seed, preset)
    truth, mask = data.test.behavior["position"], data.running_test
    scores = {o.method: {k: score(o.prediction, truth, mask)[k] for k in ("median", "mean", "r2")} for o in outcomes}
    return row | {"fit_cpu_s": max(o.fit_cpu_s for o in outcomes), "scores": scores}


def _train_model(data: Data, seed: int, preset: Preset) -> float:
    """Return the CPU seconds of training the model, without held-out fits and decoder."""
    from kalmanssl import KalmanSSL

    with Stopwatch() as stopwatch:
        KalmanSSL(random_state=seed, progress=False, **preset.model).fit(data.train)
    return stopwatch.cpu


@contextmanager
def _implementation(name: str) -> Iterator[None]:
    """Run the filter in compiled code, in torch with analytical derivatives, or as a loop with autograd."""
    from kalmanssl.kalman.backends import BACKENDS
    from kalmanssl.kalman.kernels import has_compiler

    auto, disabled = BACKENDS["auto"], os.environ.get("NUMBA_DISABLE_JIT")
    os.environ["NUMBA_DISABLE_JIT"] = "0" if name == "compiled" else "1"
    has_compiler.cache_clear()
    BACKENDS["auto"] = BACKENDS["reference"] if name == "reference" else auto
    try:
        yield
    finally:
        BACKENDS["auto"] = auto
        del os.environ["NUMBA_DISABLE_JIT"]
        if disabled is not None:
            os.environ["NUMBA_DISABLE_JIT"] = disabled
        has_compiler.cache_clear()


def _describe(row: dict[str, Any]) -> str:
    """Return times and errors of a row as text."""
    errors = ", ".join(f"{method} {s['median']:.1f} / {s['mean']:.1f} cm" for method, s in row["scores"].items())
    model = f", model {row['model_cpu_s']:.1f} s" if "model_cpu_s" in row else ""
    return f"{row['name']:10} seed {row['seed']}: {row['fit_cpu_s']:.1f} CPU s in all{model}; {errors}"
