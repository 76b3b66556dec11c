"""What the command info prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kalmanssl.utils.text import period_text

if TYPE_CHECKING:
    from kalmanssl.data import NWBSummary
    from kalmanssl.runs import RunSettings

__all__ = ["print_summary", "suggested_until"]

_DECODED = ("behavior", "labels")
_FITTED_SHARE = 0.7  # of the time of a recording, that is suggested for the fit


def print_summary(summary: NWBSummary, recording: Path, settings: RunSettings) -> None:
    """Print the contents of a recording, the periods of angles, and a command that fits it."""
    typer.echo(str(summary))
    named = _decodable(summary)
    if named and summary.taken("behavior"):
        typer.echo(f"to decode another behavior or labels, name it: fit ... --behavior {shlex.quote(named[0])}")
    for found in summary.taken("activity"):
        if found.groups and not settings.units:
            column, counts = next(iter(found.groups.items()))
            chosen = shlex.quote(f"{column}={next(iter(counts))}")
            typer.echo(f"to use some of the units, select them by a column: fit ... --units {chosen}")
    for found in summary.objects:
        if found.period is not None and found.use != "skipped":
            period = period_text(found.period, found.unit)
            typer.echo(f"note: {found.path} covers a whole circle: fit uses the period {period}")
    command = suggested_command(summary, recording, settings)
    if command:
        typer.echo(f"to fit about the first {100 * _FITTED_SHARE:g} % of the time and score the rest:\n  {command}")


def suggested_command(summary: NWBSummary, recording: Path, settings: RunSettings) -> str:
    """Return a command that fits the recording with the given settings; "" if no activity is taken."""
    activity, behavior = summary.taken("activity"), summary.taken("behavior")
    known = [found for found in (*behavior, *activity) if found.start is not None and found.stop is not None]
    if not activity or not known:
        return ""
    options = []
    for name, values in (
        ("activity", [settings.activity]),
        ("units", settings.units),
        ("behavior", [_behavior(summary, settings)]),
    ):
        options += [f"--{name} {shlex.quote(value)}" for value in values if value is not None]
    start, stop = known[0].start or 0.0, known[0].stop or 0.0
    options.append(f"--until {suggested_until(start, stop)}")
    name = str(recording).encode(errors="replace").decode()  # names of files need not be text
    return " ".join(["kalmanssl fit", shlex.quote(name), "--out run", *options])


def suggested_until(start: float, stop: float) -> str:
    """Return the time until which a recording from `start` to `stop` s is fitted if the rest is to be scored."""
    until = start + _FITTED_SHARE * (stop - start)
    return f"{round(until) if stop - start > 60 else round(until, 2):.10g}"


def _behavior(summary: NWBSummary, settings: RunSettings) -> str | None:
    """Return the behavior to name in the command; of several, the first series, or else the first column."""
    if settings.behavior is not None or "behavior" not in summary.problems:
        return settings.behavior
    return next(iter(_decodable(summary)), "none")


def _decodable(summary: NWBSummary) -> list[str]:
    """Return the names of what is decoded only if it is named, series first; the path where a name is not unique."""
    names = [found.path.split("/")[-1] for found in summary.objects if found.role in _DECODED]
    candidates = [o.path for role in _DECODED for o in summary.objects if (o.role, o.use) == (role, "candidate")]
    return [path if names.count(last := path.split("/")[-1]) > 1 else last for path in candidates]
