"""Every member of the family on images without labels: what is learned, and does mutual information matter.

Every run is one combination of space, entropy and objective for one seed; its features are judged by probes on test
images. Beside them: baselines, categories found in pairs of one class, and what a step costs. What is done is kept in
results.json at once and not run again; page.html shows all of it beside the published figures.

    kalmanssl bench images --preset digits --out digits
    kalmanssl bench images --preset cifar-small --data cifar10_jpeg.zip --out cifar
    kalmanssl bench images --preset digits --combinations "sphere kde" --combinations categories --out some
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

from images.figures import write_page
from images.jobs import Job, all_jobs, prepare, work
from images.presets import PRESETS
from images.settings import open_results, settings_of
from images.tables import COLUMNS, category_lines, table, timing_lines, verdict
from kalmanssl.errors import InputError

RESULTS = Path(__file__).resolve().parents[1] / "results" / "images"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err_console = Console(stderr=True)
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
DIGITS = PresetName("digits")


@app.command(help=__doc__)
def main(
    preset: Annotated[PresetName, typer.Option(help="tiny: to try; cifar-small: an hour; cifar: for a GPU.")] = DIGITS,
    combinations: Annotated[
        list[str] | None, typer.Option(help="Only what has this in its name or part; may be repeated.")
    ] = None,
    n_seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="How many; as the preset has if not.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at once, a core each.")] = 2,
    data: Annotated[Path | None, typer.Option(help="Zip or folder of CIFAR-10, train/CLASS/NAME.jpg.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; a started run goes on there.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run the suite."""
    name = preset.value
    out = out or RESULTS / name
    try:
        results = open_results(out, settings_of(name), machine_facts(workers))
        every = all_jobs(name, out, data, n_seeds)
        wanted = [job for job in every if _matches(job, combinations)]
        if not wanted:
            raise InputError(f"--combinations {', '.join(combinations or ())}: nothing has this in its name")
        jobs = [job for job in wanted if results.lacks(*job[:3])]
        prepare(jobs)
        run_all(work, jobs, results, workers, console=err_console, quiet=quiet, found=_found)
    except InputError as error:
        err_console.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        err_console.print(f"stopped; what is done is in {out}, the same command goes on from there", markup=False)
        raise typer.Exit(130) from None
    show(results)


def _matches(job: Job, parts: list[str] | None) -> bool:
    said = f"{job.part} {job.combination}".lower()
    return not parts or any(part.lower() in said for part in parts)


def _found(row: Row) -> str:
    for key, words in (("linear_probe", "linear probe {:.3f}"), ("accuracy", "accuracy {:.3f}")):
        if key in row:
            return words.format(row[key])
    return f"{1000 * row['step_s']:.3g} ms"


def show(results: Results) -> None:
    """Print the tables and write the page."""
    console = Console() if Console().is_terminal else Console(width=170)
    for lines in ([COLUMNS, *table(results)], category_lines(results), timing_lines(results)):
        if len(lines) > 1:
            shown = Table(*lines[0])
            for line in lines[1:]:
                shown.add_row(*line)
            console.print(shown)
    console.print(verdict(results), markup=False, highlight=False)
    page = results.path.with_name("page.html")
    write_page(results, page)
    console.print(f"{results.path}, {page}", markup=False)


if __name__ == "__main__":
    app()
