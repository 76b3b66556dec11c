"""Decode behavior from neural activity, with our method and those of others, on recordings of several laboratories.

kalmanssl bench decoding accuracy --data FOLDER --out decoding
kalmanssl bench decoding accuracy --preset quick --out quick          # a minute, simulated recordings
kalmanssl bench decoding fit-time --data FOLDER --out fit_time
kalmanssl bench decoding ring --data FOLDER --out ring
kalmanssl bench decoding noise --data FOLDER --out noise
kalmanssl bench decoding command-line --data FOLDER --out command_line
kalmanssl bench decoding sessions --data FOLDER --out sessions
kalmanssl bench decoding speed                                        # seconds, simulated
kalmanssl bench decoding online                                       # a few minutes, simulated
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a folder: the package and the shared modules are in its parent
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from suite import make_app

from decoding import accuracy, command_line, fit_time, noise, online, ring, sessions, speed

app = make_app()
app.command("accuracy", help=accuracy.__doc__)(accuracy.main)
app.command("fit-time", help=fit_time.__doc__)(fit_time.main)
app.command("ring", help=ring.__doc__)(ring.main)
app.command("noise", help=noise.__doc__)(noise.main)
app.command("command-line", help=command_line.__doc__)(command_line.main)
app.command("sessions", help=sessions.__doc__)(sessions.main)
app.command("speed", help=speed.__doc__)(speed.main)
app.command("online", help=online.__doc__)(online.main)


@app.callback(help=__doc__)
def main() -> None:
    """Show the help of the suite."""


if __name__ == "__main__":
    app()
