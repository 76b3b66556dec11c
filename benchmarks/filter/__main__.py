"""Time, memory and accuracy of Kalman filters: ours beside a plain loop, torch-kf, dynamax, filterpy and a limit in C.

Every method runs in a process of its own, with its own threads and peak memory, and they take turns: all are prepared,
compiled and called once, then they go round, one computing while the others wait. What is done is kept at once, so
that a run can be stopped and started again. Times are CPU seconds of all threads (and wall seconds), the median and
the minimum of the repeats; ratios are of methods in the same rounds.

    kalmanssl bench filter --preset quick --out quick
    kalmanssl bench filter          # everything, half an hour
"""

from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if not __package__:  # run as a folder: its parent is where the package and its neighbours are found
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import machine_facts

from filter.figure import SWEEPS, SWEPT, draw
from filter.methods import METHODS, OURS
from filter.problems import NOISES, TASKS, Cell, Size
from filter.report import accuracy_table, cost_table, time_tables
from filter.rounds import Crew, FailedError, row_of, time_cell
from kalmanssl.errors import InputError

DEFAULT_OUT = Path(__file__).resolve().parents[1] / "results" / "filter"
ACCURACY_LIMIT_S = 900.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err_console = Console(stderr=True)
Row = dict[str, Any]


class PresetName(StrEnum):
    """How much work is done."""

    full = "full"
    quick = "quick"


class Part(StrEnum):
    """What is measured."""

    sizes = "sizes"
    sweep = "sweep"
    accuracy = "accuracy"


class Preset(NamedTuple):
    """What a preset means."""

    sizes: tuple[Size, ...]
    repeats: int
    limit_s: float
    swept: tuple[str, ...]
    swept_work: float
    left_out: tuple[str, ...]


PRESETS = {
    PresetName.full: Preset(
        (Size(8, 100, 10, 5), Size(32, 100, 2, 2), Size(32, 400, 16, 8), Size(128, 400, 16, 8), Size(1, 65000, 16, 8)),
        repeats=9,
        limit_s=400.0,
        swept=SWEPT,
        swept_work=math.inf,
        left_out=(),
    ),
    PresetName.quick: Preset(
        (Size(4, 50, 4, 2),),
        repeats=3,
        limit_s=60.0,
        swept=(OURS, "careful loop"),
        swept_work=8 * 100 * 8,
        left_out=("kalmanssl, 2 threads", "dynamax, associative scan", "dynamax, diagonal noise"),
    ),
}


def key_of(row: Row) -> tuple[Any, ...]:
    """What a row is about; a later row replaces an earlier one."""
    if "case" in row:
        return row["method"], row["case"], row["noise"]
    return row["method"], tuple(row["size"]), row["noise"], row["task"]


def choose_methods(asked: list[str] | None, preset: Preset) -> list[str]:
    """Names that are asked for: in full, or else a part that several may have."""
    if not asked:
        return [name for name in METHODS if name not in preset.left_out]
    chosen: dict[str, None] = {}
    for part in asked:
        found = [part] if part in METHODS else [name for name in METHODS if part.lower() in name.lower()]
        if not found:
            raise InputError(f"--methods {part}: there are {'; '.join(METHODS)}")
        chosen |= dict.fromkeys(found)
    return [name for name in METHODS if name in chosen]


def plan(sizes: list[Size], methods: list[str], preset: Preset, parts: set[Part]) -> list[tuple[Cell, list[str]]]:
    """All that is to be timed, in order, and of whom."""
    todo = []
    if Part.sizes in parts:
        timed = [name for name in methods if METHODS[name].timed]
        todo = [(Cell(size, noise, task), timed) for size in sizes for noise in NOISES for task in TASKS]
    if Part.sweep in parts:
        swept = [name for name in preset.swept if name in methods]
        every = dict.fromkeys(size for one in SWEEPS.values() for size in one if size.work <= preset.swept_work)
        todo += [(Cell(size, "varying", "gradients"), swept) for size in every]
    return todo


class Folder:
    """Rows on disk, appended as they come.

    Parameters
    ----------
    path : Path
        New, empty, or begun with the same settings.
    settings : dict
        What rows must have in common to stand in one table.
    overwrite : bool
        Whether rows that are measured again replace those that are there.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, overwrite: bool) -> None:
        self.path, self.settings, self.overwrite = path, settings, overwrite
        card, self.lines = path / "settings.json", path / "results.jsonl"
        if path.exists() and not card.exists() and any(path.iterdir()):
            raise InputError(f"{path} holds other files: give an empty or a new folder with --out")
        if card.exists() and json.loads(card.read_text()) != settings:
            raise InputError(f"{path} holds results of other settings (settings.json): give another --out")
        path.mkdir(parents=True, exist_ok=True)
        card.write_text(json.dumps(settings, indent=2) + "\n")
        self.rows: dict[tuple[Any, ...], Row] = {}
        self._fresh: set[tuple[Any, ...]] = set()
        for line in self.lines.read_text().splitlines() if self.lines.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the last line of a run that was killed
                continue
            self.rows[key_of(row)] = row
        self.lines.write_text("".join(json.dumps(row) + "\n" for row in self.rows.values()))

    def lacks(self, key: tuple[Any, ...]) -> bool:
        """Whether this is still to be measured, because it is new, failed or is to be overwritten."""
        if self.overwrite:
            return key not in self._fresh
        return key not in self.rows or "failed" in self.rows[key]

    def add(self, rows: list[Row]) -> None:
        """Keep the rows that were lacking."""
        for row in rows:
            key = key_of(row)
            if self.lacks(key):
                self._fresh.add(key)
                self.rows[key] = row = finite(row)
                with self.lines.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def finite(value: Any) -> Any:
    """Make NaN and infinity null, which is all that JSON has for them."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@app.command(help=__doc__)
def main(
    preset: Annotated[PresetName, typer.Option(help="quick: one small size, a minute.")] = PresetName.full,
    methods: Annotated[
        list[str] | None, typer.Option(help="Only methods of this name, or with this in it; may be repeated.")
    ] = None,
    sizes: Annotated[
        list[str] | None, typer.Option(help="batch,steps,states,channels instead of the preset's; may be repeated.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Rounds; fewer where a call takes seconds.")] = None,
    parts: Annotated[list[Part] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a started run goes on there.")] = DEFAULT_OUT,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure again what is done.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run the benchmark."""
    chosen_preset = PRESETS[preset]
    try:
        try:
            chosen_sizes = [Size.read(text) for text in sizes] if sizes else list(chosen_preset.sizes)
        except ValueError as error:
            raise InputError(str(error)) from None
        chosen = choose_methods(methods, chosen_preset)
        settings = {"preset": preset.value, "processor": machine_facts(1)["processor"], "seed": 0, "dtype": "float32"}
        folder = Folder(out, settings, overwrite=overwrite)
        for name in chosen:
            if METHODS[name].missing:
                err_console.print(f"skipped {name}: {METHODS[name].missing}", style="bold red", markup=False)
        wanted = set(parts or Part)
        todo = plan(chosen_sizes, chosen, chosen_preset, wanted)
        with Crew(chosen_preset.limit_s) as crew:
            rates = [core_rates(crew)]
            checked = [name for name in chosen if METHODS[name].threads == 1] if Part.accuracy in wanted else []
            run_all(crew, folder, todo, checked, preset, repeats or chosen_preset.repeats, quiet)
            rates.append(core_rates(crew))
    except InputError as error:
        err_console.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        err_console.print(f"stopped; what is done is in {out}, the same command goes on from there", markup=False)
        raise typer.Exit(130) from None
    summarise(folder, rates, chosen_sizes)


def core_rates(crew: Crew) -> Row:
    """What the core can do now, floating-point operations per second."""
    try:
        return crew.ask(OURS, do="rates")
    except FailedError as error:
        raise InputError(f"the benchmark's own process does not work: {error}") from None


def run_all(
    crew: Crew,
    folder: Folder,
    todo: list[tuple[Cell, list[str]]],
    checked: list[str],
    preset: PresetName,
    repeats: int,
    quiet: bool,
) -> None:
    """Measure what is not done yet. Ours is timed beside whatever is, so that all ratios are of the same rounds."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=err_console
    )
    with nullcontext() if quiet else bar:
        progress = bar.add_task("", total=len(todo) + len(checked))
        for cell, methods in todo:
            lacking = []
            for name in methods:
                row = row_of(name, cell)
                reason = METHODS[name].unfit(*cell)
                if METHODS[name].missing:
                    folder.add([row | {"failed": METHODS[name].missing}])
                elif reason:
                    folder.add([row | {"skipped": reason}])
                elif folder.lacks(key_of(row)):
                    lacking.append(name)
            if lacking:

                def say(what: str, cell: Cell = cell) -> None:
                    bar.update(progress, description=f"{cell}: {what}")

                rows = time_cell(crew, dict.fromkeys([OURS, *lacking]), cell, repeats, say)
                folder.add(rows)
                if not quiet:
                    err_console.print(f"{cell}: {in_words(rows)}", markup=False, highlight=False)
            bar.advance(progress)
        for name in checked:
            bar.update(progress, description=f"accuracy: {name}")
            if METHODS[name].missing is None and folder.lacks((name, "ordinary", "varying")):
                folder.add(check(crew, name, preset))
            bar.advance(progress)


def in_words(rows: list[Row]) -> str:
    """CPU seconds of each method in a line."""
    return ", ".join(
        f"{row['method']} {1000 * row['cpu_s']:.3g} ms" if "cpu_s" in row else f"{row['method']} not ({why})"
        for row in rows
        for why in [row.get("skipped", row.get("failed"))]
    )


def check(crew: Crew, method: str, preset: PresetName) -> list[Row]:
    """Accuracy of a method; a row that says why if its process fails."""
    try:
        rows: list[Row] = crew.ask(method, do="check", preset=preset.value, limit_s=ACCURACY_LIMIT_S)["rows"]
    except FailedError as error:
        rows = [{"case": "ordinary", "noise": "varying", "failed": str(error)}]
    return [{"method": method} | row for row in rows]


def summarise(folder: Folder, rates: list[Row], sizes: list[Size]) -> None:
    """Write results.json and the figure, print the tables."""
    timed = [row for row in folder.rows.values() if "case" not in row]
    accuracy = [row for row in folder.rows.values() if "case" in row]
    core = max((one["core"] for one in rates if one["core"]), default=None)
    for row in timed:
        if core and "gflops" in row:
            row["share_of_core"] = row["gflops"] * 1e9 / core
    machine = machine_facts(1) | {"flops_per_second": {"core": core, "torch.mm": max(one["torch.mm"] for one in rates)}}
    for package in ("numba", "jax", "jaxlib", "dynamax", "torch-kf", "filterpy"):
        try:
            machine[package] = version(package)
        except PackageNotFoundError:
            machine[package] = None
    result = {"settings": folder.settings, "machine": machine, "results": timed, "accuracy": accuracy}
    (folder.path / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    files = [folder.path / "results.json"]
    if draw(timed, folder.path / "times.png"):
        files.append(folder.path / "times.png")

    console = Console() if Console().is_terminal else Console(width=170)
    swept = {size for one in SWEEPS.values() for size in one}
    earlier = [size for size in dict.fromkeys(Size(*row["size"]) for row in timed) if size not in swept]
    sizes = list(dict.fromkeys([*sizes, *earlier]))
    for table in time_tables(timed, sizes):
        console.print(table)
    if core:
        products = machine["flops_per_second"]["torch.mm"]
        console.print(f"this core: {core / 1e9:.0f} GFLOP/s at most, {products / 1e9:.0f} in torch.mm")
    if timed:
        console.print(cost_table(timed, sizes, core))
    for noise in NOISES:
        if any(row["noise"] == noise for row in accuracy):
            console.print(accuracy_table(accuracy, noise))
    console.print(", ".join(map(str, files)), markup=False)


if __name__ == "__main__":
    app()
