"""What a user gets from two command lines, `kalmanssl fit` and `kalmanssl evaluate`, on every recording.

Both commands run as processes of their own, with the defaults of the command line. The options say where the fitted
part ends, which behavior is decoded if the file has several, and what the file does not: the end zones of a track and
the period of an angle. The exact lines, their wall and CPU seconds and the printed scores are stored. Scores are about
the part that was held out from the fit. The table is in Markdown.

Running bins of `kalmanssl evaluate` are found from the behavior that is decoded. For a velocity they are the bins in
which it changes fast, unlike in the other benchmarks, which use the speed of the position.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from measure import Stopwatch, machine_facts
from results_store import Results, Row
from suite import RESULTS, cli_errors, err_console, matches
from thread_limits import thread_environment

from decoding.options import DataFolder, Quick, Threads, data_folder
from decoding.recordings import RECORDINGS, SIMULATED, Source
from decoding.tasks import Target
from kalmanssl.errors import InputError

__all__ = ["main"]

COMMAND = (sys.executable, "-c", "from kalmanssl.cli import main; main()")
QUICK = ("--epochs", "2", "--latent-dim", "4", "--state-dim", "8", "--decoder", "linear")
QUICK_RECORDINGS = ("simulated track", "simulated ring", "simulated arm")
SCORES = ("median error", "R²", "CRPS", "cover 95, %")
HEADINGS = ("target", "unit", "fit: wall s", "CPU s", "evaluate: wall s", "CPU s")


def main(
    data: DataFolder = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS
    / "decoding"
    / "command_line",
    recordings: Annotated[
        list[str] | None, typer.Option("--recording", help="Only recordings with this in their name; repeatable.")
    ] = None,
    threads: Threads = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run finished recordings again.")] = False,
    quick: Quick = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        sources = {name: SIMULATED[name] for name in QUICK_RECORDINGS} if quick else RECORDINGS
        names = [name for name in sources if matches(recordings, name)]
        if not names:
            raise InputError(f"{', '.join(recordings or ())}: no recording is left", parameter="recording")
        folder = None if quick else data_folder(data)
        settings = {"quick": quick, "threads": threads}
        results = Results(out, settings, machine_facts(threads), ("target",), overwrite=overwrite)
        with TemporaryDirectory() as work:
            for name in names:
                for target in sources[name].targets[: 1 if quick else None]:
                    if results.is_pending(target.name):
                        results.add(_run_both(name, sources[name], target, folder, Path(work), threads))
                        err_console.print(_describe(results.rows[target.name,]), markup=False, highlight=False)
        typer.echo(_table(list(results.rows.values())))


def _run_both(name: str, source: Source, target: Target, folder: Path | None, work: Path, threads: int) -> Row:
    """Fit a recording and evaluate the run in the folder `work`, with two commands; return their row."""
    file = _recording_file(name, source, folder, work)
    run = target.name.replace(", ", "_").replace(" ", "_")
    until = f"{source.split_at:g}"
    fit = ["fit", file, "--out", run, "--until", until, *_options(source, target), *(() if folder else QUICK)]
    row: Row = {"recording": name, "target": target.name, "factor": target.factor, "shown_unit": target.unit}
    for command in (fit, ["evaluate", run, file, "--after", until, "--json"]):
        result = _run(command, work, threads)
        row[command[0]] = {"line": shlex.join(["kalmanssl", *command]), **result}
        if result["exit_code"]:
            return row | {"failed": (result["messages"] or ["no message"])[-1]}
        row["scores"] = json.loads(result.pop("output")) if command[0] == "evaluate" else None
        row[command[0]].pop("output")
    return row


def _recording_file(name: str, source: Source, folder: Path | None, work: Path) -> str:
    """Return the path of the recording's file from `work`, which has a link to the data; write a simulated one."""
    data = work / "data"
    if folder is not None:
        if not (folder / source.file).is_file():
            raise InputError(f"there is no file {folder / source.file}: give the folder with --data", parameter="data")
        if not data.exists():
            data.symlink_to(folder.resolve(), target_is_directory=True)
        return f"data/{source.file}"
    data.mkdir(exist_ok=True)
    path = data / f"{name.replace(' ', '_')}.nwb"
    source.read(Path()).to_nwb(path)
    return f"data/{path.name}"


def _options(source: Source, target: Target) -> list[str]:
    """Return the options that a recording needs in addition to the time of the split."""
    options = []
    if len(source.targets) > 1:
        options += ["--behavior", source.names_in_file.get(target.behavior, target.behavior)]
    if source.end_zones is not None:
        options += ["--end-zones", *(f"{zone:g}" for zone in source.end_zones)]
    if target.period is not None:
        options += ["--period", f"{target.period:.6g}"]
    return options


def _run(command: Sequence[str], work: Path, threads: int) -> dict[str, Any]:
    """Run a command of kalmanssl in the folder `work`; return its times, exit code, output and messages."""
    environment = thread_environment(threads)
    with Stopwatch() as stopwatch:
        done = subprocess.run([*COMMAND, *command], cwd=work, env=environment, capture_output=True, text=True)
    lines = [line.strip() for line in done.stderr.splitlines()]
    return {
        "wall_s": stopwatch.wall,
        "cpu_s": stopwatch.cpu,
        "exit_code": done.returncode,
        "output": done.stdout,
        "messages": [line for line in lines if line.startswith(("note:", "error:", "trained on"))],
    }


def _describe(row: Row) -> str:
    """Return the cost and the errors of a row as text."""
    if "failed" in row:
        return f"{row['target']} failed: {row['failed']}"
    return f"{row['target']}: fit {row['fit']['cpu_s']:.0f} CPU s; all bins: {', '.join(_scores(row, 'all'))}"


def _table(rows: Sequence[Row]) -> str:
    """Return a table of all rows, and the command lines, in Markdown."""
    headings = (*HEADINGS, *(f"{bins}: {score}" for bins in ("all", "running") for score in SCORES))
    lines = [headings, ["---"] * len(headings)]
    for row in rows:
        costs = [f"{row[c][t]:.1f}" if c in row else "" for c in ("fit", "evaluate") for t in ("wall_s", "cpu_s")]
        scores = [row["failed"]] if "failed" in row else [*_scores(row, "all"), *_scores(row, "running")]
        lines.append([row["target"], row["shown_unit"], *costs, *scores, *[""] * (8 - len(scores))])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    commands = "\n".join(row[command]["line"] for row in rows for command in ("fit", "evaluate") if command in row)
    return f"{table}\n\n```\n{commands}\n```"


def _scores(row: Row, bins: str) -> list[str]:
    """Return the scores of all or of running bins as text, in the unit of the tables of other benchmarks."""
    scores = row["scores"][bins]
    if scores is None:
        return [""] * len(SCORES)
    factor = row["factor"]
    return [
        f"{factor * scores['median_error']:.3g}",
        f"{scores['r2']:.3f}",
        f"{factor * scores['crps']:.3g}",
        f"{100 * scores['coverage']['95']:.0f}",
    ]
