"""The command fetch: arguments, progress and the summary."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from kalmanssl.cli._errors import log
from kalmanssl.errors import InputError

if TYPE_CHECKING:
    from kalmanssl.datasets.dandi import Fetched

__all__ = ["run_fetch"]


def run_fetch(
    source: str,
    out: Path,
    *,
    session: str | None,
    path: str | None,
    version: str | None,
    api: str | None,
    overwrite: bool,
) -> None:
    """Fetch a session of hc11 or an asset of a dandiset, and print what was written."""
    from kalmanssl.datasets import dandi

    options: dict[str, Any] = {"version": version, "overwrite": overwrite, "logger": log}
    if api is not None:
        options["api"] = api
    if source.lower() in ("hc11", "hc-11"):
        if path is not None:
            raise InputError("--path is for dandisets; choose a session of hc11 with --session")
        if session is None:
            raise InputError(f"hc11 needs a session: --session {', '.join(dandi.HC11_SESSIONS)}")
        with _Progress() as progress:
            fetched = dandi.fetch_hc11(session, out, on_progress=progress.show, **options)
    else:
        if session is not None:
            raise InputError("--session is for hc11; choose an asset of a dandiset with --path")
        _check_source(source, version)
        with _Progress() as progress:
            fetched = dandi.fetch(source, path or "", out, on_progress=progress.show, **options)
    _print_summary(fetched)


def _check_source(source: str, version: str | None) -> None:
    """Raise `InputError` unless the source is the name of a dandiset."""
    from kalmanssl.datasets.dandi import parse_dandiset

    try:
        parse_dandiset(source, version)
    except InputError as error:
        if error.parameter == "version":
            raise
        raise InputError(
            f"SOURCE must be hc11 or a dandiset of six digits, such as DANDI:000044; got {source!r}"
        ) from error


class _Progress:
    """Bar on standard error: bytes read, and the expected total."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("fetch"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            # Without a thread of its own: the garbage collector could run in it and wait for the lock of h5py, which
            # this thread holds while it reads.
            auto_refresh=False,
        )
        self._task: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """Show the bytes that are read; the bar appears with the first ones."""
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("fetch", total=total)
        self._bar.update(self._task, completed=done, total=total, refresh=True)


def _print_summary(fetched: Fetched) -> None:
    """Print what was written and read, and the next command."""
    for note in fetched.notes:
        log(f"note: {note}")
    typer.echo(
        f"{fetched.n_units} units, {fetched.n_spikes} spikes; behavior: {', '.join(fetched.behavior) or 'none'}; "
        f"intervals: {', '.join(fetched.tables) or 'none'}"
    )
    typer.echo(
        f"{fetched.path}   ({fetched.path.stat().st_size / 1e6:.3g} MB; {fetched.n_bytes / 1e6:.3g} of "
        f"{fetched.asset.size / 1e6:.4g} MB were read)"
    )
    linear = [name for name in fetched.behavior if "Linearized" in name]
    epoch = [label for label in fetched.epochs if "Maze" in label]
    command = ["kalmanssl fit", str(fetched.path), "--out RUN"]
    command += [f"--epoch {epoch[0]}"] if len(epoch) == 1 else []
    if len(fetched.behavior) > 1:
        command.append(f"--behavior {(linear or list(fetched.behavior))[0]}")
    typer.echo(f"next step: {' '.join(command)}")
