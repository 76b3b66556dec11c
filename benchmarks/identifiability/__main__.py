"""Test whether models find the true latents of simulated videos: our models, baselines, or a model of your own.

A run is one model on one system with one seed, scored on new trajectories. Finished runs are stored in results.json and
not run again; page.html shows all results next to the published ones.

    kalmanssl bench identifiability --preset quick --out quick
    kalmanssl bench identifiability --experiments square --model mine.py:make --out mine

A model is any object with fit(videos) and transform(videos): videos (videos, frames, pixels), latents (videos, frames,
dims). `make(dims, seed)` returns a new one for this number of true dimensions.
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
from parallel import run_all
from results_store import Results, Row
from suite import RESULTS, Out, Quiet, Seeds, Workers, cli_errors, err_console, make_app, matches, print_table, screen

from identifiability.experiment import PRESETS
from identifiability.experiments import EXPERIMENTS
from identifiability.jobs import Job, open_results, settings_of, with_model, work
from identifiability.page import write_identifiability_page
from identifiability.tables import COLUMNS, table
from kalmanssl.errors import InputError

app = make_app()
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
ExperimentName = StrEnum("ExperimentName", list(EXPERIMENTS))  # type: ignore[misc]
QUICK = PresetName("quick")


@app.command(help=__doc__)
def main(
    preset: Annotated[
        PresetName, typer.Option(help="tiny: a test; quick: half an hour; full: the sizes of the paper.")
    ] = QUICK,
    experiments: Annotated[
        list[ExperimentName] | None, typer.Option(help="Only this experiment; may be repeated.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option(help="Only settings with this in their name; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="FILE.py:FUNCTION, a model of your own.")] = None,
    n_seeds: Seeds = None,
    workers: Workers = 2,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Run the suite."""
    name = preset.value
    out = out or RESULTS / "identifiability" / name
    with cli_errors(out):
        chosen = [EXPERIMENTS[one.value] for one in experiments] if experiments else list(EXPERIMENTS.values())
        chosen = [with_model(one, model) for one in chosen] if model else chosen
        results = open_results(out, settings_of(name, EXPERIMENTS.values()), machine_facts(workers))
        jobs = []
        for experiment in chosen:
            for setting in experiment.settings:
                if not matches(settings, setting.name):
                    continue
                if setting.missing:
                    err_console.print(f"skipped {experiment.name}, {setting.name}: {setting.missing}", markup=False)
                    continue
                keys = [(experiment.name, setting.name, seed) for seed in range(n_seeds or PRESETS[name])]
                jobs += [Job(*key, name, model) for key in keys if results.is_pending(*key)]
        if settings and not jobs and not results.rows:
            raise InputError(f"--settings {', '.join(settings)}: no setting has this in its name", parameter="settings")
        run_all(work, jobs, results, workers, quiet=quiet, describe=_describe)
    show(results)


def _describe(row: Row) -> str:
    """Return score and time of a row as text."""
    return f"R² {row[EXPERIMENTS[row['experiment']].score]:.3f}, {row['fit_s']:.0f} s"


def show(results: Results) -> None:
    """Print the table and write the page."""
    every = list(EXPERIMENTS.values())
    print_table([COLUMNS, *table(results, every)])
    page = results.path.with_name("page.html")
    write_identifiability_page(results, every, page)
    screen().print(f"{results.path}, {page}", markup=False)


if __name__ == "__main__":
    app()
