"""Evaluation of a run for the commands, and the table of its scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kalmanssl.cli._errors import log
from kalmanssl.errors import InputError

if TYPE_CHECKING:
    from kalmanssl.data import Recording
    from kalmanssl.runs import Evaluation, Run

__all__ = ["evaluate_run", "part_from", "print_scores"]


def part_from(recording: Recording, after: float | None) -> Recording:
    """Return the part of the recording from `after` on, which is all of it if `after` is None."""
    if after is None:
        return recording
    if math.isnan(after):
        raise InputError("after must be a time in seconds, got NaN", parameter="after")
    if after > recording.time[-1]:
        raise InputError(
            f"after={after:.10g} leaves nothing: the recording covers {recording.time[0]:.10g} to "
            f"{recording.time[-1]:.10g} s",
            parameter="after",
        )
    return recording.restrict(start=after)


def evaluate_run(run: Run, recording: Path, after: float | None, smooth: bool) -> Evaluation:
    """Evaluate a run on the part from `after` on; the default is the held-out part of the fitted recording."""
    from kalmanssl.runs import Evaluation, read_recording

    read = read_recording(recording, run.settings, behavior=run.behavior is not None)
    fitted_until = (
        run.metadata["recording"]["fitted_until_s"] if read.source == run.metadata["recording"]["source"] else None
    )
    if after is None and fitted_until is not None and fitted_until < read.time[-1]:
        after = fitted_until
        log(f"note: evaluated on the held-out part, from {after:.10g} s on (change it with --after)")
    part = part_from(read, after)
    fitted = fitted_until is not None and bool(part.time[0] < fitted_until)
    if fitted:
        log("note: the model was fitted on this part of the recording; expect larger errors on other data")
    return Evaluation.of(run, part, smooth=smooth, fitted=fitted)


def print_scores(evaluation: Evaluation, unit: str) -> None:
    """Print the table of scores, if there are any, and below it how many bins are not trusted, and the alarms."""
    from kalmanssl.runs import alarm_lines, trust_sentence

    _print_table(evaluation, unit)
    untrusted = trust_sentence((evaluation.scores["all"] or {}).get("trust"))
    if untrusted:
        typer.echo(untrusted)
    for line in alarm_lines(evaluation.alarms):
        typer.echo(line)


def _print_table(evaluation: Evaluation, unit: str) -> None:
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
