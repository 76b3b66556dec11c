"""Packages that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any

from kalmanssl.errors import InputError

__all__ = ["import_optional"]


def import_optional(package: str, use: str, extra: str = "interop") -> Any:
    """Import and return a package that is not installed with kalmanssl; raise `InputError` if it is missing.

    Parameters
    ----------
    package : str
    use : str
        What needs it, for the message.
    extra : str
        The extra of kalmanssl that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"{use} needs {package}: pip install 'kalmanssl[{extra}]'") from error
