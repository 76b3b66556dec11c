"""How the command line fails: one line on standard error, and an exit code."""

from __future__ import annotations

import os
import re
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from kalmanssl.errors import CollapseError, DivergenceError, InputError

__all__ = ["OneLineErrors", "say"]

_FAILED, _INTERRUPTED = 2, 130


class OneLineErrors(TyperGroup):
    """Says what went wrong on one line, without a traceback; set KALMANSSL_TRACEBACK=1 to see where."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        if os.environ.get("KALMANSSL_TRACEBACK") == "1":
            return super().invoke(ctx)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            _complain(str(interrupt) or "interrupted")
            raise typer.Exit(_INTERRUPTED) from None
        except (InputError, CollapseError, DivergenceError) as error:
            _complain(str(error))
        except BrokenPipeError:
            raise  # whoever read our output has had enough; typer ends quietly
        except OSError as error:
            _complain(f"{error.filename or 'a file'}: {error.strerror or error}; make room or choose another place")
        except Exception as error:
            if type(error).__name__ != "NotFittedError":
                raise
            _complain(f"{error}; fit it again")
        raise typer.Exit(_FAILED)


# Messages of the library speak of arguments; here they are options.
_WORDED = {
    "pass behavior=False": "pass --behavior none",
    "behavior is ambiguous; name": "the behavior to decode is ambiguous; with --behavior, name",
    "regressor=": "--decoder ",
}
_OPTIONS = re.compile(
    r"\b(?:(behavior|epoch|units|level|period)=|(bin_size|end_zones|min_speed|latent_dim|state_dim)\b=?)"
)


def _complain(message: str) -> None:
    text = " ".join(message.split())
    for python, option in _WORDED.items():
        text = text.replace(python, option)
    text = _OPTIONS.sub(_as_option, text)
    typer.echo(f"error: {text}", err=True)


def _as_option(match: re.Match[str]) -> str:
    name = (match[1] or match[2]).replace("_", "-")
    return f"--{name} " if match[0].endswith("=") else f"--{name}"


def say(line: str) -> None:
    """Tell the person, on standard error: standard output is for results."""
    typer.echo(line, err=True)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if not issubclass(category, DeprecationWarning | FutureWarning):
        say(f"note: {' '.join(str(message).split())}")
