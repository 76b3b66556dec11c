"""Options that the benchmarks of decoding share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kalmanssl.errors import InputError

__all__ = ["DataFolder", "Quick", "Threads", "data_folder"]

DataFolder = Annotated[
    Path | None, typer.Option(help="Folder of the recordings; by default $KALMANSSL_DATA.", exists=True)
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of every method.")]
Quick = Annotated[bool, typer.Option("--quick", help="Short trainings on simulated recordings, as a test.")]


def data_folder(given: Path | None) -> Path:
    """Return the folder of the recordings, from the option or the environment."""
    folder = given or (Path(os.environ["KALMANSSL_DATA"]) if "KALMANSSL_DATA" in os.environ else None)
    if folder is None:
        raise InputError(
            "give the folder of the recordings with --data, or use simulated ones with --preset quick or --quick",
            parameter="data",
        )
    return folder
