"""A run: a fitted model, its decoder, its settings and its scores, saved in one folder.

RUN/metadata.json  settings, facts about the recording, and scores
RUN/model/         the model (`KalmanSSL.save`)
RUN/decoder/       the decoder; absent if no behavior was decoded
RUN/evaluation/    scores and arrays for the figures of the report
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kalmanssl.data import NWBSummary, Recording, summarize_nwb
from kalmanssl.errors import InputError, RecordingWarning
from kalmanssl.runs._behavior import with_behavior_name
from kalmanssl.runs._linear_track import track_of_run
from kalmanssl.runs._scores import main_scores
from kalmanssl.runs._settings import RunSettings, parse_bands, parse_units
from kalmanssl.runs._stored_run import check_parts_agree, check_run_metadata, check_stored_evaluation
from kalmanssl.utils.measurement_units import short_unit
from kalmanssl.utils.paths import as_path
from kalmanssl.utils.storage import METADATA, check_format, is_folder, read_json, replace_text
from kalmanssl.utils.summaries import Summary
from kalmanssl.utils.text import time_span
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    import numpy as np

    from kalmanssl.decoding import PositionDecoder
    from kalmanssl.estimator import KalmanSSL
    from kalmanssl.runs._evaluation import Evaluation

__all__ = ["Run", "open_run", "read_for_run", "read_recording", "read_to_decode", "summarize_recording"]


def read_recording(path: str | os.PathLike[str], settings: RunSettings, behavior: bool = True) -> Recording:
    """Read a recording with the activity, units, bands, behavior, epoch and bin size of the settings.

    Parameters
    ----------
    path : path
        NWB file. `settings.recording` is not used, so that a run can be applied to other recordings.
    settings : RunSettings
    behavior : bool
        False reads the activity only.

    Returns
    -------
    Recording

    Raises
    ------
    InputError
        See `Recording.from_nwb`.
    """
    options: dict[str, Any] = {
        "activity": settings.activity,
        "units": parse_units(settings.units),
        "behavior": settings.behavior if behavior and settings.behavior != "none" else False,
        "epoch": settings.epoch,
        "bands": parse_bands(settings.bands),
    }
    if settings.bin_size is not None:
        options["bin_size"] = settings.bin_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)  # `Recording.notes` has the same text
        return Recording.from_nwb(path, **options)


def read_for_run(path: str | os.PathLike[str], run: Run, behavior: bool = True) -> Recording:
    """Read a recording as that of the run.

    If the units were chosen by their rate, they are those that were fitted. A position on a track is the distance along
    the track of the run.

    Raises
    ------
    InputError
        See `read_recording`; also if the recording lacks a unit, or its position is not in x and y.
    """
    recording = read_recording(path, run.settings, behavior)
    if run.behavior is not None:
        recording = with_behavior_name(recording, run.behavior)
    if run.settings.min_rate is not None:
        recording = recording.select_units(list(run.model.unit_ids_))
    track = track_of_run(run.metadata)
    if track is None or not behavior:
        return recording
    return recording.linearize(str(run.behavior), track)


def read_to_decode(path: str | os.PathLike[str], run: Run, note: Callable[[str], None]) -> Recording:
    """Read a recording as that of the run, without its behavior if that cannot be read; `note` is then told why.

    Raises
    ------
    InputError
        See `read_for_run`.
    """
    try:
        return read_for_run(path, run)
    except InputError as error:
        recording = read_for_run(path, run, behavior=False)
        note(f"the recording is read without behavior: {error}")
        return recording


def summarize_recording(path: str | os.PathLike[str], settings: RunSettings) -> NWBSummary:
    """Summarize an NWB file with the activity, units and behavior of the settings; see `summarize_nwb`."""
    return summarize_nwb(path, settings.activity, settings.behavior, parse_units(settings.units))


@dataclass(repr=False)
class Run(Summary):
    """A fitted model with its decoder, settings and evaluation.

    Attributes
    ----------
    settings : RunSettings
    model : KalmanSSL
    decoder : PositionDecoder or None
        None if no behavior was decoded.
    metadata : dict
        `recording` (source, number of units, times), `behavior` (name and unit, or None), `running_speed` (the speed
        that separates running from rest, or None), `constant_share` (largest share of the tracked time with one value
        of the behavior without a break, or None), `seconds` (the duration of the fit), and where they apply
        `reference` (references for the scores), `track` (the track along which the position is the distance) and
        `seeds` (agreement of fits with other seeds). Loading adds the other entries of `metadata.json`.
    evaluation : Evaluation or None
        Evaluation on the held-out part, or on the fitted part if nothing was held out.
    """

    settings: RunSettings
    model: KalmanSSL
    decoder: PositionDecoder | None
    metadata: dict[str, Any]
    evaluation: Evaluation | None = None

    def _summary(self) -> list[tuple[str, str]]:
        facts, model = self.metadata["recording"], self.model
        rows = [
            ("recording", facts["source"]),
            ("fitted", f"{time_span(facts['start_s'], facts['fitted_until_s'])}, {facts['units']} units"),
            ("model", f"{model.latent_dim} latent and {model.state_dim} state dimensions"),
            ("behavior", self.behavior or "none"),
        ]
        return rows + ([] if self.evaluation is None else main_scores(self.evaluation, self.behavior_unit))

    @property
    def behavior(self) -> str | None:
        """Name of the decoded behavior, or None."""
        known = self.metadata["behavior"]
        return None if known is None else known["name"]

    @property
    def labels(self) -> np.ndarray | None:
        """The labels that are decoded, (labels,); None for other behavior or without a decoder."""
        return None if self.decoder is None else self.decoder.labels_

    @property
    def behavior_unit(self) -> str:
        """Abbreviated unit of the behavior; empty if unknown."""
        known = self.metadata["behavior"]
        return "" if known is None else short_unit(known["unit"])

    def require_decoder(self) -> PositionDecoder:
        """Return the decoder. Raise `InputError` if the run has none."""
        if self.decoder is None:
            raise InputError(
                "the run has no decoder because it was fitted without behavior: fit it on a recording with behavior"
            )
        return self.decoder

    def latent_decoder(self, smoothed: bool) -> Any:
        """Return the decoder of smoothed or of filtered latents; the only one if it was fitted on one kind.

        Raises
        ------
        InputError
            If the run has no decoder.
        """
        decoders = self.require_decoder().decoders_
        return decoders.get("smoothed" if smoothed else "filtered", next(iter(decoders.values())))

    def decode(self, recording: Recording | str | os.PathLike[str], smooth: bool = False) -> Any:
        """Decode the behavior from a recording of the fitted units; it needs no behavior itself.

        Parameters
        ----------
        recording : Recording or path of an NWB file
        smooth : bool
            Use later bins, too.

        Returns
        -------
        DecodedPosition or DecodedCategory

        Raises
        ------
        InputError
            If the run has no decoder, or the recording cannot be read or has other units.
        """
        decoder = self.require_decoder()
        if not isinstance(recording, Recording):
            recording = read_to_decode(
                recording, self, lambda text: warnings.warn(text, RecordingWarning, stacklevel=4)
            )
        return decoder.predict(self.model.transform(recording, smooth=smooth))

    def write_report(self, out: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the report of figures and scores, one HTML file that loads no other.

        It shows `evaluation`; without one, only the dynamics, the training and the settings.

        Parameters
        ----------
        out : path
        overwrite : bool
            Replace an existing file.

        Raises
        ------
        InputError
            If the file exists and `overwrite` is false, or if it cannot be written.
        """
        from kalmanssl.runs.report import build_report

        replace_text(out, build_report(self), overwrite)

    def save(self, folder: Path) -> None:
        """Save the run into an empty folder."""
        self.model.save(folder / "model")
        if self.decoder is not None:
            self.decoder.save(folder / "decoder")
        if self.evaluation is not None:
            self.evaluation.save(folder / "evaluation")
        metadata = {
            "kind": "run",
            "format": 2,
            "kalmanssl": version("kalmanssl"),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": dataclasses.asdict(self.settings),
            **self.metadata,
            "scores": None if self.evaluation is None else self.evaluation.scores,
        }
        (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Run:
        """Load a run from its folder.

        Raises
        ------
        InputError
            If the folder or a file in it is missing or damaged. The message names the file.
        """
        from kalmanssl.decoding import PositionDecoder
        from kalmanssl.estimator import KalmanSSL
        from kalmanssl.runs._evaluation import Evaluation

        folder = as_path("path", path)
        if not is_folder(folder):
            raise InputError(f"no run at {folder}: make one with kalmanssl fit REC.nwb --out {folder}")
        metadata = read_json(folder / METADATA, "run")
        if metadata.get("kind") != "run":
            kind = short_repr(metadata.get("kind"))
            raise InputError(f"{folder} contains a {kind}, not a run: give a folder written by fit")
        check_format(metadata, 2, folder, "run")
        check_run_metadata(metadata, folder / METADATA)
        decoder = None
        if metadata["behavior"] is not None:
            decoder = PositionDecoder.load(folder / "decoder")
        run = cls(
            settings=RunSettings.from_json(metadata["settings"], folder / METADATA),
            model=KalmanSSL.load(folder / "model"),
            decoder=decoder,
            metadata=metadata,
        )
        check_parts_agree(run.model, decoder, folder)
        run.evaluation = Evaluation.load(folder / "evaluation")
        check_stored_evaluation(run.evaluation, run, folder / "evaluation")
        return run


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open the run that `fit_run` or the command ``kalmanssl fit`` saved in a folder.

    Raises
    ------
    InputError
        If the folder or a file in it is missing or damaged. The message names the file.
    """
    return Run.load(path)
