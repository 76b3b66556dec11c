"""Make the figures and tables of the LDM paper again, beside the published numbers and a baseline.

An item is a figure or a table; its runs are stored in results.json and not run again. page.html has all items.

    kalmanssl bench paper
    kalmanssl bench paper --preset quick --only fig5 --only figA6 --out paper
    kalmanssl bench paper --items
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
from suite import RESULTS, Out, Quiet, Seeds, Workers, cli_errors, make_app, print_table, screen

from paper.item import PRESETS
from paper.items import ITEMS
from paper.jobs import chosen_items, jobs_of, open_results, work
from paper.page import write_paper_page
from paper.tables import overview

app = make_app()
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
QUICK = PresetName("quick")


@app.command(help=__doc__)
def main(
    preset: Annotated[
        PresetName, typer.Option(help="tiny: a test; quick: up to 90 CPU minutes; full: the sizes of the paper, a GPU.")
    ] = QUICK,
    only: Annotated[list[str] | None, typer.Option(help="Only this item; may be repeated.")] = None,
    items: Annotated[bool, typer.Option("--items", help="List the items and end.")] = False,
    n_seeds: Seeds = None,
    workers: Workers = 1,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Run the suite."""
    if items:
        print_table([("item", "in the paper", "title"), *((i.name, i.figure, i.title) for i in ITEMS.values())])
        return
    name = preset.value
    out = out or RESULTS / "paper" / name
    with cli_errors(out):
        chosen = chosen_items(only)
        results = open_results(out, name, machine_facts(workers))
        run_all(work, jobs_of(chosen, name, results, n_seeds), results, workers, quiet=quiet, describe=_describe)
    show(results)


def _describe(row: Row) -> str:
    """Return the time of a row as text."""
    return row.get("collapsed") or f"{row['cpu_s']:.1f} CPU s"


def show(results: Results) -> None:
    """Print the overview and write the page."""
    every = list(ITEMS.values())
    print_table(overview(every, results))
    page = results.path.with_name("page.html")
    write_paper_page(every, results, page)
    screen().print(f"{results.path}, {page}", markup=False)


if __name__ == "__main__":
    app()
