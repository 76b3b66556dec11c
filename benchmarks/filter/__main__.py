"""Time, memory and accuracy of Kalman filters: ours beside a plain loop, torch-kf, dynamax, filterpy and a limit in C.

Every method runs in a process of its own, with its own threads and peak memory, and they take turns: all are prepared,
compiled and called once, then they go round, one computing while the others wait. What is done is kept at once, so
that a run can be stopped and started again. Times are CPU seconds of all threads (and wall seconds), the median and
the minimum of the repeats; ratios are of methods in the same rounds.

    kalmanssl bench filter --preset quick --out quick
    kalmanssl bench filter          # everything, half an hour
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

if not __package__:  # run as a folder: its parent is where the package and its neighbors are found
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import machine_facts
from suite import RESULTS, Quiet, err_console, explained

from filter.folder import Folder
from filter.measuring import measure_all
from filter.methods import METHODS
from filter.presets import PRESETS, Part, choose_methods, plan
from filter.problems import Size
from filter.report import summarize

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
FULL = PresetName("full")


@app.command(help=__doc__)
def main(
    preset: Annotated[PresetName, typer.Option(help="quick: one small size, a minute.")] = FULL,
    methods: Annotated[
        list[str] | None, typer.Option(help="Only methods of this name, or with this in it; may be repeated.")
    ] = None,
    sizes: Annotated[
        list[str] | None, typer.Option(help="batch,steps,states,channels instead of the preset's; may be repeated.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Rounds; fewer where a call takes seconds.")] = None,
    parts: Annotated[list[Part] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a started run goes on there.")] = RESULTS / "filter",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure again what is done.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    name, chosen_preset = preset.value, PRESETS[preset.value]
    with explained(out):
        chosen_sizes = [Size.read(text) for text in sizes] if sizes else list(chosen_preset.sizes)
        chosen = choose_methods(methods, chosen_preset)
        settings = {"preset": name, "processor": machine_facts(1)["processor"], "seed": 0, "dtype": "float32"}
        folder = Folder(out, settings, overwrite=overwrite)
        for method in chosen:
            if METHODS[method].missing:
                err_console.print(f"skipped {method}: {METHODS[method].missing}", style="bold red", markup=False)
        wanted = set(parts or Part)
        todo = plan(chosen_sizes, chosen, chosen_preset, wanted)
        checked = [method for method in chosen if METHODS[method].threads == 1] if Part.accuracy in wanted else []
        rates = measure_all(folder, todo, checked, name, repeats or chosen_preset.repeats, quiet)
    summarize(folder, rates, chosen_sizes)


if __name__ == "__main__":
    app()
