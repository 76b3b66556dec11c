"""Time, memory and accuracy of Kalman filters: ours, loops in torch, torch-kf, dynamax, filterpy and a C program.

Every method has its own process, with its own threads and peak memory. All methods are prepared, compiled and called
once; then they are timed in rounds, one after the other. Times are CPU seconds of all threads (and wall seconds), the
median and the minimum of the repeats; ratios are of methods in the same rounds. Finished rows are stored in
results.json, and a run that was stopped is resumed.

    kalmanssl bench filter --preset quick --out quick
    kalmanssl bench filter          # everything, half an hour
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

if not __package__:  # run as a folder: the package and the shared modules are in its parent
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import machine_facts
from results_store import Results
from suite import RESULTS, Quiet, cli_errors, err_console, make_app

from filter.methods import METHODS
from filter.presets import PRESETS, Part, choose_methods, plan
from filter.problems import Size
from filter.report import summarize
from filter.run import measure_all

app = make_app()
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
FULL = PresetName("full")


@app.command(help=__doc__)
def main(
    preset: Annotated[PresetName, typer.Option(help="quick: one small size, a minute.")] = FULL,
    methods: Annotated[
        list[str] | None, typer.Option(help="Only methods with this name, or with this in their name; may be repeated.")
    ] = None,
    sizes: Annotated[
        list[str] | None, typer.Option(help="batch,steps,states,channels instead of the preset's; may be repeated.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Number of rounds; fewer for calls that take seconds.")
    ] = None,
    parts: Annotated[list[Part] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS / "filter",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure finished rows again.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    name, chosen_preset = preset.value, PRESETS[preset.value]
    with cli_errors(out):
        chosen_sizes = [Size.read(text) for text in sizes] if sizes else list(chosen_preset.sizes)
        chosen = choose_methods(methods, chosen_preset)
        settings = {"preset": name, "processor": machine_facts(1)["processor"], "seed": 0, "dtype": "float32"}
        key = ("method", "size", "noise", "task", "case")
        results = Results(out, settings, machine_facts(1), key, overwrite=overwrite)
        for method in chosen:
            if METHODS[method].missing:
                err_console.print(f"skipped {method}: {METHODS[method].missing}", style="bold red", markup=False)
        chosen_parts = set(parts or Part)
        cells = plan(chosen_sizes, chosen, chosen_preset, chosen_parts)
        checked = [m for m in chosen if METHODS[m].threads == 1] if Part.accuracy in chosen_parts else []
        rates = measure_all(results, cells, checked, name, repeats or chosen_preset.repeats, quiet)
    summarize(results, rates, chosen_sizes)


if __name__ == "__main__":
    app()
