"""The commands. Each one imports the modules that it needs when it runs, so that help texts appear quickly."""

from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kalmanssl.cli import _options as options
from kalmanssl.cli._errors import INTERRUPTED, OneLineErrors, log
from kalmanssl.cli._evaluation import Part, evaluate_run, print_run, print_scores
from kalmanssl.cli._flags import Command
from kalmanssl.cli._info import print_summary
from kalmanssl.cli._interrupts import catch_interrupts, ignore_interrupts
from kalmanssl.errors import InputError

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
    try:
        catch_interrupts()
        # Where the terminal cannot show a character, as in the locale C, it is replaced instead of ending the command.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        app()
    except KeyboardInterrupt:  # before or after the command itself
        ignore_interrupts()
        log("error: interrupted")
        sys.exit(INTERRUPTED)


def _print_version(requested: bool) -> None:
    """Print the version and exit if `requested` is true."""
    if requested:
        from importlib.metadata import version

        typer.echo(f"kalmanssl {version('kalmanssl')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Fit latent dynamics to a neural recording and decode behavior from them with calibrated intervals.

    Start with [bold]kalmanssl demo[/bold]: it simulates a recording, runs every step on it, and writes a report. With
    your own recording, info lists its contents and prints a command that fits its first part:

        kalmanssl info REC.nwb
        kalmanssl fit REC.nwb --out RUN --until 1800
        kalmanssl report RUN

    Each command has its own help, such as kalmanssl fit --help.
    """


@app.command(cls=Command)
def demo(
    out: options.DemoFolder = Path("demo"), seed: options.DemoSeed = 0, overwrite: options.Overwrite = False
) -> None:
    """Run every step on a simulated recording, in a few minutes.

    Simulates place cells of a rat on a track, fits the first part without labels, decodes the rest, scores it, and
    writes a report that opens in a browser.

    Example: kalmanssl demo --out demo
    """
    from kalmanssl.runs import run_demo

    run = run_demo(out, seed=seed, overwrite=overwrite, logger=log)
    scores = None
    if run.evaluation is not None:
        print_scores(run, run.evaluation)
        _, scores = run.evaluation.main
    covered = 100 * scores["coverage"]["95"] if scores else math.nan
    typer.echo(f"the 95 % interval covers {covered:.1f} % of the held-out moving bins")
    typer.echo(f"report: {(out / 'report.html').resolve()}")


@app.command(cls=Command)
def fit(
    recording: options.RecordingFile,
    out: options.NewRun,
    until: options.Until = None,
    activity: options.Activity = None,
    units: options.Units = None,
    bands: options.Bands = None,
    behavior: options.Behavior = None,
    epoch: options.Epoch = None,
    window_starts: options.WindowStarts = None,
    window_stops: options.WindowStops = None,
    during: options.During = None,
    min_rate: options.MinRate = None,
    end_zones: options.EndZones = None,
    min_speed: options.MinSpeed = None,
    period: options.Period = None,
    linearize: options.Linearize = False,
    waypoints: options.Waypoints = None,
    discrete: options.Discrete = False,
    level: options.Level = None,
    decoder: options.Decoder = None,
    bin_size: options.BinSize = None,
    latent_dim: options.LatentDim = None,
    state_dim: options.StateDim = None,
    noise: options.Noise = None,
    behavior_weight: options.BehaviorWeight = None,
    epochs: options.Epochs = None,
    seed: options.FitSeed = None,
    seeds: options.Seeds = None,
    resume: options.Resume = False,
    overwrite: options.OverwriteRun = False,
) -> None:
    """Fit latent dynamics, by default without labels, and a decoder of behavior with calibrated intervals.

    With --until, the end of the recording is held out; the scores of the run and its report are about that part.

    Example: kalmanssl fit REC.nwb --out RUN --until 18960 --end-zones -0.15 1.10

    Example: kalmanssl fit REC.nwb --out RUN --during trials --from 0 --to 1800 --units location=CA1 --min-rate 0.1
    """
    from kalmanssl.runs import fit_run, parse_windows

    model = options.given_settings(
        resume,
        latent_dim=latent_dim,
        state_dim=state_dim,
        noise=noise,
        behavior_weight=behavior_weight,
        epochs=epochs,
        random_state=seed,
    )
    run = fit_run(
        recording,
        out,
        overwrite=overwrite,
        resume=resume,
        logger=log,
        until=until,
        activity=activity,
        units=units,
        bands=bands,
        behavior=behavior,
        epoch=epoch,
        windows=parse_windows(window_starts, window_stops),
        during=during,
        min_rate=min_rate,
        bin_size=bin_size,
        end_zones=end_zones,
        min_speed=min_speed,
        period=period,
        linearize=linearize or None,
        waypoints=waypoints,
        discrete=discrete or None,
        level=level,
        decoder=decoder,
        seeds=seeds,
        **model,
    )
    print_run(run, out)


@app.command(cls=Command)
def info(
    recording: options.RecordingFile,
    activity: options.Activity = None,
    units: options.Units = None,
    behavior: options.Behavior = None,
    as_json: options.Json = False,
) -> None:
    """Show the activity, behavior and labels in a recording, which of them fit would use, and a command that fits it.

    Example: kalmanssl info REC.nwb
    """
    from kalmanssl.runs import RunSettings, summarize_recording
    from kalmanssl.utils.json_values import without_nan

    settings = RunSettings(recording=str(recording), activity=activity, units=units or [], behavior=behavior)
    summary = summarize_recording(recording, settings)
    for name, problem in summary.problems.items():
        if getattr(settings, name) is not None:
            raise InputError(problem, parameter=name)
    if as_json:
        typer.echo(json.dumps(without_nan(summary.to_dict()), allow_nan=False))
    else:
        print_summary(summary, recording, settings)


@app.command(cls=Command)
def decode(
    run_folder: options.RunFolder,
    recording: options.RecordingFile,
    out: options.DecodedFile,
    after: options.After = None,
    window_starts: options.WindowStarts = None,
    window_stops: options.WindowStops = None,
    during: options.During = None,
    smooth: options.Smooth = False,
    append_to_copy: options.AppendToCopy = False,
    module: options.Module = "kalmanssl",
    posterior: options.Posterior = True,
    overwrite: options.Overwrite = False,
) -> None:
    """Decode behavior, with intervals, from a recording of the same units. The recording needs no behavior.

    A .csv file has the columns time, mean, lower and upper (mean_x, lower_x, ... for behavior with several dimensions),
    then intervals at 50, 80 and 95 % (lower_50, upper_50, ...), trust and trusted. trust, from 0 to 1, is the share of
    held-out bins of the fit that look at least as unusual; trusted, 1 or 0, is whether to trust the bin. Both are
    judged from its activity. For labels the columns are time, label, set (the labels of the prediction set) and
    probability_LABEL. An .nwb file also has the latents with their variances and the posterior over a grid of the
    behavior. Values have the unit of the recording; an angle is between 0 and its period, and an interval around 0
    begins below it.

    Example: kalmanssl decode RUN REC.nwb --out decoded.csv
    """
    from kalmanssl.runs import check_decoded_target, open_run, read_to_decode, write_decoded

    part = Part.of(window_starts, window_stops, during, after)
    check_decoded_target(out, recording, overwrite, append_to_copy=append_to_copy, module=module)
    run = open_run(run_folder)
    decoder = run.require_decoder()
    read = read_to_decode(recording, run, lambda text: log(f"note: {text}"))
    used = part.bins_of(read)
    latents = run.model.transform(used, smooth=smooth)
    write_decoded(
        decoder.predict(latents),
        out,
        latents=latents,
        recording=recording,
        behavior=str(run.behavior),
        unit=run.metadata["behavior"]["unit"],
        made_by=f"kalmanssl, {'smoothed' if smooth else 'filtered'}",
        overwrite=overwrite,
        append_to_copy=append_to_copy,
        module=module,
        posterior=posterior,
    )
    typer.echo(f"{len(used)} bins, {used.duration:.6g} s: {out}")


@app.command(cls=Command)
def evaluate(
    run_folder: options.RunFolder,
    recording: options.RecordingFile,
    after: options.After = None,
    window_starts: options.WindowStarts = None,
    window_stops: options.WindowStops = None,
    during: options.During = None,
    smooth: options.Smooth = False,
    as_json: options.Json = False,
) -> None:
    """Score a run on a recording with behavior, check the assumptions of identifiability, and list alarms.

    The scores are the error, the coverage of the intervals and their width; for labels the accuracy, and the coverage
    and the size of the prediction sets. Alarms say in words what makes scores useless, such as a decoder that is worse
    than a constant. For the recording that was fitted, the default is the held-out part.

    With --json the unit of positions and errors is that of the recording. The page "Scores as JSON" of the
    documentation (docs/pages/json.md) explains every key; all.trust.untrusted is the share of bins not trusted.

    Example: kalmanssl evaluate RUN REC.nwb --after 18960
    """
    from kalmanssl.runs import assumptions_line, held_out_gain, open_run
    from kalmanssl.utils.json_values import without_nan

    part = Part.of(window_starts, window_stops, during, after)
    run = open_run(run_folder)
    run.require_decoder()
    evaluation = evaluate_run(run, recording, part, smooth)
    if evaluation.main[1] is None:
        raise InputError(
            f"{recording} has no known {run.behavior} in this part, so nothing can be scored: choose another part"
        )
    if as_json:
        gain = held_out_gain(run.model)
        result = {
            **evaluation.part,
            "behavior": run.behavior,
            "unit": run.behavior_unit,
            **evaluation.scores,
            "held_out_gain": None if gain is None else gain._asdict(),
            "assumptions": evaluation.assumptions,
            "alarms": [asdict(alarm) for alarm in evaluation.alarms],
        }
        typer.echo(json.dumps(without_nan(result), allow_nan=False))
    else:
        print_scores(run, evaluation)
        typer.echo(assumptions_line(evaluation.assumptions))


@app.command(cls=Command)
def report(
    run_folder: options.RunFolder,
    recording: options.ReportRecording = None,
    out: options.ReportFile = None,
    after: options.After = None,
    window_starts: options.WindowStarts = None,
    window_stops: options.WindowStops = None,
    during: options.During = None,
    smooth: options.Smooth = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a report of figures and scores, one HTML file that opens in any browser.

    Example: kalmanssl report RUN --out report.html
    """
    from kalmanssl.runs import open_run

    target = run_folder / "report.html" if out is None else out
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists: choose another file, or replace it with --overwrite", parameter="out")
    part = Part.of(window_starts, window_stops, during, after)
    run = open_run(run_folder)
    if recording is not None:
        run.evaluation = evaluate_run(run, recording, part, smooth)
    elif part.is_chosen or smooth:
        raise InputError("a choice of time and --smooth require the recording: kalmanssl report RUN REC.nwb")
    run.write_report(target, overwrite)
    typer.echo(f"report: {target.resolve()}")


@app.command(cls=Command)
def fetch(
    source: options.FetchSource,
    out: options.FetchedFile,
    session: options.Session = None,
    path: options.AssetPath = None,
    version: options.AssetVersion = None,
    api: options.Api = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Download a recording of the DANDI archive: only units, behavior and intervals, not the raw signals.

    The result is a small NWB file for kalmanssl fit. If the download is interrupted, run the same command again: it
    continues where it stopped.

    Example: kalmanssl fetch hc11 --session Achilles-10252013 --out achilles.nwb

    Example: kalmanssl fetch DANDI:000044 --path sub-Buddy/sub-Buddy_ses-Buddy-06272013_behavior+ecephys.nwb --out b.nwb
    """
    from kalmanssl.cli._fetch import run_fetch

    run_fetch(source, out, session=session, path=path, version=version, api=api, overwrite=overwrite)


@app.command(cls=Command, context_settings=options.ARGUMENTS_OF_A_SUITE)
def bench(ctx: typer.Context, name: options.Suite = None) -> None:
    """Run a benchmark suite of the source repository.

    Example: kalmanssl bench decoding accuracy --preset quick --out results

    Help of a suite: kalmanssl bench decoding --help
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
            f"there are no benchmarks at {folder}: an installed package does not contain them; clone the source "
            "repository and install it with pip install -e '.[benchmarks]'"
        )
    if name is None:
        typer.echo("\n".join(sorted(suites)))
        return
    if name not in suites:
        raise InputError(f"there is no benchmark {name!r}: choose one of {', '.join(sorted(suites))}")
    suite = subprocess.Popen([sys.executable, str(suites[name]), *ctx.args])
    while True:
        try:
            code = suite.wait()
            raise typer.Exit(code if code >= 0 else 128 - code)  # the exit code of shells for death by a signal
        except KeyboardInterrupt:
            continue  # the suite receives the interrupt too: wait until it has saved its results
