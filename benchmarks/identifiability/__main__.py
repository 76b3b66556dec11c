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

if not __package__:  # run as a folder: its parent is where the package and its neighbors are found
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kept import Results, Row
from measure import machine_facts
from suite import RESULTS, Out, Quiet, Seeds, Workers, asked, err_console, explained, print_table, run_all, screen

from identifiability.catalog import EXPERIMENTS
from identifiability.experiment import PRESETS
from identifiability.figures import write_page
from identifiability.jobs import Job, with_model, work
from identifiability.settings import open_results, settings_of
from identifiability.tables import COLUMNS, table
from kalmanssl.errors import InputError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
ExperimentName = StrEnum("ExperimentName", list(EXPERIMENTS))  # type: ignore[misc]
QUICK = PresetName("quick")


@app.command(help=__doc__)
def main(
    preset: Annotated[PresetName, typer.Option(help="tiny: seconds, to try; full: the paper's sizes.")] = QUICK,
    experiments: Annotated[list[ExperimentName] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    settings: Annotated[list[str] | None, typer.Option(help="Only with this in the name; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option(help="FILE.py:FUNCTION, a model of your own beside the others.")] = None,
    n_seeds: Seeds = None,
    workers: Workers = 2,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Run the suite."""
    name = preset.value
    out = out or RESULTS / "identifiability" / name
    with explained(out):
        chosen = [EXPERIMENTS[one.value] for one in experiments] if experiments else list(EXPERIMENTS.values())
        chosen = [with_model(one, model) for one in chosen] if model else chosen
        results = open_results(out, settings_of(name, EXPERIMENTS.values()), machine_facts(workers))
        jobs = []
        for experiment in chosen:
            for setting in experiment.settings:
                if not asked(settings, setting.name):
                    continue
                if setting.why_missing:
                    err_console.print(f"skipped {experiment.name}, {setting.name}: {setting.why_missing}", markup=False)
                    continue
                keys = [(experiment.name, setting.name, seed) for seed in range(n_seeds or PRESETS[name])]
                jobs += [Job(*key, name, model) for key in keys if results.lacks(*key)]
        if settings and not jobs and not results.rows:
            raise InputError(f"--settings {', '.join(settings)}: no setting has this in its name")
        run_all(work, jobs, results, workers, quiet=quiet, found=_found)
    show(results)


def _found(row: Row) -> str:
    return f"R² {row[EXPERIMENTS[row['experiment']].score]:.3f}, {row['fit_s']:.0f} s"


def show(results: Results) -> None:
    """Print the table and write the page."""
    every = list(EXPERIMENTS.values())
    print_table([COLUMNS, *table(results, every)])
    page = results.path.with_name("page.html")
    write_page(results, every, page)
    screen().print(f"{results.path}, {page}", markup=False)


if __name__ == "__main__":
    app()
