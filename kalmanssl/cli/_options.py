"""Arguments and options of the commands, with their help texts.

Defaults that a help text shows are those of the library (`KalmanSSL`, `PositionDecoder`, `Recording.from_nwb`). An
option that is not given is None here, so that the library sets the value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, written by fit.", show_default=False)]
RecordingFile = Annotated[Path, typer.Argument(metavar="REC.nwb", help="Recording, an NWB file.", show_default=False)]
After = Annotated[
    float | None,
    typer.Option(metavar="T", help="Use only the time from T on. Seconds, in the clock of the recording."),
]
WindowStarts = Annotated[
    list[float] | None,
    typer.Option(
        "--from",
        metavar="T",
        help="Start of a window of time to use, with its end in --to. Repeat both for more windows. Seconds, in the "
        "clock of the recording.",
        show_default="all time",
    ),
]
WindowStops = Annotated[
    list[float] | None,
    typer.Option("--to", metavar="T", help="End of the window that --from starts.", show_default=False),
]
During = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Use only the intervals of this table, such as trials, or the epochs with this label. Can be repeated; "
        "kalmanssl info lists the names.",
        show_default="all time",
    ),
]
Smooth = Annotated[
    bool,
    typer.Option(
        "--smooth", help="Infer each latent from the whole recording, not only from its past. Not for real-time use."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
OverwriteRun = Annotated[
    bool, typer.Option("--overwrite", help="Replace an existing run when the new one is complete.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

DemoFolder = Annotated[Path, typer.Option(metavar="DIR", help="Output folder.")]
DemoSeed = Annotated[int, typer.Option(help="Seed of the simulation and of the fit.")]
NewRun = Annotated[Path, typer.Option(metavar="RUN", help="Run folder to create.", show_default=False)]
DecodedFile = Annotated[Path, typer.Option(metavar="FILE", help="Output file, .csv or .nwb.", show_default=False)]
AppendToCopy = Annotated[
    bool,
    typer.Option(
        "--append-to-copy",
        help="Make FILE.nwb a copy of the recording with the results added. The recording is not changed.",
    ),
]
Module = Annotated[
    str, typer.Option(metavar="NAME", help="Name of the processing module for the results in an .nwb file.")
]
Posterior = Annotated[
    bool,
    typer.Option(
        "--posterior/--no-posterior",
        help="Write the posterior over a grid of the behavior to an .nwb file. It takes most of the space.",
    ),
]
ReportFile = Annotated[
    Path | None, typer.Option(metavar="FILE.html", help="Output file.", show_default="RUN/report.html")
]
ReportRecording = Annotated[
    Path | None,
    typer.Argument(
        metavar="REC.nwb",
        help="Recording to evaluate for the report. The default is the evaluation that fit saved.",
        show_default=False,
    ),
]
Suite = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME [ARGUMENTS]...",
        help="Name of the suite, and its arguments. Without a name, all suites are listed.",
        show_default=False,
    ),
]
# The suite reads its own arguments, also --help.
ARGUMENTS_OF_A_SUITE = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

Until = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Fit only the time before T and evaluate on the rest. Seconds, in the clock of the recording.",
        show_default="fit the whole recording",
    ),
]
Activity = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Activity to use, by the name of the series, of its container or its path in the file, such as "
        "Deconvolved, DfOverF or LFP; units for spikes. kalmanssl info lists the names.",
        show_default="the spikes, or the only series",
    ),
]
Units = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WHICH",
        help="Units to use: auto (no noise and rejected ROIs; excitatory units if the file has cell types), all, or "
        "COLUMN=VALUE[,VALUE...] to select by a column of the table of units, ROIs or electrodes, such as id=3,5, "
        "quality=good or location=CA1. Can be repeated.",
        show_default="auto",
    ),
]
Bands = Annotated[
    list[str] | None,
    typer.Option(
        "--band",
        metavar="NAME=LOW:HIGH",
        help="Frequency band of a field potential, in Hz, such as theta=6:10. Its log power in each channel is the "
        "activity. Repeat it for more bands; choose the field potential with --activity.",
        show_default="delta, theta, beta, low and high gamma",
    ),
]
Behavior = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Series to decode, by its name or its path in the file, a column of trials such as trials/choice, or none "
        "to fit only the latents. Text and bools are decoded as labels.",
        show_default="the only position in the file, or the only series",
    ),
]
MinRate = Annotated[
    float | None,
    typer.Option(metavar="HZ", help="Use only units with at least so many spikes per second in the fitted part."),
]
Epoch = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL",
        help="Read only the epoch of the recording with this label.",
        show_default="the whole recording",
    ),
]
EndZones = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="Ends of a linear track, for scores of running bins: the animal runs from below LOW to above HIGH or "
        "back. By default it runs where it is faster than a speed that is found from the recording.",
    ),
]
MinSpeed = Annotated[
    float | None,
    typer.Option(
        metavar="V",
        help="Instead of --end-zones: the animal runs where it is faster than V. Units of the behavior per second.",
    ),
]
Period = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Period of a circular behavior, such as 360 for degrees; 0 for an angle that is decoded on a line.",
        show_default="2 pi or 360 for an angle around the whole circle, otherwise none",
    ),
]
Linearize = Annotated[
    bool,
    typer.Option(
        "--linearize",
        help="Decode a position in x and y as the distance along a track without branches, which is found from the "
        "fitted part. For mazes give --waypoints.",
    ),
]
Waypoints = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        help="Decode a position in x and y as the distance along the track with these way points: columns x and y in "
        "the unit of the file, and arm with the name of the arm if there are several.",
    ),
]
Discrete = Annotated[
    bool,
    typer.Option("--discrete", help="Decode every distinct value of the behavior as a label, numbers, too."),
]
Level = Annotated[float | None, typer.Option(help="Nominal level of the intervals.", show_default="0.95")]
Decoder = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Regression from latents to behavior: ensemble, mlp, or linear, which is fitted in about a second.",
        show_default="ensemble",
    ),
]
BinSize = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        help="Width of a bin, in seconds.",
        show_default="0.025; for sampled activity the smallest multiple of its sampling period from 0.025 on",
    ),
]
LatentDim = Annotated[int | None, typer.Option(help="Number of latent dimensions.", show_default="32")]
StateDim = Annotated[
    int | None,
    typer.Option(help="State dimension of the Kalman filter, at least --latent-dim.", show_default="64"),
]
Noise = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="What the variance of the observation noise depends on: constant (nothing), activity (the total activity "
        "in the bin), input (the activity of each unit in the bin), state (the predicted state) or errors (recent "
        "prediction errors).",
        show_default="constant",
    ),
]
BehaviorWeight = Annotated[
    float | None,
    typer.Option(
        metavar="W",
        help="Weight of the behavior in the fit of the latents, so that few latents contain it; 0 fits without it.",
        show_default="0",
    ),
]
Epochs = Annotated[
    int | None, typer.Option(help="Number of training epochs, passes over the fitted part.", show_default="8")
]
FitSeed = Annotated[
    int | None,
    typer.Option(help="Random seed. The same seed on the same machine gives the same model.", show_default="0"),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Fit N times with different seeds, and say how well the latents agree. The run is that of --seed.",
        show_default="one fit",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted fit.")]

FetchSource = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="hc11, or a dandiset, such as DANDI:000044 or DANDI:000044/0.250624.0426.",
        show_default=False,
    ),
]
FetchedFile = Annotated[Path, typer.Option(metavar="FILE.nwb", help="File to write.", show_default=False)]
Session = Annotated[
    str | None, typer.Option(metavar="NAME", help="Session of hc11, such as Achilles-10252013.", show_default=False)
]
AssetPath = Annotated[
    str | None, typer.Option("--path", metavar="PATH", help="Path of the file in the dandiset.", show_default=False)
]
AssetVersion = Annotated[
    str | None,
    typer.Option(
        "--version", metavar="V", help="Version of the dandiset, or draft.", show_default="newest published version"
    ),
]
Api = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="KALMANSSL_DANDI_API",
        help="API of another archive that runs the software of DANDI.",
        show_default="https://api.dandiarchive.org/api",
    ),
]


def given_settings(resume: bool, **settings: Any) -> dict[str, Any]:
    """Return the settings of the model that were given; a new fit has the seed 0 if none was given."""
    given = {name: value for name, value in settings.items() if value is not None}
    return given if resume else {"random_state": 0} | given
