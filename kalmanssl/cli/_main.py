"""The command line. Each command imports what it needs when it runs, so that help is fast."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kalmanssl.cli._errors import OneLineErrors, log
from kalmanssl.errors import InputError

if TYPE_CHECKING:
    from kalmanssl.runs import Evaluation, Run

__all__ = ["app", "main"]

HELP = ["-h", "--help"]
app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": HELP},
)


def main() -> None:
    """Run the command line."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"kalmanssl {version('kalmanssl')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Fit latent dynamics to neural recordings and decode behavior with calibrated intervals.

    Start with [bold]kalmanssl demo[/bold], which simulates a recording, runs all steps and writes a report.
    With your own recording:

        kalmanssl fit REC.nwb --out RUN --until 1800 --end-zones 0.1 1.5
        kalmanssl report RUN
    """


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by fit.", show_default=False)]
RecordingFile = Annotated[Path, typer.Argument(metavar="REC.nwb", help="Recording (NWB file).", show_default=False)]
After = Annotated[
    float | None, typer.Option(metavar="T", help="Use only the time from T, in seconds of the recording's clock.")
]
Smooth = Annotated[
    bool, typer.Option("--smooth", help="Use past and future data (smoother) instead of past data only (filter).")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
# Shown instead of a number, so that defaults are defined only in `KalmanSSL`.
_OWN = "of the model"


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of the fit.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Run all steps on a simulated recording, in a few minutes.

    Simulates place cells of a rat on a linear track, fits the first part without labels, decodes and scores the rest,
    and writes a report that opens in a browser.

        kalmanssl demo --out demo
    """
    from kalmanssl.runs import run_demo

    evaluation = run_demo(out, seed=seed, overwrite=overwrite, logger=log)
    _print_scores(evaluation, "m")
    _, scores = evaluation.main
    covered = 100 * scores["coverage"]["95"] if scores else math.nan
    typer.echo(f"the 95 % interval covers {covered:.1f} % of the held-out running bins")
    typer.echo(f"report: {(out / 'report.html').resolve()}")


@app.command()
def fit(
    recording: RecordingFile,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Output folder.", show_default=False)],
    until: Annotated[
        float | None,
        typer.Option(
            metavar="T", help="Fit the time before T, in seconds of the recording's clock, and score the rest."
        ),
    ] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHICH",
            help="auto (excitatory units, if the file has cell types), all, or COLUMN=VALUE[,VALUE] of the units "
            "table; repeatable.",
            show_default="auto",
        ),
    ] = None,
    behavior: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Series to decode, by name or path in the file; none to fit latents only.",
            show_default="the only one",
        ),
    ] = None,
    epoch: Annotated[str | None, typer.Option(metavar="LABEL", help="Use only this epoch.")] = None,
    end_zones: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Linear track: running bins are traversals from below LOW to above HIGH or back. The decoder is "
            "fitted on running bins.",
        ),
    ] = None,
    min_speed: Annotated[
        float | None,
        typer.Option(
            metavar="V",
            help="Other environments: running bins have a speed above V, in units of the behavior per second.",
        ),
    ] = None,
    period: Annotated[
        float | None, typer.Option(metavar="P", help="Period of circular behavior, such as 360 for degrees.")
    ] = None,
    level: Annotated[float | None, typer.Option(help="Nominal level of the interval.", show_default="0.95")] = None,
    decoder: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="mlp, or linear (faster and less accurate).", show_default="mlp"),
    ] = None,
    bin_size: Annotated[
        float | None, typer.Option(metavar="S", help="Width of a bin, seconds.", show_default="0.025")
    ] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Number of latent dimensions.", show_default=_OWN)] = None,
    state_dim: Annotated[
        int | None,
        typer.Option(
            help="Number of state dimensions of the filter, at least the latent dimensions.", show_default=_OWN
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(metavar="HEAD", help="Observation noise: constant, input, state or errors.", show_default=_OWN),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of training epochs.", show_default=_OWN)] = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed; the same seed gives the same model.", show_default="0")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted fit.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing run when the new one is complete.")
    ] = False,
) -> None:
    """Fit latent dynamics without labels, and a decoder of behavior with calibrated intervals.

    With --until, the end of the recording is held out; the report shows the scores on it.

        kalmanssl fit REC.nwb --out RUN --until 18960 --end-zones -0.15 1.10
    """
    from kalmanssl.runs import RunSettings, fit_run

    if end_zones is not None and min_speed is not None:
        raise InputError("give --end-zones (a linear track) or --min-speed (anything else), not both")
    chosen = {"latent_dim": latent_dim, "state_dim": state_dim, "noise": noise, "epochs": epochs, "random_state": seed}
    model = {name: value for name, value in chosen.items() if value is not None}
    if not resume:
        model.setdefault("random_state", 0)
    settings = RunSettings(
        recording=str(recording),
        until=until,
        units=units or [],
        behavior=behavior,
        epoch=epoch,
        bin_size=bin_size,
        end_zones=None if end_zones is None else list(end_zones),
        min_speed=min_speed,
        period=period,
        level=level,
        decoder=decoder,
        model=model,
    )
    run = fit_run(settings, out, overwrite=overwrite, resume=resume, logger=log)
    if run.evaluation is not None:
        _print_scores(run.evaluation, run.behavior_unit)
    typer.echo(f"run: {out}   (next: kalmanssl report {out})")


@app.command()
def decode(
    run_folder: RunFolder,
    recording: RecordingFile,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Output file: a table (.csv) or an NWB file (.nwb).", show_default=False),
    ],
    after: After = None,
    smooth: Smooth = False,
    overwrite: Overwrite = False,
) -> None:
    """Decode behavior with intervals from a recording of the same units. The recording needs no behavior.

    The table has the columns time, mean, lower, upper (mean_x, lower_x, ... if the behavior has several dimensions).

        kalmanssl decode RUN REC.nwb --out decoded.csv
    """
    from kalmanssl.runs import Run, check_decoded_target, read_recording, write_decoded

    check_decoded_target(out, recording, overwrite)
    run = Run.load(run_folder)
    decoder = run.require_decoder()
    try:
        read = read_recording(recording, run.settings)
    except InputError as error:
        read = read_recording(recording, run.settings, behavior=False)
        log(f"note: read without behavior: {error}")
    part = read if after is None else read.restrict(start=after)
    write_decoded(
        decoder.predict(run.model.transform(part, smooth=smooth)),
        out,
        recording=recording,
        behavior=str(run.behavior),
        unit=run.metadata["behavior"]["unit"],
        made_by=f"kalmanssl, {'smoothed' if smooth else 'filtered'}",
        overwrite=overwrite,
    )
    typer.echo(f"{len(part)} bins, {part.duration:.6g} s: {out}")


@app.command()
def evaluate(
    run_folder: RunFolder,
    recording: RecordingFile,
    after: After = None,
    smooth: Smooth = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Score a run on a recording with behavior: error, coverage and width of intervals, and assumption tests.

    For the recording of the fit, the default is the held-out part.

        kalmanssl evaluate RUN REC.nwb --after 18960
    """
    from kalmanssl.runs import Run, assumptions_line, without_nan

    run = Run.load(run_folder)
    run.require_decoder()
    evaluation = _evaluation(run, recording, after, smooth)
    if evaluation.main[1] is None:
        raise InputError(f"{run.behavior} is unknown in this part of {recording}, so it cannot be scored")
    if as_json:
        result = {
            **evaluation.part,
            "behavior": run.behavior,
            "unit": run.behavior_unit,
            **evaluation.scores,
            "assumptions": evaluation.assumptions,
        }
        typer.echo(json.dumps(without_nan(result), allow_nan=False))
    else:
        _print_scores(evaluation, run.behavior_unit)
        typer.echo(assumptions_line(evaluation.assumptions))


@app.command()
def report(
    run_folder: RunFolder,
    recording: Annotated[
        Path | None,
        typer.Argument(
            metavar="[REC.nwb]",
            help="Recording to show; by default the part that was scored at the fit.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Output file.", show_default="RUN/report.html")
    ] = None,
    after: After = None,
    smooth: Smooth = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a self-contained HTML page with figures and scores.

    kalmanssl report RUN --out report.html
    """
    from kalmanssl.runs import Run, write_report

    target = run_folder / "report.html" if out is None else out
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists: choose another file, or replace it with --overwrite", parameter="out")
    run = Run.load(run_folder)
    if recording is not None:
        run.evaluation = _evaluation(run, recording, after, smooth)
    elif after is not None or smooth:
        raise InputError("--after and --smooth require the recording: kalmanssl report RUN REC.nwb")
    write_report(run, target, overwrite)
    typer.echo(f"report: {target.resolve()}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def bench(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="Benchmark suite; without a name, all are listed. Further arguments are passed to it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a benchmark suite of the source repository.

    kalmanssl bench hc11 decoding --preset quick --out results

    kalmanssl bench hc11 --help
    """
    import subprocess

    if name in HELP:
        typer.echo(ctx.get_help())
        return
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    suites = {p.stem: p for p in folder.glob("*.py") if "__main__" in p.read_text(encoding="utf-8")}
    suites |= {p.parent.name: p.parent for p in folder.glob("*/__main__.py")}
    if not suites:
        raise InputError(
            f"there are no benchmarks at {folder}: they are part of the source repository, not of the installed "
            "package; clone the repository and install it with pip install -e '.[benchmarks]'"
        )
    if name is None:
        typer.echo("\n".join(sorted(suites)))
        return
    if name not in suites:
        raise InputError(f"no benchmark {name!r}: there are {', '.join(sorted(suites))}")
    suite = subprocess.Popen([sys.executable, str(suites[name]), *ctx.args])
    while True:
        try:
            code = suite.wait()
            raise typer.Exit(code if code >= 0 else 128 - code)  # the exit code that shells use for signals
        except KeyboardInterrupt:
            continue  # the suite receives the interrupt too and stops by itself


def _evaluation(run: Run, recording: Path, after: float | None, smooth: bool) -> Evaluation:
    """Evaluate the selected part of a recording; by default the part that is held out from the fit, if there is one."""
    from kalmanssl.runs import Evaluation, read_recording

    read = read_recording(recording, run.settings, behavior=run.behavior is not None)
    seen_until = (
        run.metadata["recording"]["fitted_until_s"] if read.source == run.metadata["recording"]["source"] else None
    )
    if after is None and seen_until is not None and seen_until < read.time[-1]:
        after = seen_until
        log(f"note: using the held-out part from {after:.10g} s (change it with --after)")
    part = read if after is None else read.restrict(start=after)
    fitted = seen_until is not None and bool(part.time[0] < seen_until)
    if fitted:
        log("note: the model was fitted on this part; errors on other data are larger")
    return Evaluation.of(run, part, smooth=smooth, fitted=fitted)


def _print_scores(evaluation: Evaluation, unit: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from kalmanssl.runs import score_rows

    rows = score_rows(evaluation.scores, unit)
    if not rows:
        return
    part = evaluation.part
    use = "part of the fit" if part["fitted"] else "held out from the fit"
    table = Table(title=f"{part['source']}, {part['start_s']:.10g} to {part['stop_s']:.10g} s, {use}")
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
