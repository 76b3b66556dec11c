"""What fitting a recording costs with each implementation of the filter, beside CEBRA.

The whole way is taken every time: model, held_out_fits for the calibration, decoder. Only what stands behind the filter
differs, so that errors differ by rounding that training has amplified. CPU seconds with all threads.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from hc11_decoding import limit_threads, load, score
from hc11_methods import FULL, QUICK, Data, Preset, run_cebra, run_ours
from measure import Stopwatch, machine_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

OURS = ("compiled", "torch", "reference")
CEBRA = "cebra"


@contextmanager
def filter_by(name: str) -> Iterator[None]:
    """Let the filter run in compiled code, in plain torch with derivatives by hand, or as the textbook's loop."""
    from kalmanssl.kalman.backends import BACKENDS
    from kalmanssl.kalman.kernels import has_compiler

    before = BACKENDS["auto"]
    os.environ["NUMBA_DISABLE_JIT"] = "0" if name == "compiled" else "1"
    has_compiler.cache_clear()
    BACKENDS["auto"] = BACKENDS["reference" if name == "reference" else "auto"]
    try:
        yield
    finally:
        BACKENDS["auto"] = before
        del os.environ["NUMBA_DISABLE_JIT"]
        has_compiler.cache_clear()


def measure(name: str, data: Data, seed: int, preset: Preset) -> dict[str, Any]:
    """Fit once and score on the test part."""
    if name == CEBRA:
        outcomes = run_cebra(data, seed, preset)
    else:
        with filter_by(name):
            outcomes = run_ours(data, seed, preset)
    truth, mask = data.test.behavior["position"], data.running_test
    scores = {o.method: {k: score(o.prediction, truth, mask)[k] for k in ("median", "mean", "r2")} for o in outcomes}
    return {"name": name, "seed": seed, "fit_cpu_s": max(o.fit_cpu_s for o in outcomes), "scores": scores}


def model_alone(name: str, data: Data, seed: int, preset: Preset) -> float:
    """CPU seconds of training the model, without held_out_fits and decoder."""
    from kalmanssl import KalmanSSL

    with filter_by(name), Stopwatch() as watch:
        KalmanSSL(random_state=seed, progress=False, **preset.model).fit(data.train)
    return watch.cpu


@app.command(help=__doc__)
def main(
    data: Annotated[Path | None, typer.Option(help="Recording (NWB); without one a rat is simulated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/fit_time"),
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join((*OURS, CEBRA))}; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads that every method may use.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Short trainings, to see that it runs.")] = False,
) -> None:
    names = list(only or (*OURS, CEBRA))
    if unknown := [name for name in names if name not in (*OURS, CEBRA)]:
        raise typer.BadParameter(f"there is no {', '.join(unknown)}: choose among {', '.join((*OURS, CEBRA))}")
    limit_threads(threads)
    preset = QUICK if quick else FULL
    recording = load(data, 0.025, None, None)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    measure("compiled", recording, 0, QUICK)  # imports and compiled code are not part of a fit
    for seed in range(seeds):
        for name in names:
            row = measure(name, recording, seed, preset)
            if name != CEBRA:
                row["model_cpu_s"] = model_alone(name, recording, seed, preset)
            rows.append(row)
            settings = {"data": data and data.name, "quick": quick, "threads": threads, **machine_facts(threads)}
            (out / "results.json").write_text(json.dumps({"settings": settings, "results": rows}, indent=2) + "\n")
            errors = ", ".join(
                f"{method} {s['median']:.1f} / {s['mean']:.1f} cm" for method, s in row["scores"].items()
            )
            part = f", model {row['model_cpu_s']:.1f} s" if "model_cpu_s" in row else ""
            typer.echo(f"{name:10} seed {seed}: {row['fit_cpu_s']:.1f} CPU s in all{part}; {errors}")


if __name__ == "__main__":
    app()
