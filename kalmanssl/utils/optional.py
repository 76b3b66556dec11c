"""Packages that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any

from kalmanssl.errors import InputError

__all__ = ["import_optional"]


def import_optional(package: str, use: str) -> Any:
    """Import and return a package of the extra "interop"; raise `InputError` if it is not installed.

    Parameters
    ----------
    package : str
    use : str
        What needs it, for the message.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"{use} needs {package}: pip install 'kalmanssl[interop]'") from error
