"""Errors of the command line: a message of one line on standard error, and the exit code."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from kalmanssl.cli._flags import FlagsWithoutType
from kalmanssl.cli._interrupts import ignore_interrupts
from kalmanssl.errors import CollapseError, DivergenceError, InputError, first_line
from kalmanssl.utils.text import shorten

__all__ = ["INTERRUPTED", "OneLineErrors", "log", "one_line"]

_FAILED, INTERRUPTED = 2, 130  # exit codes


class OneLineErrors(FlagsWithoutType, TyperGroup):
    """Command group that prints errors on one line. With KALMANSSL_TRACEBACK=1 it shows the traceback instead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for one in (self, *self.commands.values()):
            one.help = _unwrapped(one.help or "")

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments; an interrupt has an error line, too."""
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:
            ignore_interrupts()
            _print_error("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn expected errors into a message and an exit code."""
        if os.environ.get("KALMANSSL_TRACEBACK") == "1":
            return super().invoke(ctx)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                result = super().invoke(ctx)
                ignore_interrupts()  # too late: the command is complete
                return result
        except KeyboardInterrupt as interrupt:
            ignore_interrupts()
            _print_error(str(interrupt) or "interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (InputError, CollapseError, DivergenceError) as error:
            command = self.get_command(ctx, ctx.invoked_subcommand) if ctx.invoked_subcommand else None
            _print_error(one_line(error, _options_of(command)))
        except BrokenPipeError:
            raise  # the reader of the output has closed the pipe; typer exits silently
        except OSError as error:
            _print_error(
                f"{shorten(str(error.filename or 'a file'))}: {error.strerror or error}; free some space or choose "
                "another folder"
            )
        except Exception as error:
            if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # numpy, torch
                _print_error(
                    f"there is not enough memory ({first_line(error)[:200]}): close other programs, or use less data"
                )
            elif type(error).__name__ == "NotFittedError":
                _print_error(f"{error}; fit it again")
            else:
                raise
        raise typer.Exit(_FAILED)


def one_line(error: Exception, options: Mapping[str, str]) -> str:
    """Return the message on one line, with the command-line option in place of the argument at fault.

    Parameters
    ----------
    error : Exception
        Its `parameter` names the argument; see `kalmanssl.errors.InputError`.
    options : mapping of str to str
        The option of each argument, such as ``{"bin_size": "--bin-size"}``.

    Returns
    -------
    str
        "--bin-size must be positive" for the message "bin_size must be positive"; "--units: there are no spikes" for
        a message that does not begin with the name of the argument. "set overwrite" becomes "set --overwrite".
    """
    message = " ".join(str(error).split())
    message = re.sub(r"\bset (\w+)\b", lambda found: f"set {options.get(found[1], found[1])}", message)
    parameter = getattr(error, "parameter", None)
    if parameter is None or parameter not in options:
        return message
    rest = message.removeprefix(parameter)
    begins_with_name = rest != message and rest[:1] in (" ", "=", ":")
    return f"{options[parameter]}{rest}" if begins_with_name else f"{options[parameter]}: {message}"


# Arguments of the library that have another name on the command line.
_OTHER_NAMES = {"random_state": "seed", "regressor": "decoder", "windows": "window_starts"}


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph that is not indented: the help is wrapped at the width of the terminal."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(one if one.startswith(" ") else " ".join(one.split("\n")) for one in paragraphs)


def _options_of(command: Any) -> dict[str, str]:
    """Return the option of each argument of a command, such as {"bin_size": "--bin-size"}."""
    params = [] if command is None else command.params
    options = {p.name: p.opts[0] for p in params if p.param_type_name == "option"}
    return options | {name: options[other] for name, other in _OTHER_NAMES.items() if other in options}


def _print_error(message: str) -> None:
    """Print an error on one line of standard error."""
    typer.echo(f"error: {' '.join(message.split())}", err=True)


def log(line: str) -> None:
    """Print a line on standard error; standard output is for results.

    The stream is the present one, which a progress bar replaces so that the line appears above it.
    """
    print(line, file=sys.stderr, flush=True)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning on one line of standard error, unless it is about deprecated functions."""
    if not issubclass(category, DeprecationWarning | FutureWarning):
        log(f"note: {' '.join(str(message).split())}")
