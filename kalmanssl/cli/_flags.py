"""Help texts of options without a value."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["Command", "FlagsWithoutType"]


class FlagsWithoutType:
    """Mixin of commands: the help of a flag does not name the type bool, since no value follows the flag."""

    def get_params(self, ctx: Any) -> Any:
        """Return the arguments and options, with the option for help."""
        params = super().get_params(ctx)  # type: ignore[misc]
        for one in params:
            if getattr(one, "is_flag", False):
                one.metavar = ""
        return params


class Command(FlagsWithoutType, TyperCommand):
    """A command."""
