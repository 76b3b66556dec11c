"""CPU time of a fit with each implementation of the Kalman filter, and of CEBRA, on the hippocampal recording.

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
from thread_limits import limit_threads

from decoding.methods import FULL, OURS, QUICK, Preset, all_methods
from decoding.options import DataFolder, Quick, Threads, data_folder
from decoding.recordings import RECORDINGS, SIMULATED, load, targets_of
from decoding.scores import score
from decoding.tasks import Data, Task
from kalmanssl.utils.validation import unknown_name_error

__all__ = ["main"]

IMPLEMENTATIONS = ("compiled", "torch", "reference")
CEBRA = "cebra"
NAMES = (*IMPLEMENTATIONS, CEBRA)
RECORDING = {False: next(iter(RECORDINGS)), True: next(iter(SIMULATED))}  # by --quick
DECODED_BY = {
    **dict.fromkeys(IMPLEMENTATIONS, (f"{OURS}, filter", f"{OURS}, smoother")),
    CEBRA: ("CEBRA-Time + neighbors",),
}


def main(
    data: DataFolder = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS / "fit_time",
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(NAMES)}; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    threads: Threads = 1,
    quick: Quick = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        names = list(only or NAMES)
        for name in names:
            if name not in NAMES:
                raise unknown_name_error("method", name, NAMES)
        folder = Path() if quick else data_folder(data)
        settings = {"data": RECORDING[quick], "quick": quick, "threads": threads}
        results = Results(out, settings, machine_facts(threads), ("name", "seed"))
        limit_threads(threads)
        preset, recording = QUICK if quick else FULL, load(RECORDING[quick], folder)
        _measure("compiled", recording, 0, QUICK)  # imports and compilation are not part of a fit
        missing = {method.name: method.missing for method in all_methods(preset)}
        for name in [name for name in names if missing[DECODED_BY[name][0]]]:
            err_console.print(f"skipped {name}: {missing[DECODED_BY[name][0]]}", markup=False, soft_wrap=True)
            names.remove(name)
        for seed in range(seeds):
            for name in names:
                if results.is_pending(name, seed):
                    results.add(_measure(name, recording, seed, preset))
                    err_console.print(_describe(results.rows[name, seed]), markup=False, highlight=False)


def _measure(name: str, data: Data, seed: int, preset: Preset) -> Row:
    """Fit once and score on the test part; for our model also time the training of the model alone."""
    row: Row = {"name": name, "seed": seed, "fit_cpu_s": 0.0, "scores": {}}
    fresh = Data(data.name, data.train, data.test, data.running_train, data.running_test, data.events)
    with _implementation(name):
        if name != CEBRA:
            row["model_cpu_s"] = _train_model(data, seed, preset)
        for method in all_methods(preset):
            if method.name in DECODED_BY[name]:
                task = Task(fresh, targets_of(data.name)[0])
                outcome = method.run(task, seed)
                scores = score(outcome.prediction, task)["all"]
                row["scores"][method.name] = {k: scores[k] for k in ("median_error", "mean_error", "r2", "crps")}
                # CEBRA is trained when the settings of its decoder are chosen.
                row["fit_cpu_s"] = max(row["fit_cpu_s"], outcome.select_cpu_s + outcome.fit_cpu_s)
    return row


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

    if name == CEBRA:
        yield
        return
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
    errors = ", ".join(
        f"{name} {s['median_error']:.1f} / {s['mean_error']:.1f} cm" for name, s in row["scores"].items()
    )
    model = f", model {row['model_cpu_s']:.1f} s" if "model_cpu_s" in row else ""
    return f"{row['name']:10} seed {row['seed']}: {row['fit_cpu_s']:.1f} CPU s in all{model}; {errors}"
