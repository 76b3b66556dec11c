"""Export of decoded behavior to a table (CSV) or an NWB file, with times in the clock of the recording."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kalmanssl.errors import InputError
from kalmanssl.runs._files import check_new_output
from kalmanssl.utils.storage import replace_file

if TYPE_CHECKING:
    from kalmanssl.data import Latents
    from kalmanssl.decoding import DecodedCategory, DecodedPosition

__all__ = ["MODULE", "check_decoded_target", "write_decoded"]

MODULE = "kalmanssl"


def check_decoded_target(
    out: Path, recording: Path, overwrite: bool, *, append_to_copy: bool = False, module: str = MODULE
) -> None:
    """Check, before decoding, that the result can be written to `out`; the arguments are those of `write_decoded`.

    Raises
    ------
    InputError
        If `out` does not end in .csv or .nwb, exists and `overwrite` is false, is the recording itself, or its folder
        cannot be written; if `append_to_copy` is given for a .csv file, or the recording is damaged, has the module
        already or refers to other files by relative paths.
    """
    from kalmanssl.data.nwb import check_module_for_copy, check_nwb_name

    if out.suffix not in (".csv", ".nwb"):
        raise InputError(f"{out} must end in .csv or .nwb, which determines the format", parameter="out")
    if out.exists() and recording.exists() and os.path.samefile(out, recording):
        raise InputError(f"{out} is the recording itself: choose another name", parameter="out")
    check_new_output(out, overwrite)
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"no file can be created in {folder}: choose another folder", parameter="out")
    check_nwb_name(module, "module")
    if append_to_copy:
        if out.suffix != ".nwb":
            raise InputError(
                f"append_to_copy needs an output file that ends in .nwb; got {out}", parameter="append_to_copy"
            )
        check_module_for_copy(recording, out, module)


def write_decoded(
    decoded: DecodedPosition | DecodedCategory,
    out: Path,
    *,
    latents: Latents,
    recording: Path,
    behavior: str,
    unit: str,
    made_by: str,
    overwrite: bool,
    append_to_copy: bool = False,
    module: str = MODULE,
    posterior: bool = True,
) -> None:
    """Write decoded behavior as CSV or NWB, according to the suffix of `out`. The file is replaced atomically.

    A CSV file has the columns of `DecodedPosition.columns` or `DecodedCategory.columns`. Labels that a spreadsheet
    would execute as a formula, since they begin with one of = + - @, have an apostrophe in front. An NWB file has a
    processing module with these objects:

    - `latents` and `latent_variance` (time, state): posterior mean and variance of the latent state, and
      `latent_covariance` (time, state, state), which is left out if it has more than 2**24 values; all float32;
    - `decoded_BEHAVIOR`, with the series `mean`, `lower` and `upper`, (time,) or (time, dims): a `Position` for a
      behavior with "position" in its name, a `CompassDirection` for angles in degrees or radians, otherwise a
      `BehavioralTimeSeries`. On circular dimensions all are moved by minus one period where an upper bound is beyond
      the period, since NWB wants directions within one turn of zero;
    - the same at 50, 80 and 95 %, `lower_50`, `upper_50`, ..., and beside the container the series `trust` and
      `trusted` (1 or 0), (time,), with the properties of `DecodedPosition` of these names;
    - `posterior` (time, cells) or (time, cells, cells): the posterior over the grid, and the table `posterior_cells`
      with the centers and edges of its cells; for more than two dimensions one of each for each pair. Probabilities
      are rounded to 0.1 %, and 0 if less than 1e-6, and take a fifth of the space of unrounded ones;
    - for labels instead `decoded_BEHAVIOR` with the series `label`, `probability` and `set`, and the table
      `decoded_BEHAVIOR_labels`.

    `nwbinspector` takes an array with fewer bins than cells or states for one whose axes are swapped; such a short
    recording is written correctly nevertheless.

    Parameters
    ----------
    decoded : DecodedPosition or DecodedCategory
    out : Path
        Ends in .csv or .nwb.
    latents : Latents
        The latents that were decoded; for an NWB file.
    recording : Path
        The decoded NWB file. A new NWB file at `out` gets its metadata on the session and the subject.
    behavior, unit : str
        Name and unit of measurement of the behavior.
    made_by : str
        The program, and whether the latents were filtered or smoothed; for the description in an NWB file.
    overwrite : bool
        Replace an existing file.
    append_to_copy : bool
        Write a copy of the recording, and add the module to it. Everything else in the copy is as in the recording.
    module : str
        Name of the processing module.
    posterior : bool
        Write the posterior over the grid to an NWB file.

    Raises
    ------
    InputError
        If `out` exists and `overwrite` is false, or cannot be written.
    """
    if out.suffix == ".csv":
        table = decoded.columns()
        cells = [
            [_without_formula(text) for text in values.astype(str)]
            if name in ("label", "set")
            else [f"{value:.6f}" if name == "time" else f"{value:.6g}" for value in values.tolist()]
            for name, values in table.items()
        ]

        def write(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(table)
                writer.writerows(zip(*cells, strict=True))

    else:

        def write(path: Path) -> None:
            from kalmanssl.runs._export_nwb import write_nwb_results

            write_nwb_results(
                decoded,
                latents,
                path,
                recording=recording,
                behavior=behavior,
                unit=unit,
                made_by=made_by,
                module=module,
                append_to_copy=append_to_copy,
                posterior=posterior,
            )

    replace_file(out, write, overwrite)


def _without_formula(text: str) -> str:
    """Return text that a spreadsheet does not execute: with an apostrophe in front if it begins like a formula."""
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    try:
        float(text)  # a negative number
    except ValueError:
        return f"'{text}"
    return text
