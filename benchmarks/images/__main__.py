"""All combinations of the family on images: how good the features are, and whether mutual information matters.

A run is one combination of space, entropy and objective for one seed; its features are scored by probes on test images.
Further runs: baselines, categories learned from pairs of one class, and the time of a step. Finished runs are stored in
results.json and not run again; page.html shows them next to the published figures.

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

if not __package__:  # run as a folder: the package and the shared modules are in its parent
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import machine_facts
from parallel import run_all
from results_store import Results, Row
from suite import RESULTS, Out, Quiet, Seeds, Workers, cli_errors, make_app, matches, print_table, screen

from images.jobs import all_jobs, decode_images, open_results, settings_of, work
from images.page import write_images_page
from images.presets import PRESETS
from images.tables import COLUMNS, category_lines, table, timing_lines, verdict
from kalmanssl.errors import InputError

app = make_app()
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
DIGITS = PresetName("digits")


@app.command(help=__doc__)
def main(
    preset: Annotated[
        PresetName,
        typer.Option(
            help="tiny: a test; digits: minutes; cifar-small: two hours; cifar-long: the same with three times as many "
            "epochs; cifar: needs a GPU."
        ),
    ] = DIGITS,
    combinations: Annotated[
        list[str] | None, typer.Option(help="Only runs with this in their name or part; may be repeated.")
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
    with cli_errors(out):
        results = open_results(out, settings_of(name), machine_facts(workers))
        chosen = [j for j in all_jobs(name, out, data, n_seeds) if matches(combinations, f"{j.part} {j.combination}")]
        if not chosen:
            raise InputError(
                f"--combinations {', '.join(combinations or ())}: no run has this in its name", parameter="combinations"
            )
        jobs = [job for job in chosen if results.is_pending(*job[:3])]
        decode_images(jobs)
        run_all(work, jobs, results, workers, quiet=quiet, describe=_describe)
    show(results)


def _describe(row: Row) -> str:
    """Return the main figure of a row as text."""
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
    write_images_page(results, page)
    screen().print(f"{results.path}, {page}", markup=False)


if __name__ == "__main__":
    app()
