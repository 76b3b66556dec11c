"""The sessions of hc-11: hippocampus of rats on linear and circular tracks.

Grosmark and Buzsáki, Science 351, 1440-1443 (2016), doi 10.1126/science.aad1935; DANDI:000044.
"""

from __future__ import annotations

import os
from typing import Any

from kalmanssl.datasets.dandi._fetch import Fetched, fetch
from kalmanssl.utils.validation import unknown_name_error

__all__ = ["HC11_SESSIONS", "fetch_hc11", "hc11_path"]

_DANDISET = "000044"
HC11_SESSIONS = (
    "Achilles-10252013",
    "Achilles-11012013",
    "Buddy-06272013",
    "Cicero-09012014",
    "Cicero-09102014",
    "Cicero-09172014",
    "Gatsby-08022013",
    "Gatsby-08282013",
)
"""Sessions of hc-11, by rat and date (month, day, year)."""


def fetch_hc11(session: str, out: str | os.PathLike[str], **options: Any) -> Fetched:
    """Fetch a session of hc-11: sorted units of CA1, position on the track, epochs and sleep states.

    The files of the archive have several peculiarities. Sampling periods that are stored as rates are corrected, and
    `Fetched.notes` says so. There are two series of position: ``<maze>Position`` has x and y, and
    ``<maze>LinearizedPosition`` the distance along the track, which is NaN except on runs (about a tenth of the
    samples). The clock begins with the sleep before the maze, so select the epoch "MazeEpoch" on reading. Some mazes
    are circular; their linearized position needs a `period` in a decoder.

    Parameters
    ----------
    session : str
        One of `HC11_SESSIONS`; an underscore instead of the hyphen is accepted.
    out : path
        File to write.
    **options
        As in `fetch`: `version`, `overwrite`, `api`, `client`, `on_progress` and `logger`.

    Returns
    -------
    Fetched

    Raises
    ------
    InputError, DownloadError, KeyboardInterrupt
        As in `fetch`; also if there is no such session.
    """
    return fetch(_DANDISET, hc11_path(session), out, **options)


def hc11_path(session: str) -> str:
    """Return the path of a session in DANDI:000044; raise `InputError` if there is no such session."""
    wanted = session.strip().replace("_", "-").lower()
    for known in HC11_SESSIONS:
        if known.lower() == wanted:
            subject = known.partition("-")[0]
            return f"sub-{subject}/sub-{subject}_ses-{known}_behavior+ecephys.nwb"
    raise unknown_name_error("session", session, HC11_SESSIONS)
