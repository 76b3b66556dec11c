"""What the command info prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kalmanssl.utils.text import period_text

if TYPE_CHECKING:
    from kalmanssl.data import NWBObject, NWBSummary
    from kalmanssl.runs import RunSettings

__all__ = ["print_summary", "suggested_until"]

_DECODED = ("behavior", "labels")
_NEARLY_ALL = 0.9  # of the time of a behavior; an epoch with so much of it need not be named
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
    if (epoch := _main_epoch(summary, settings)) is not None:
        name, until = epoch
        typer.echo(f"to use the time of one epoch: fit ... --during {shlex.quote(name)} --until {until}")
    command = suggested_command(summary, recording, settings)
    if command:
        typer.echo(f"to fit about the first {100 * _FITTED_SHARE:g} % of the time and score the rest:\n  {command}")


def suggested_command(summary: NWBSummary, recording: Path, settings: RunSettings) -> str:
    """Return a command that fits the recording with the given settings; "" if no activity is clearly that.

    Where there is a choice of activity or behavior, the command names what most analyses use.
    """
    activity, behavior = summary.preferred("activity"), _behavior(summary, settings)
    known = [
        o
        for o in (_decoded(summary, settings), activity)
        if o is not None and o.start is not None and o.stop is not None
    ]
    if activity is None or not known:
        return ""
    named = settings.activity
    if named is None and "activity" in summary.problems:
        named = _short_name(summary, activity)
    options = []
    for name, values in (("activity", [named]), ("units", settings.units), ("behavior", [behavior])):
        options += [f"--{name} {shlex.quote(value)}" for value in values if value is not None]
    start, stop = max(o.start or 0.0 for o in known), min(o.stop or 0.0 for o in known)
    if start >= stop:  # they do not overlap, and the fit will say so
        start, stop = known[0].start or 0.0, known[0].stop or 0.0
    options.append(f"--until {suggested_until(start, stop)}")
    name = str(recording).encode(errors="replace").decode()  # names of files need not be text
    return " ".join(["kalmanssl fit", shlex.quote(name), "--out run", *options])


def _decoded(summary: NWBSummary, settings: RunSettings) -> NWBObject | None:
    """Return the behavior that the suggested command decodes."""
    taken, behavior, names = summary.taken("behavior"), _behavior(summary, settings), _names(summary)
    return taken[0] if taken else next((o for o in summary.objects if names.get(o.path) == behavior), None)


def _main_epoch(summary: NWBSummary, settings: RunSettings) -> tuple[str, str] | None:
    """Return the labeled epoch with most of the time of the behavior, and the time until which to fit.

    None if it has nearly all of the time, or there is only one epoch.

    Tables of intervals, such as trials, are no epochs.
    """
    decoded = _decoded(summary, settings)
    tables = {o.path.split("/")[-2] for o in summary.objects if "/" in o.path} | {"invalid_times"}
    epochs = {name: spans for name, spans in summary.epochs.items() if name not in tables}
    if decoded is None or decoded.start is None or decoded.stop is None or len(epochs) < 2:
        return None
    seconds = {
        name: sum(max(0.0, min(stop, decoded.stop) - max(start, decoded.start)) for start, stop in spans)
        for name, spans in epochs.items()
    }
    longest = max(seconds, key=lambda name: seconds[name])
    if not 0 < seconds[longest] < _NEARLY_ALL * (decoded.stop - decoded.start):
        return None
    first, last = min(start for start, _ in epochs[longest]), max(stop for _, stop in epochs[longest])
    return longest, suggested_until(max(first, decoded.start), min(last, decoded.stop))


def suggested_until(start: float, stop: float) -> str:
    """Return the time until which a recording from `start` to `stop` s is fitted if the rest is to be scored."""
    until = start + _FITTED_SHARE * (stop - start)
    return f"{round(until) if stop - start > 60 else round(until, 2):.10g}"


def _behavior(summary: NWBSummary, settings: RunSettings) -> str | None:
    """Return the behavior to name in the command; of several the preferred series, or else the first column."""
    if settings.behavior is not None or "behavior" not in summary.problems:
        return settings.behavior
    return next(iter(_decodable(summary)), "none")


def _decodable(summary: NWBSummary) -> list[str]:
    """Return the names of what is decoded only if it is named, the preferred series first, then columns."""
    return list(_names(summary).values())


def _names(summary: NWBSummary) -> dict[str, str]:
    """Return by path the names of what is decoded only if it is named; the path where a name is not unique."""
    return {o.path: _short_name(summary, o) for role in _DECODED for o in summary.candidates(role)}


def _short_name(summary: NWBSummary, chosen: NWBObject) -> str:
    """Return the last part of the path of an object, or its path if another one of the same use has this name."""
    roles = _DECODED if chosen.role in _DECODED else (chosen.role,)
    names = [o.path.rsplit("/", 1)[-1] for o in summary.objects if o.role in roles]
    last = chosen.path.rsplit("/", 1)[-1]
    return chosen.path if names.count(last) > 1 else last
