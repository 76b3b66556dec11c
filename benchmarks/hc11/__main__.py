"""Decode position from hippocampal spikes, with our method and those of others.

The recording is one session of hc-11 (Grosmark and Buzsaki 2016, doi 10.1126/science.aad1935; DANDI:000044) or any
other NWB file with spikes and position on a linear track.

    kalmanssl bench hc11 decoding --data achilles_maze.nwb --out hc11
    kalmanssl bench hc11 decoding --preset quick --out quick          # a minute, simulated recording
    kalmanssl bench hc11 fit-time --data achilles_maze.nwb --out fit_time
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a folder: the package and the shared modules are in its parent
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from suite import make_app

from hc11 import decoding, fit_time

app = make_app()
app.command("decoding", help=decoding.__doc__)(decoding.main)
app.command("fit-time", help=fit_time.__doc__)(fit_time.main)


@app.callback(help=__doc__)
def main() -> None:
    """Show the help of the suite."""


if __name__ == "__main__":
    app()
