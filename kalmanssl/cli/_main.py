"""The command line. Only what a command needs is imported, and only when it runs, so that help is quick."""

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
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which one.")
    ] = False,
) -> None:
    """Latent dynamics of a recording, and behavior decoded from them with intervals that keep their promise.

    Start with [bold]kalmanssl demo[/bold]: it simulates a recording, does everything once, and leaves a report.
    With a recording of your own:

        kalmanssl fit REC.nwb --out RUN --until 1800 --end-zones 0.1 1.5
        kalmanssl report RUN
    """


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that fit made.", show_default=False)]
RecordingFile = Annotated[
    Path, typer.Argument(metavar="REC.nwb", help="The recording, an NWB file.", show_default=False)
]
After = Annotated[
    float | None, typer.Option(metavar="T", help="Only the time from T on, in seconds of the recording's clock.")
]
Smooth = Annotated[
    bool, typer.Option("--smooth", help="Let every moment know what follows it (not for use in real time).")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what stands there.")]
# Shown instead of a number that is written down in `KalmanSSL` and nowhere else.
_OWN = "the model's own"


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything that is made.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulation and the fit.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Do everything once on a simulated rat, in a few minutes.

    Simulates place cells of a rat on a track, fits the first part without labels, decodes the rest, scores it, and
    writes a report to open in a browser.

        kalmanssl demo --out demo
    """
    from kalmanssl.runs import run_demo

    evaluation = run_demo(out, seed=seed, overwrite=overwrite, logger=log)
    _print_scores(evaluation, "m")
    _, scores = evaluation.main
    covered = 100 * scores["coverage"]["95"] if scores else math.nan
    typer.echo(f"the 95 % interval covers {covered:.1f} % of the running bins that were left out")
    typer.echo(f"report: {(out / 'report.html').resolve()}")


@app.command()
def fit(
    recording: RecordingFile,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder for the fitted run.", show_default=False)],
    until: Annotated[
        float | None,
        typer.Option(
            metavar="T", help="Fit only the time before T, in seconds of the recording's clock; score the rest."
        ),
    ] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHICH",
            help="auto (the excitatory ones, where the file says which), all, or COLUMN=VALUE[,VALUE] of the units "
            "table; may be given several times.",
            show_default="auto",
        ),
    ] = None,
    behavior: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Series to decode, by its name or path in the file; none to fit latents alone.",
            show_default="the only one",
        ),
    ] = None,
    epoch: Annotated[str | None, typer.Option(metavar="LABEL", help="Read only this epoch.")] = None,
    end_zones: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Linear track: the animal runs from below LOW to above HIGH or back. The decoder learns from running.",
        ),
    ] = None,
    min_speed: Annotated[
        float | None,
        typer.Option(metavar="V", help="Elsewhere: it runs when faster than V, in units of the behavior per second."),
    ] = None,
    period: Annotated[
        float | None, typer.Option(metavar="P", help="Behavior that comes round again, such as 360 for degrees.")
    ] = None,
    level: Annotated[float | None, typer.Option(help="Level of the interval.", show_default="0.95")] = None,
    decoder: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="mlp, or linear (in a second, for a first look).", show_default="mlp"),
    ] = None,
    bin_size: Annotated[
        float | None, typer.Option(metavar="S", help="Width of a bin, seconds.", show_default="0.025")
    ] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Size of the latents.", show_default=_OWN)] = None,
    state_dim: Annotated[
        int | None, typer.Option(help="Size of the filter's state, at least that.", show_default=_OWN)
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(metavar="HEAD", help="What the noise follows: constant, input, errors.", show_default=_OWN),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Length of the training.", show_default=_OWN)] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model.", show_default="0")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a fit that was interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run, once the new one is done.")] = False,
) -> None:
    """Fit latent dynamics without labels, and a decoder of behavior with calibrated intervals.

    Give --until to leave the end of the recording out: how well the run does there is in its report.

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
        Path, typer.Option(metavar="FILE", help="Table to write (.csv), or an NWB file (.nwb).", show_default=False)
    ],
    after: After = None,
    smooth: Smooth = False,
    overwrite: Overwrite = False,
) -> None:
    """Decode a recording of the same units, with intervals, into a file. No behavior is needed.

    The table has the columns time, mean, lower, upper (mean_x, lower_x, ... where the behavior has several).

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
    """Score a run on a recording with behavior: error, coverage and width of intervals, and what its latents mean.

    On the recording that was fitted, the default is the part that the fit left out.

        kalmanssl evaluate RUN REC.nwb --after 18960
    """
    from kalmanssl.runs import Run, assumptions_line, without_nan

    run = Run.load(run_folder)
    run.require_decoder()
    evaluation = _evaluation(run, recording, after, smooth)
    if evaluation.main[1] is None:
        raise InputError(f"{recording} has no known {run.behavior} in this part: there is nothing to score against")
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
            metavar="[REC.nwb]", help="Recording to show; without one, what was scored at the fit.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Page to write.", show_default="RUN/report.html")
    ] = None,
    after: After = None,
    smooth: Smooth = False,
    overwrite: Overwrite = False,
) -> None:
    """Write one page of pictures and numbers that opens in any browser.

    kalmanssl report RUN --out report.html
    """
    from kalmanssl.runs import Run, write_report

    target = run_folder / "report.html" if out is None else out
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists: choose another --out, or replace it with --overwrite")
    run = Run.load(run_folder)
    if recording is not None:
        run.evaluation = _evaluation(run, recording, after, smooth)
    elif after is not None or smooth:
        raise InputError("--after and --smooth need the recording: kalmanssl report RUN REC.nwb")
    write_report(run, target, overwrite)
    typer.echo(f"report: {target.resolve()}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def bench(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="Suite; without one, all are listed. What follows goes to it.", show_default=False),
    ] = None,
) -> None:
    """Run one of the benchmark suites of the source repository.

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
            f"there are no benchmarks at {folder}: they are in the source repository and not in an installed package; "
            "clone it and install that with pip install -e '.[benchmarks]'"
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
            raise typer.Exit(code if code >= 0 else 128 - code)  # as shells number the end by a signal
        except KeyboardInterrupt:
            continue  # the suite has heard it too, and ends by saying what it keeps


def _evaluation(run: Run, recording: Path, after: float | None, smooth: bool) -> Evaluation:
    """Evaluate the part that was asked for; by default one that the fit has not seen, if there is one."""
    from kalmanssl.runs import Evaluation, read_recording

    read = read_recording(recording, run.settings, behavior=run.behavior is not None)
    seen_until = (
        run.metadata["recording"]["fitted_until_s"] if read.source == run.metadata["recording"]["source"] else None
    )
    if after is None and seen_until is not None and seen_until < read.time[-1]:
        after = seen_until
        log(f"note: from {after:.10g} s on, the part that the fit left out (--after says otherwise)")
    part = read if after is None else read.restrict(start=after)
    fitted = seen_until is not None and bool(part.time[0] < seen_until)
    if fitted:
        log("note: the model was fitted on this time; errors on other data are larger")
    return Evaluation.of(run, part, smooth=smooth, fitted=fitted)


def _print_scores(evaluation: Evaluation, unit: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from kalmanssl.runs import score_rows

    rows = score_rows(evaluation.scores, unit)
    if not rows:
        return
    part = evaluation.part
    seen = "fitted on" if part["fitted"] else "left out of the fit"
    table = Table(title=f"{part['source']}, {part['start_s']:.10g} to {part['stop_s']:.10g} s, {seen}")
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
