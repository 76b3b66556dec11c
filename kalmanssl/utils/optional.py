"""Packages that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any

from kalmanssl.errors import InputError

__all__ = ["import_optional"]


def import_optional(module: str, use: str, extra: str, *, package: str | None = None, otherwise: str = "") -> Any:
    """Import and return a module of an optional package; raise `InputError` if it is not installed.

    Parameters
    ----------
    module : str
    use : str
        What needs it, as the subject of the sentence of the message.
    extra : str
        The extra of this project that installs the package.
    package : str, optional
        Name of the package, if it is not that of the module.
    otherwise : str
        What to do without it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        advice = f"pip install 'kalmanssl[{extra}]'{f', or {otherwise}' if otherwise else ''}"
        raise InputError(f"{use} needs {package or module}: {advice}") from error
