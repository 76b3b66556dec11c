"""Units without any activity in the fitted or in the held-out part of a recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kalmanssl.data import Recording

__all__ = ["silent_unit_notes"]

_EXPECTED = 30  # active bins; a unit with a constant rate has none instead with a probability of 1e-13
_SHOWN = 5  # names


def silent_unit_notes(training: Recording, rest: Recording | None) -> list[str]:
    """Return a sentence about units that are always silent in the fitted part, and one about those that fall silent.

    A unit falls silent if it is not active in the held-out part, although at least 30 of its bins would be if it were
    as active as in the fitted part. It may have been lost in recording.
    """
    active = np.count_nonzero(training.activity, axis=0)
    notes = []
    if (active == 0).any():
        notes.append(f"{_units(training, active == 0)} no activity in the fitted part")
    if rest is not None:
        expected = active * len(rest) / len(training)
        lost = (np.count_nonzero(rest.activity, axis=0) == 0) & (expected >= _EXPECTED)
        if lost.any():
            notes.append(
                f"{_units(training, lost)} no activity in the held-out part, although at least {_EXPECTED} active bins "
                "are expected from the fitted part: decoding may suffer"
            )
    return notes


def _units(recording: Recording, chosen: np.ndarray) -> str:
    """Return the count and the names of units as the subject of a sentence, with its verb."""
    names: Sequence[str] = [str(recording.unit_ids[i]) for i in np.flatnonzero(chosen)]
    kind = "unit" if recording.kind == "counts" else "channel"
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"{len(names)} {kind} ({shown}) has" if len(names) == 1 else f"{len(names)} {kind}s ({shown}) have"
