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

if not __package__:  # run as a folder: its parent is where the package and its neighbors are found
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kept import Results, Row
from measure import machine_facts
from suite import RESULTS, Out, Quiet, Seeds, Workers, asked, explained, print_table, run_all, screen

from images.figures import write_page
from images.jobs import all_jobs, prepare, work
from images.presets import PRESETS
from images.settings import open_results, settings_of
from images.tables import COLUMNS, category_lines, table, timing_lines, verdict
from kalmanssl.errors import InputError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
DIGITS = PresetName("digits")


@app.command(help=__doc__)
def main(
    preset: Annotated[PresetName, typer.Option(help="tiny: to try; cifar-small: an hour; cifar: for a GPU.")] = DIGITS,
    combinations: Annotated[
        list[str] | None, typer.Option(help="Only what has this in its name or part; may be repeated.")
    ] = None,
    n_seeds: Seeds = None,
    workers: Workers = 2,
    data: Annotated[Path | None, typer.Option(help="Zip or folder of CIFAR-10, train/CLASS/NAME.jpg.")] = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Run the suite."""
    name = preset.value
    out = out or RESULTS / "images" / name
    with explained(out):
        results = open_results(out, settings_of(name), machine_facts(workers))
        every = all_jobs(name, out, data, n_seeds)
        wanted = [job for job in every if asked(combinations, f"{job.part} {job.combination}")]
        if not wanted:
            raise InputError(f"--combinations {', '.join(combinations or ())}: nothing has this in its name")
        jobs = [job for job in wanted if results.lacks(*job[:3])]
        prepare(jobs)
        run_all(work, jobs, results, workers, quiet=quiet, found=_found)
    show(results)


def _found(row: Row) -> str:
    for key, words in (("linear_probe", "linear probe {:.3f}"), ("accuracy", "accuracy {:.3f}")):
        if key in row:
            return words.format(row[key])
    return f"{1000 * row['step_s']:.3g} ms"


def show(results: Results) -> None:
    """Print the tables and write the page."""
    for lines in ([COLUMNS, *table(results)], category_lines(results), timing_lines(results)):
        print_table(lines)
    screen().print(verdict(results), markup=False, highlight=False)
    page = results.path.with_name("page.html")
    write_page(results, page)
    screen().print(f"{results.path}, {page}", markup=False)


if __name__ == "__main__":
    app()
