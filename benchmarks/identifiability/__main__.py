"""Does a model find the true latents of videos in which they are known? Ours, baselines, or one of your own.

Every run is one model on one system for one seed, scored on trajectories that it has not seen. What is done is kept in
results.json at once and not run again; page.html shows all results beside the published figures.

    kalmanssl bench identifiability --preset quick --out quick
    kalmanssl bench identifiability --experiments square --model mine.py:make --out mine

A model is any object with fit(videos) and transform(videos): videos (videos, frames, pixels), latents (videos, frames,
dims). `make` is called with the number of true dimensions and a seed and returns one.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

if not __package__:  # run as a folder: its parent is where the package and its neighbours are found
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kept import Results, Row, run_all
from measure import machine_facts

from identifiability.catalogue import EXPERIMENTS
from identifiability.experiment import PRESETS, Experiment
from identifiability.figures import write_page
from identifiability.jobs import Job, with_model, work
from identifiability.settings import open_results, settings_of
from identifiability.tables import COLUMNS, table
from kalmanssl.errors import InputError

RESULTS = Path(__file__).resolve().parents[1] / "results" / "identifiability"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err_console = Console(stderr=True)
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
ExperimentName = StrEnum("ExperimentName", list(EXPERIMENTS))  # type: ignore[misc]
QUICK = PresetName("quick")


@app.command(help=__doc__)
def main(
    preset: Annotated[PresetName, typer.Option(help="tiny: seconds, to try; full: the paper's sizes.")] = QUICK,
    experiments: Annotated[list[ExperimentName] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    settings: Annotated[list[str] | None, typer.Option(help="Only with this in the name; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option(help="FILE.py:FUNCTION, a model of your own beside the others.")] = None,
    n_seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="How many; as the preset has if not.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at once, a core each.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; a started run goes on there.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run the suite."""
    name = preset.value
    out = out or RESULTS / name
    try:
        chosen = [EXPERIMENTS[one.value] for one in experiments] if experiments else list(EXPERIMENTS.values())
        chosen = [with_model(one, model) for one in chosen] if model else chosen
        results = open_results(out, settings_of(name, EXPERIMENTS.values()), machine_facts(workers))
        jobs = []
        for experiment in chosen:
            for setting in experiment.settings:
                wanted = not settings or any(part.lower() in setting.name.lower() for part in settings)
                if wanted and setting.why_missing:
                    err_console.print(f"skipped {experiment.name}, {setting.name}: {setting.why_missing}", markup=False)
                elif wanted:
                    keys = [(experiment.name, setting.name, seed) for seed in range(n_seeds or PRESETS[name])]
                    jobs += [Job(*key, name, model) for key in keys if results.lacks(*key)]
        if settings and not jobs and not results.rows:
            raise InputError(f"--settings {', '.join(settings)}: no setting has this in its name")
        run_all(work, jobs, results, workers, console=err_console, quiet=quiet, found=_found)
    except InputError as error:
        err_console.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        err_console.print(f"stopped; what is done is in {out}, the same command goes on from there", markup=False)
        raise typer.Exit(130) from None
    show(results, list(EXPERIMENTS.values()))


def _found(row: Row) -> str:
    return f"R² {row[EXPERIMENTS[row['experiment']].score]:.3f}, {row['fit_s']:.0f} s"


def show(results: Results, experiments: list[Experiment]) -> None:
    """Print the table and write the page."""
    console = Console() if Console().is_terminal else Console(width=170)
    shown = Table()
    for column in COLUMNS:
        shown.add_column(column)
    for line in table(results, experiments):
        shown.add_row(*line)
    console.print(shown)
    page = results.path.with_name("page.html")
    write_page(results, experiments, page)
    console.print(f"{results.path}, {page}", markup=False)


if __name__ == "__main__":
    app()
