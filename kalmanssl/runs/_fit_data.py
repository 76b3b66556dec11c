"""Data of a fit: the fitted and the held-out part of a recording, with checked settings and facts about both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kalmanssl.data import NWBSummary, Recording
from kalmanssl.errors import InputError
from kalmanssl.runs._behavior import (
    activity_kind,
    behavior_name,
    laps_sentence,
    longest_constant,
    period_of_angle,
    with_behavior_name,
)  # fmt: skip
from kalmanssl.runs._decoding_checks import check_decoding
from kalmanssl.runs._labels import consists_of_labels, seems_to_have_labels
from kalmanssl.runs._linear_track import find_run_track, track_sentence
from kalmanssl.runs._references import fit_references
from kalmanssl.runs._run import read_recording
from kalmanssl.runs._running import running_speed, where_running
from kalmanssl.runs._settings import RunSettings
from kalmanssl.runs._silent_units import silent_unit_notes
from kalmanssl.runs._windows import fitted_windows, interval_notes, part_of
from kalmanssl.utils.measurement_units import short_unit
from kalmanssl.utils.text import duration_text, period_text, time_span

__all__ = ["FitData", "read_fit_data"]


@dataclass(frozen=True)
class FitData:
    """The parts of a recording for a fit.

    Attributes
    ----------
    settings : RunSettings
        With the period of an angle, or of a track that is a loop, if they had none.
    training : Recording
        The fitted part.
    rest : Recording or None
        The held-out part.
    facts : dict
        The facts about the recording in `Run.metadata`.
    """

    settings: RunSettings
    training: Recording
    rest: Recording | None
    facts: dict[str, Any]

    @property
    def behavior(self) -> str | None:
        """Name of the behavior to decode, or None."""
        return self.facts["behavior"] and self.facts["behavior"]["name"]


def read_fit_data(settings: RunSettings, summary: NWBSummary, logger: Callable[[str], None]) -> FitData:
    """Read the recording of a fit, split it, and check the settings.

    Parameters
    ----------
    settings : RunSettings
    summary : NWBSummary
        Contents of the file, which were logged.
    logger : callable
        Called with a line of text for each choice that was made.

    Raises
    ------
    InputError
        If the recording or the settings cannot be used.
    """
    recording = with_behavior_name(read_recording(settings.recording, settings), behavior_name(settings, summary))
    logger(_recording_sentence(recording))
    told = " ".join(found.remark for found in summary.objects)  # in the table of the contents
    for note in recording.notes:
        if note not in told:
            logger(f"note: {note}")
    for note in interval_notes(recording, settings.during):
        logger(f"note: {note}")
    recording = part_of(recording, settings.windows, settings.during)
    training, rest = _split(recording, settings.until)
    if settings.until is not None and rest is None:
        logger(
            f"note: until={settings.until:.10g} is after the end of the recording, so nothing is held out from the fit"
        )
    if settings.min_rate is not None:
        training, rest = _select_by_rate(settings.min_rate, training, rest, logger)
    for note in silent_unit_notes(training, rest):
        logger(f"note: {note}")
    data = _with_track(FitData(settings, training, rest, _facts(recording, training)), logger)
    data = _with_period(data, logger)
    if seems_to_have_labels(data.settings, None if data.behavior is None else training.behavior.get(data.behavior)):
        logger(f"note: {data.behavior} has few distinct values and is decoded as a number; --discrete decodes labels")
    return _with_behavior_facts(data)


def _recording_sentence(recording: Recording) -> str:
    """Say in words what was read from a file, with the unit of the behavior in the file."""
    name = next(iter(recording.behavior), None)
    unit = recording.behavior_unit.get(str(name), "")
    decoded = "no behavior" if name is None else f"behavior {name}{f', in {unit}' if unit else ''}"
    half, pieces = 0.5 * recording.bin_size, len(recording.segments())
    span = time_span(recording.time[0] - half, recording.time[-1] + half)
    return (
        f"read: {recording.n_units} {'units' if recording.kind == 'counts' else 'channels'}, {len(recording)} bins of "
        f"{duration_text(recording.bin_size)}, {span}{f' in {pieces} segments' if pieces > 1 else ''}; {decoded}"
    )


def _with_track(data: FitData, logger: Callable[[str], None]) -> FitData:
    """Replace a position in x and y by the distance along the track, if the settings ask for it."""
    track = find_run_track(data.settings, data.training)
    if track is None:
        return data
    logger(f"note: {track_sentence(track, data.training, short_unit(data.facts['behavior']['unit']))}")
    name = str(data.behavior)
    return dataclasses.replace(
        data,
        settings=dataclasses.replace(data.settings, period=track.length) if track.is_loop else data.settings,
        training=data.training.linearize(name, track),
        rest=None if data.rest is None else data.rest.linearize(name, track),
        facts=data.facts | {"track": track.to_dict()},
    )


def _with_period(data: FitData, logger: Callable[[str], None]) -> FitData:
    """Set the period of an angle around the whole circle, unless the settings have one or deny it by zero."""
    period = period_of_angle(data.settings, data.training, data.behavior)
    if period is not None:
        shown = period_text(period, data.training.behavior_unit.get(str(data.behavior), ""))
        logger(
            f"note: {data.behavior} covers a whole circle, so it is decoded as an angle with the period {shown}; "
            "--period 0 decodes it on a line"
        )
    if (sentence := laps_sentence(data.settings, data.training, data.behavior)) is not None:
        logger(f"note: {sentence}")
    # a period of zero is none
    return dataclasses.replace(data, settings=dataclasses.replace(data.settings, period=data.settings.period or period))


def _with_behavior_facts(data: FitData) -> FitData:
    """Check the settings of the decoder, and add what the scores need to know about the fitted behavior."""
    settings, training, name = data.settings, data.training, data.behavior
    found: dict[str, Any] = {"running_speed": running_speed(settings, training, name)}
    check_decoding(settings, training, name)
    has_numbers = name is not None and not consists_of_labels(settings, training.behavior[name])
    found["constant_share"] = round(longest_constant(training.behavior[str(name)])[0], 4) if has_numbers else None
    if has_numbers:
        runs = where_running(settings, training, name, found["running_speed"])
        found["reference"] = fit_references(training, str(name), settings.period, runs)
    return dataclasses.replace(data, facts=data.facts | found)


def _split(recording: Recording, until: float | None) -> tuple[Recording, Recording | None]:
    """Split a recording into the fitted part and the held-out part, which may be None."""
    if until is None or until > recording.time[-1]:
        return recording, None
    if until <= recording.time[0]:
        raise InputError(
            f"until={until:g} leaves nothing to fit: the recording covers {recording.time[0]:.10g} to "
            f"{recording.time[-1]:.10g} s",
            parameter="until",
        )
    return recording.split(at=until)


def _select_by_rate(
    min_rate: float, training: Recording, rest: Recording | None, logger: Callable[[str], None]
) -> tuple[Recording, Recording | None]:
    """Keep the units with at least so many events per second in the fitted part, in both parts."""
    chosen = training.select_units(min_rate=min_rate)
    if chosen.n_units < training.n_units:
        count = f"{chosen.n_units} of {training.n_units}"
        logger(f"note: units: {count} with at least {min_rate:g} events/s in the fitted part")
    return chosen, None if rest is None else rest.select_units(list(chosen.unit_ids))


def _facts(recording: Recording, training: Recording) -> dict[str, Any]:
    """Return the facts about the recording that the metadata of a run contain."""
    name = next(iter(recording.behavior), None)
    half = 0.5 * recording.bin_size
    activity = activity_kind(recording)
    return {
        "recording": {
            "source": recording.source,
            "units": training.n_units,
            "bin_size_s": recording.bin_size,
            "activity": activity,
            "spikes": int(recording.select_units(training.unit_ids).activity.sum()) if activity == "spikes" else None,
            "start_s": float(recording.time[0] - half),
            "stop_s": float(recording.time[-1] + half),
            "fitted_until_s": float(training.time[-1] + half),
            "fitted_s": training.duration,
            "fitted_windows": fitted_windows(training),
            "notes": list(recording.notes),
        },
        "behavior": None if name is None else {"name": name, "unit": recording.behavior_unit.get(name, "")},
    }
