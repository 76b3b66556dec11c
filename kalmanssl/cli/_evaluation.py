"""Evaluation of a run for the commands, and the table of its scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kalmanssl.cli._errors import log
from kalmanssl.cli._info import suggested_until
from kalmanssl.utils.text import time_span

if TYPE_CHECKING:
    from kalmanssl.data import Recording
    from kalmanssl.runs import Evaluation, Run

__all__ = ["Part", "evaluate_run", "print_run", "print_scores"]


@dataclass(frozen=True)
class Part:
    """The part of a recording that was chosen on the command line; see `kalmanssl.runs.part_of`."""

    windows: list[list[float]]
    during: list[str]
    after: float | None

    @classmethod
    def of(
        cls,
        starts: list[float] | None,
        stops: list[float] | None,
        during: list[str] | None,
        after: float | None = None,
    ) -> Part:
        """Make it from the values of the options."""
        from kalmanssl.runs import parse_windows

        return cls(parse_windows(starts, stops), during or [], after)

    def bins_of(self, recording: Recording) -> Recording:
        """Return the bins of a recording in this part."""
        from kalmanssl.runs import part_of

        return part_of(recording, self.windows, self.during, self.after)

    @property
    def is_chosen(self) -> bool:
        """Whether any option was given."""
        return bool(self.windows or self.during or self.after is not None)


def evaluate_run(run: Run, recording: Path, part: Part, smooth: bool) -> Evaluation:
    """Evaluate a run on a part of a recording; the default is the held-out part of the fitted recording."""
    from kalmanssl.runs import Evaluation, read_for_run, was_fitted

    read = read_for_run(recording, run, behavior=run.behavior is not None)
    facts = run.metadata["recording"]
    is_same, windows = read.source == facts["source"], facts.get("fitted_windows")
    if windows is None:  # a run of an earlier version
        windows = [[facts["start_s"], facts["fitted_until_s"]]]
    if not part.is_chosen and is_same and facts["fitted_until_s"] < read.time[-1]:
        s, held_out = run.settings, run.settings.until is not None
        part = Part(s.windows if held_out else [], s.during if held_out else [], facts["fitted_until_s"])
        log(
            f"note: evaluated on the held-out part, from {part.after:.10g} s on (change it with --after or --from and "
            "--to)"
        )
    used = part.bins_of(read)
    fitted = is_same and was_fitted(used, windows)
    if fitted:
        log("note: the model was fitted on this part of the recording; expect larger errors on other data")
    return Evaluation.of(run, used, smooth=smooth, fitted=fitted)


def print_run(run: Run, out: Path) -> None:
    """Print the scores of a new run, and the next step."""
    if run.evaluation is not None:
        print_scores(run, run.evaluation)
        _note_fitted(run.evaluation)
    typer.echo(f"run: {out}   (next step: kalmanssl report {out})")


def _note_fitted(evaluation: Evaluation) -> None:
    """After a fit, say how new data can be scored if the scores are those of the time that the model was fitted on."""
    part = evaluation.part
    if not part["fitted"] or evaluation.scores["all"] is None:
        return
    until = suggested_until(part["start_s"], part["stop_s"])
    log(
        "note: these are scores of the time that the model was fitted on; expect larger errors on other data. To score "
        f"new data, hold out the end of the recording: --until {until}"
    )


def print_scores(run: Run, evaluation: Evaluation) -> None:
    """Print the table of scores, if there are any, and below it the gain of the latents, trusted bins and alarms."""
    from kalmanssl.runs import alarm_lines, gain_line, reference_line, score_sentence, trust_sentence

    unit = run.behavior_unit
    _print_table(evaluation, unit)
    if explained := score_sentence(evaluation.main[1], unit, evaluation.divided_by_itself):
        typer.echo(explained)
    compared = reference_line(evaluation, unit)
    if compared:
        typer.echo(compared)
    untrusted = trust_sentence((evaluation.scores["all"] or {}).get("trust"))
    if untrusted:
        typer.echo(untrusted)
    if gain := gain_line(run.model):
        typer.echo(gain)
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
    typer.echo(f"{part['source']}, {time_span(part['start_s'], part['stop_s'])}, {use}")
    table = Table()
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
