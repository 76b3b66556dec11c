"""Fit a run: from a recording to a complete run folder.

Training saves its checkpoints in `RUN.partial`, next to the future run folder. The run folder is created with one
rename when all of its files are complete.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kalmanssl.data import Recording, no_observations
from kalmanssl.errors import CalibrationWarning, CollapseError, DivergenceError, InputError, PeriodWarning
from kalmanssl.kalman.kernels import watch_compilation
from kalmanssl.runs._files import check_new_output, is_run
from kalmanssl.runs._fit_data import FitData, read_fit_data
from kalmanssl.runs._run import Run, summarize_recording
from kalmanssl.runs._seeds import seed_agreement, seeds_sentence
from kalmanssl.runs._settings import RunSettings
from kalmanssl.runs._work_folder import how_to_resume, partial_folder, work_folder
from kalmanssl.utils.paths import as_path
from kalmanssl.utils.progress import COMPILING
from kalmanssl.utils.storage import replace_folder

if TYPE_CHECKING:
    from kalmanssl.runs._evaluation import Evaluation
    from kalmanssl.training import Phase

__all__ = ["fit_phases", "fit_run"]


def fit_run(
    recording: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    resume: bool = False,
    logger: Callable[[str], None] = print,
    **settings: Any,
) -> Run:
    """Fit latents and a decoder to a recording file, evaluate them on the held-out part, and save the run.

    This is ``kalmanssl fit RECORDING --out OUT`` in Python.

    Parameters
    ----------
    recording : path
        NWB file.
    out : path
        Run folder.
    overwrite : bool
        Replace the run at `out` when the new one is complete, and discard an interrupted fit of it.
    resume : bool
        Continue an interrupted fit, with its settings.
    logger : callable
        Called with text at each step: first the contents of the recording as a table, then single lines.
    **settings
        Attributes of `kalmanssl.runs.RunSettings`, such as ``until=1800.0``, ``behavior="position"`` or
        ``end_zones=(0.1, 1.5)``, and parameters of `KalmanSSL`, such as ``latent_dim=16`` or ``random_state=0``.

    Returns
    -------
    Run
        `Run.model`, `Run.decoder`, `Run.evaluation`; `Run.decode` and `Run.write_report`.

    Raises
    ------
    InputError
        If the settings, the recording or `out` cannot be used.
    CollapseError, DivergenceError
        If training failed.
    KeyboardInterrupt
        If the fit was interrupted. The message has the command that continues it.
    """
    chosen, out = RunSettings.of(as_path("recording", recording), **settings), as_path("out", out)
    _check_target(out, overwrite)
    work = partial_folder(out)
    with work_folder(work, chosen, overwrite, resume) as chosen:
        try:
            run = _fit_and_evaluate(chosen, work, resume, logger)
            replace_folder(out, run.save, overwrite)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(how_to_resume(work, chosen, out)) from None
        except (CollapseError, DivergenceError) as error:
            advice = f"checkpoints are in {work}; change the settings, set overwrite and fit again"
            raise type(error)(f"{error}; {advice}") from error
        shutil.rmtree(work, ignore_errors=True)
    return run


def _fit_and_evaluate(settings: RunSettings, work: Path, resume: bool, logger: Callable[[str], None]) -> Run:
    """Read the recording, fit the model and the decoder on the part before `until`, and evaluate on the rest."""
    from kalmanssl.runs._evaluation import Evaluation
    from kalmanssl.training import Phases

    summary = summarize_recording(settings.recording, settings)
    logger(str(summary))
    taken = () if settings.behavior == "none" else (*summary.taken("behavior"), *summary.taken("labels"))
    dims = max((found.columns or 1 for found in taken), default=0)
    with Phases(fit_phases(settings, dims), logger) as phases:
        phases.begin("reading")
        data = read_fit_data(settings, summary, logger)
        settings, training = data.settings, data.training
        began = time.perf_counter()
        model = _fit_model(settings, training, data.behavior, work, resume)
        model_seconds = time.perf_counter() - began
        if model.window_ <= model.window - model.bins_per_step_:  # shorter than whole steps make it
            logger(f"trained on windows of {model.window_} bins, not {model.window}, since the segments are short")
        if settings.seeds is not None:
            data.facts["seeds"] = _compare_seeds(model, data)
            logger(seeds_sentence(data.facts["seeds"]))
        began = time.perf_counter()
        run = Run(settings, model, None, data.facts)
        caught: list[Warning] = []
        if run.behavior is not None:
            with watch_compilation(_log_first(logger)), _collected_warnings(caught):
                run.decoder = fit_decoder(run, training, lambda: phases.begin("decoder and calibration"))
        run.metadata["seconds"] = {"model": round(model_seconds, 1), "decoder": round(time.perf_counter() - began, 1)}
        phases.begin("evaluation")
        run.evaluation = Evaluation.of(run, training if data.rest is None else data.rest, fitted=data.rest is None)
        _log_warnings(caught, run.evaluation, logger)
    return run


def fit_phases(settings: RunSettings, dims: int) -> list[Phase]:
    """Return the phases of a fit that decodes a behavior of so many dimensions, or none (0).

    Their shares of the time are rounded means of CPU times on a rat's position, a mouse's head direction and a monkey's
    reaches. There a fit of the model takes 5 to 8 s and a decoder 11 to 29 s, or 8 to 12 s with a linear readout.
    """
    from kalmanssl.training import Phase

    factor = 1.0 if dims <= 1 or settings.linearize or settings.waypoints else 2.0  # grids of two dimensions
    decoder = {"linear": 15.0, "mlp": 20.0 * factor}.get(settings.decoder or "", 23.0 * factor)
    decoding = [
        Phase("held-out fit (first 60 % of the time)", 6.0, is_training=True),
        Phase("held-out fit (first 80 % of the time)", 8.0, is_training=True),
        Phase("decoder and calibration", decoder),
    ]
    first = [Phase("reading", 2.0), Phase("encoder and dynamics", 10.0, is_training=True)]
    first += [Phase(f"fit {number} of {settings.seeds}", 10.0, True) for number in range(2, (settings.seeds or 1) + 1)]
    return [*first, *(decoding if dims else []), Phase("evaluation", 2.0 * factor)]


@contextmanager
def _collected_warnings(collected: list[Warning]) -> Iterator[None]:
    """Append the warnings in the block, except those for developers, instead of showing them, each text once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for message in (warning.message for warning in caught):
        assert isinstance(message, Warning)  # of a warning that was given
        is_for_developers = isinstance(message, DeprecationWarning | FutureWarning)
        if not is_for_developers and str(message) not in map(str, collected):
            collected.append(message)


def _log_warnings(collected: list[Warning], evaluation: Evaluation, logger: Callable[[str], None]) -> None:
    """Log warnings of the decoder, except what was said before or what an alarm of the evaluation says."""
    told: list[type[Warning]] = [PeriodWarning]  # before the fit, or the settings have a period of zero
    if any(alarm.name == "few_calibration_errors" for alarm in evaluation.alarms):
        told.append(CalibrationWarning)
    for warning in collected:
        if not isinstance(warning, tuple(told)):
            logger(f"note: {warning}")


def _log_first(logger: Callable[[str], None]) -> Callable[[bool], None]:
    """Return what logs the first compilation of many."""
    logged: list[bool] = []

    def watch(begins: bool) -> None:
        if begins and not logged:
            logged.append(True)
            logger(COMPILING)

    return watch


def fit_decoder(run: Run, training: Recording, on_decoder: Callable[[], None] = lambda: None) -> Any:
    """Fit and calibrate a decoder of filtered and of smoothed latents on the training part.

    `on_decoder` is called between the fits of copies of the model and that of the decoder.
    """
    from kalmanssl.decoding import PositionDecoder, cross_fit

    s = run.settings
    given = {"level": s.level, "regressor": s.decoder, "period": s.period, "discrete": s.discrete}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    decoder = PositionDecoder(random_state=run.settings.model.get("random_state"), **chosen)
    held_out_fits = cross_fit(run.model, training, y=run.behavior)
    on_decoder()
    # The arrays that no decoder uses are large for long recordings.
    latents, smoothed = (
        dataclasses.replace(run.model.transform(training, smooth), **no_observations(len(training)))
        for smooth in (False, True)
    )
    position = training.behavior[str(run.behavior)]
    return decoder.fit(latents, position, smoothed=smoothed, held_out_fits=held_out_fits)


def _compare_seeds(model: Any, data: FitData) -> dict[str, Any]:
    """Fit the models of the other seeds, and compare their latents with those of the model."""
    settings = data.settings

    def fit(seed: int) -> Any:
        other = dataclasses.replace(settings, model=settings.model | {"random_state": seed})
        return _fit_model(other, data.training, data.behavior, None, False)

    first = settings.model.get("random_state") or 0
    return seed_agreement(model, int(settings.seeds or 2), first, fit, data.training, data.rest)


def _fit_model(
    settings: RunSettings, training: Recording, behavior: str | None, work: Path | None, resume: bool
) -> Any:
    """Fit the model, continuing from the last checkpoint in `work` if `resume` is true."""
    from kalmanssl.estimator import KalmanSSL
    from kalmanssl.training import has_checkpoint

    chosen = dict(settings.model)
    if chosen.get("behavior_weight"):
        if behavior is None:
            raise InputError("behavior_weight needs a behavior to decode: leave it out", parameter="behavior_weight")
        if settings.discrete and training.behavior[behavior].dtype != object:
            message = "behavior_weight cannot be used with numbers that are labels (discrete): convert them to text"
            raise InputError(message, parameter="behavior_weight")
        chosen.setdefault("behavior_period", settings.period)
    model = KalmanSSL(**chosen, checkpoint_dir=work)
    # Without a checkpoint there is nothing to resume: start again, from the same seed.
    return model.fit(training, behavior, resume=resume and work is not None and has_checkpoint(work))


def _check_target(out: Path, overwrite: bool) -> None:
    """Check, before the fit, that the run can be saved at `out`."""
    if os.path.lexists(out) and not is_run(out):  # also a link to nothing
        raise InputError(
            f"{out} exists and is not a run folder, so it is never replaced: choose another folder", parameter="out"
        )
    check_new_output(out, overwrite)
