"""Paths of files and folders that users give."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from kalmanssl.errors import InputError

__all__ = ["as_path", "make_folder"]


def as_path(name: str, value: Any) -> Path:
    """Return an argument as a path; raise `InputError` if no file system can have a file of this name."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise InputError(f"{name} must be a path, got {type(value).__name__}", parameter=name)
    text = os.fspath(value)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise InputError(f"{name} has characters that file names cannot have: {text!a:.80}", parameter=name) from None
    if not text or "\0" in text:
        raise InputError(f"{name} must be a path, got {text!a:.80}", parameter=name)
    return Path(value)


def make_folder(name: str, value: Any) -> Path:
    """Create the folder that an argument names, if it does not exist, and check that files can be written there."""
    folder = as_path(name, value)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{name} must be a folder, but {folder} is a file", parameter=name)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        message = f"{name}: no files can be written in {str(folder)[:200]} ({error.strerror}): choose another folder"
        raise InputError(message, parameter=name) from error
    return folder
