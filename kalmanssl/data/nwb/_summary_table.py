"""Table of the contents of an NWB file, as text."""

from __future__ import annotations

import shutil
from io import StringIO
from typing import TYPE_CHECKING

from kalmanssl.data.nwb._activity_sources import UNITS
from kalmanssl.utils.measurement_units import short_unit

if TYPE_CHECKING:
    from kalmanssl.data.nwb._summary import NWBObject, NWBSummary

__all__ = ["render_summary"]

_OTHER_COLUMNS = 96  # characters
_WIDTH = 140  # characters, unless the terminal has another width


def render_summary(summary: NWBSummary) -> str:
    """Return the table of the objects, the epochs and the problems of a file."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    longest = max((len(found.path) for found in summary.objects), default=0)
    table = Table(title=f"Contents of {summary.source}", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("use", "object", "columns", "sampling (Hz)", "time (s)", "gaps"):
        is_number = heading in ("columns", "sampling (Hz)", "gaps")
        least = longest if heading == "object" else None  # paths are never divided
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold", min_width=least)
    for found in summary.objects:
        table.add_row(*(Text(cell) for cell in _cells(found)))
    text = StringIO()
    width = max(shutil.get_terminal_size((_WIDTH, 24)).columns, longest + _OTHER_COLUMNS)
    console = Console(file=text, width=width, color_system=None)
    console.print(table)
    lines = [line.rstrip() for line in text.getvalue().rstrip().splitlines()]
    if summary.epochs:
        epochs = [f"{name} ({len(spans)})" if len(spans) > 1 else name for name, spans in summary.epochs.items()]
        lines.append(f"epochs: {', '.join(epochs)}")
    lines += [f"no {role} is taken: {problem}" for role, problem in summary.problems.items()]
    return "\n".join(lines)


def _cells(found: NWBObject) -> tuple[str, ...]:
    """Return the cells of one row."""
    use = f"{found.role}, taken" if found.use == "taken" else f"{found.role}, by name"
    if found.use == "skipped":
        use = "skipped"
    time = (
        ""
        if found.start is None or found.stop is None
        else f"{round(found.start, 2):.10g} to {round(found.stop, 2):.10g}"
    )
    gaps = "" if found.gaps is None else str(found.gaps)
    if found.gaps:
        gaps += f" ({found.gap_seconds:.3g} s)"
    kind = f"{found.type}, {found.unit}" if short_unit(found.unit) else found.type
    lines = [f"{kind}: {found.remark}" if found.remark else kind]
    for column, counts in found.groups.items():
        lines.append(f"{column}: {', '.join(f'{value} ({count})' for value, count in counts.items())}")
    return (
        use,
        "\n".join([found.path, *lines]),
        "" if found.columns is None else str(found.columns),
        "" if found.rate is None or found.type == UNITS else f"{found.rate:.4g}",  # the remark has rates of spikes
        time,
        gaps,
    )
