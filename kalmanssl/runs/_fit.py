"""From a recording to a finished run folder, so that nothing is lost on the way.

Training keeps its checkpoints in `RUN.partial` beside the run that is to be; the run takes its place in one rename,
when everything in it is complete.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.errors import CollapseError, DivergenceError, InputError
from kalmanssl.runs._run import Run, RunSettings, is_run, read_json, read_recording
from kalmanssl.utils.storage import replace_file, replace_folder
from kalmanssl.utils.validation import check_choice, check_condition, check_positive

__all__ = ["fit_run", "partial_folder"]

DECODERS = ("mlp", "linear")
_SETTINGS = "settings.json"


def fit_run(
    settings: RunSettings,
    out: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    logger: Callable[[str], None] = lambda line: None,
) -> Run:
    """Fit a model and a decoder, score them on what was left out, and put the run at `out`.

    Parameters
    ----------
    settings : RunSettings
    out : Path
    overwrite : bool
        Replace the run at `out`, when the new one is complete; and forget an interrupted fit of it.
    resume : bool
        Go on with an interrupted fit.
    logger : callable
        Called with one line of text at each step.

    Raises
    ------
    InputError
        If the settings, the recording or `out` cannot be used.
    CollapseError, DivergenceError
        If training failed.
    KeyboardInterrupt
        With a text that says how to go on.
    """
    from kalmanssl.runs._evaluation import Evaluation

    _check_target(out, overwrite)
    work = partial_folder(out)
    settings = _begin(work, settings, out, overwrite, resume)
    try:
        recording = read_recording(settings.recording, settings)
        logger(repr(recording))
        for note in recording.notes:
            logger(f"note: {note}")
        training, rest = _split(recording, settings.until)
        facts = _facts(recording, training)
        check_decoding(settings, training, None if facts["behavior"] is None else facts["behavior"]["name"])
        began = time.perf_counter()
        model = _fit_model(settings, training, work, resume)
        fitted_in = time.perf_counter() - began
        began = time.perf_counter()
        run = Run(settings, model, None, facts)
        if run.behavior is not None:
            logger(f"fitting the decoder of {run.behavior}")
            run.decoder = fit_decoder(run, training)
        run.metadata["seconds"] = {"model": round(fitted_in, 1), "decoder": round(time.perf_counter() - began, 1)}
        run.evaluation = Evaluation.of(run, training if rest is None else rest, fitted=rest is None)
        replace_folder(out, run.save, overwrite)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_to_resume(work, settings, out)) from None
    except (CollapseError, DivergenceError) as error:
        again = f"checkpoints are in {work}; fit again with other settings and --overwrite"
        raise type(error)(f"{error}; {again}") from error
    finally:
        if not _has_checkpoint(work):
            shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    return run


def partial_folder(out: Path) -> Path:
    """Where an unfinished fit of the run `out` keeps its checkpoints."""
    return out.with_name(out.name + ".partial")


def fit_decoder(run: Run, training: Recording) -> Any:
    """Fit and calibrate the decoder of a run on the running bins of its training part, or on all if it has none."""
    from kalmanssl.decoding import PositionDecoder, cross_fit
    from kalmanssl.runs._evaluation import running

    asked = {"level": run.settings.level, "regressor": run.settings.decoder, "period": run.settings.period}
    chosen: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    decoder = PositionDecoder(random_state=run.settings.model.get("random_state"), **chosen)
    where = running(run.settings, training, run.behavior)
    return decoder.fit(
        run.model.transform(training),
        training.behavior[str(run.behavior)],
        where=where,
        smoothed=run.model.transform(training, smooth=True),
        held_out_fits=cross_fit(run.model, training),
    )


def check_decoding(settings: RunSettings, training: Recording, behavior: str | None) -> None:
    """Refuse before the long fit what the decoder would refuse after it.

    Raises
    ------
    InputError
        If a setting of the decoder is out of its range, or there is no bin to learn from.
    """
    from kalmanssl.runs._evaluation import running

    if settings.level is not None:
        check_condition("level", settings.level, 0 < settings.level < 1, "between 0 and 1, such as 0.95")
    if settings.decoder is not None:
        check_choice("decoder", settings.decoder, DECODERS)
    if settings.period is not None:
        check_positive("period", settings.period)
    if settings.end_zones is not None and not settings.end_zones[0] < settings.end_zones[1]:
        low, high = settings.end_zones
        raise InputError(f"end_zones overlap: {low:g} must be below {high:g}", parameter="end_zones")
    if behavior is None:
        return
    position = training.behavior[behavior]
    if not np.isfinite(position).any():
        raise InputError(
            f"{behavior} is unknown in the whole part that is fitted: fit a longer part, or give 'none'",
            parameter="behavior",
        )
    where = running(settings, training, behavior)
    if where is not None and not where.any():
        name = "end_zones" if settings.end_zones else "min_speed"
        raise InputError(
            f"{name}={getattr(settings, name)}: the animal never runs in the fitted part; {behavior} ranges from "
            f"{np.nanmin(position):.4g} to {np.nanmax(position):.4g}",
            parameter=name,
        )


def _fit_model(settings: RunSettings, training: Recording, work: Path, resume: bool) -> Any:
    from kalmanssl.estimator import KalmanSSL

    model = KalmanSSL(**settings.model, checkpoint_dir=work)
    # Interrupted before the first checkpoint, there is nothing to go on from; the same seed gives the same start.
    return model.fit(training, resume=resume and _has_checkpoint(work))


def _split(recording: Recording, until: float | None) -> tuple[Recording, Recording | None]:
    if until is None or until > recording.time[-1]:
        return recording, None
    if until <= recording.time[0]:
        raise InputError(
            f"until={until:g} leaves nothing to fit: the recording covers {recording.time[0]:.10g} to "
            f"{recording.time[-1]:.10g} s",
            parameter="until",
        )
    return recording.split(at=until)


def _facts(recording: Recording, training: Recording) -> dict[str, Any]:
    name = next(iter(recording.behavior), None)
    half = 0.5 * recording.bin_size
    return {
        "recording": {
            "source": recording.source,
            "units": recording.n_units,
            "bin_size_s": recording.bin_size,
            "spikes": int(recording.activity.sum()) if recording.kind == "counts" else None,
            "start_s": float(recording.time[0] - half),
            "stop_s": float(recording.time[-1] + half),
            "fitted_until_s": float(training.time[-1] + half),
            "fitted_s": training.duration,
            "notes": list(recording.notes),
        },
        "behavior": None if name is None else {"name": name, "unit": recording.behavior_unit.get(name, "")},
    }


def _check_target(out: Path, overwrite: bool) -> None:
    """Refuse before the long fit what could not be written after it."""
    if not out.exists():
        return
    if not is_run(out):
        raise InputError(f"{out} exists and is no run folder, so it is never replaced: choose another --out")
    if not overwrite:
        raise InputError(f"{out} exists: choose another --out, or replace it with --overwrite")


def _begin(work: Path, settings: RunSettings, out: Path, overwrite: bool, resume: bool) -> RunSettings:
    """Make the work folder, or open it again; the settings to fit with."""
    if resume:
        if not (work / _SETTINGS).is_file():
            raise InputError(f"nothing to resume: {work / _SETTINGS} is missing; fit without --resume")
        begun = read_json(work / _SETTINGS)
        stored = RunSettings.from_json(begun)
        _check_same(settings, stored, begun.get("recording_bytes"))
        return dataclasses.replace(stored, recording=settings.recording)
    if work.exists():
        if not overwrite:
            raise InputError(f"{work} holds an interrupted fit: go on with --resume, or begin anew with --overwrite")
        shutil.rmtree(work)
    file = Path(settings.recording)
    facts = dataclasses.asdict(settings) | {"recording_bytes": file.stat().st_size if file.is_file() else None}
    text = json.dumps(facts, indent=2) + "\n"

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    replace_file(work / _SETTINGS, write)
    return settings


def _check_same(asked: RunSettings, stored: RunSettings, size: int | None) -> None:
    """Settings that are given again must be those that began the fit."""
    begun = stored.given()
    for name, value in asked.given().items():
        if name != "recording" and value != begun.get(name):
            was = f"with {begun[name]}" if name in begun else "without it"
            raise InputError(
                f"{name}={value} differs from the fit to resume, which began {was}: leave it out", parameter=name
            )
    file = Path(asked.recording)
    if size is not None and file.is_file() and file.stat().st_size != size:
        raise InputError(f"{file} is not the recording of the fit to resume, {stored.recording}: it has another size")


def _has_checkpoint(work: Path) -> bool:
    return (work / "last.safetensors").is_file()


def _how_to_resume(work: Path, settings: RunSettings, out: Path) -> str:
    if not _has_checkpoint(work):
        return "interrupted before the first epoch was done: nothing is kept, fit again"
    more = " --overwrite" if out.exists() else ""
    return (
        f"interrupted; the last checkpoint is kept in {work}: go on with "
        f"kalmanssl fit {settings.recording} --out {out} --resume{more}"
    )
