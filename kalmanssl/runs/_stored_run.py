"""Checks of the metadata and the evaluation in a run folder before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Track
from kalmanssl.errors import InputError, first_line
from kalmanssl.runs._labels import are_label_scores
from kalmanssl.runs._references import is_reference
from kalmanssl.runs._seeds import is_agreement
from kalmanssl.runs._settings import are_windows
from kalmanssl.utils.storage import METADATA, WEIGHTS, repair_advice
from kalmanssl.utils.stored_values import StoredValues, is_number

if TYPE_CHECKING:
    from kalmanssl.decoding import PositionDecoder
    from kalmanssl.estimator import KalmanSSL
    from kalmanssl.runs._evaluation import Evaluation
    from kalmanssl.runs._run import Run

__all__ = ["check_parts_agree", "check_run_metadata", "check_stored_evaluation"]

_ABSENT = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)


def check_run_metadata(metadata: dict[str, Any], path: Path) -> None:
    """Check the facts about the recording and the behavior in the metadata of a run.

    Raises
    ------
    InputError
        If an entry is missing or has another type.
    """
    stored = StoredValues(metadata, path, "run")
    stored.group("settings")
    recording = stored.group("recording")
    recording.text("source")
    recording.integer("units", 1)
    recording.number_in("bin_size_s", 1e-300, 1e300, "positive")
    for name in ("start_s", "stop_s", "fitted_until_s", "fitted_s"):
        recording.number_in(name, -1e300, 1e300, "a finite number")
    recording.texts("notes")
    if "fitted_windows" in recording:  # absent from runs of earlier versions
        recording.get("fitted_windows", are_windows, "a list of pairs of increasing numbers")
    if "activity" in recording:
        recording.get("activity", lambda value: value in ("spikes", "events", "signal"), "spikes, events or signal")
    recording.get("spikes", lambda value: value is None or (is_number(value) and value >= 0), "a number or null")
    if stored.get("behavior", lambda value: value is None or isinstance(value, dict), "an object or null") is not None:
        behavior = stored.group("behavior")
        behavior.text("name")
        behavior.text("unit")
    if metadata.get("running_speed") is not None:
        stored.number_in("running_speed", 0.0, 1e300, "a finite number, at least 0")
    if metadata.get("constant_share") is not None:
        stored.number_in("constant_share", 0.0, 1.0, "a number from 0 to 1")
    if metadata.get("track") is not None:
        stored.get("track", _is_track, "arms with way points")
    if metadata.get("reference") is not None:
        stored.get("reference", is_reference, "occupancies and a ridge regression")
    if metadata.get("seeds") is not None:
        stored.get("seeds", is_agreement, "the agreement of several fits")
    if "seconds" in stored:
        seconds = stored.group("seconds")
        for name in seconds.values:
            seconds.number(name)
    for name in ("kalmanssl", "made"):
        if name in stored:
            stored.text(name)


def _is_track(value: Any) -> bool:
    try:
        Track(dict(value["arms"]), value["gap"])
    except (InputError, KeyError, TypeError, ValueError):
        return False
    return True


def check_parts_agree(model: KalmanSSL, decoder: PositionDecoder | None, folder: Path) -> None:
    """Raise `InputError` if the decoder is for latents of another size than those of the model."""
    if decoder is not None and decoder.n_features_in_ != model.state_dim:
        raise InputError(
            f"{folder} is damaged (its decoder is for {decoder.n_features_in_} features, and its model has states of "
            f"{model.state_dim}): {repair_advice('run')}"
        )


def check_stored_evaluation(evaluation: Evaluation, run: Run, folder: Path) -> None:
    """Check an evaluation that was loaded: everything that the report and the tables of scores use.

    Raises
    ------
    InputError
        If an entry is missing or has another type or size.
    """
    part = StoredValues(evaluation.part, folder / METADATA, "run", "part")
    part.text("source")
    for name in ("start_s", "stop_s"):
        part.number_in(name, -1e300, 1e300, "a finite number")
    for name in ("smoothed", "fitted"):
        part.flag(name)
    if "other_label_bins" in part:
        part.integer("other_label_bins")
    _check_arrays(evaluation, run, folder)
    try:
        _use_scores(evaluation, run)
    except _ABSENT as error:
        reason = f"{type(error).__name__}: {first_line(error)[:200]}"
        raise InputError(f"{folder / METADATA} is damaged ({reason}): {repair_advice('run')}") from error


def _check_arrays(evaluation: Evaluation, run: Run, folder: Path) -> None:
    """Check the shapes of the arrays for figures."""
    arrays = evaluation.arrays
    stored = StoredValues(arrays, folder / WEIGHTS, "run")
    n_bins = len(stored.array("time", (None,)))
    if n_bins == 0 or not (np.diff(arrays["time"]) > 0).all():
        raise stored.error("time", "increasing", arrays["time"])
    stored.array("counts", (n_bins, None))
    stored.array("noise", (n_bins, run.model.latent_dim), minimum=0.0)
    labels = run.labels
    dims = 1 if run.decoder is None else len(run.decoder.periods_)
    shapes: dict[str, tuple[int | None, ...]] = {"log_likelihood": (n_bins,), "runs": (n_bins,)}
    if run.decoder is not None:
        shapes["truth"] = (n_bins, dims)
    if labels is not None:
        stored.array("probability", (n_bins, len(labels)))
    elif run.decoder is not None:
        for name in ("mean", "lower", "upper"):
            stored.array(name, (n_bins, dims))
        shapes |= {"decoded": (None, dims), "tracked": (None, dims), **_profile_shapes(arrays, dims)}
    count = len(stored.array("latents", (None, None)))
    shapes["color"] = (count,)
    for name, shape in shapes.items():
        if name in ("log_likelihood", "color") or name in stored:
            _check_shape(stored, name, shape)
    if ("decoded" in stored) != ("tracked" in stored) or len(arrays.get("decoded", ())) != len(
        arrays.get("tracked", ())
    ):
        raise stored.error("decoded", "as long as tracked", arrays.get("decoded", np.zeros(0)).shape)


def _profile_shapes(arrays: dict[str, np.ndarray], dims: int) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the arrays about errors by time and place, the worst segments and regions."""

    def size(name: str, axis: int = 0) -> int:
        shape = np.shape(arrays.get(name, ()))
        return shape[axis] if len(shape) > axis else 0

    worst = (size("worst_time"), size("worst_time", 1))
    cells = size("map_error")
    return {
        "block_time": (None,),
        "block_error": (size("block_time"), 2),
        "place": (None,),
        "place_error": (size("place"), 3),
        "map_error": (cells, cells),
        "map_edges": (2, cells + 1),
        "worst_time": worst,
        "worst_error": worst[:1],
        **{f"worst_{name}": (*worst, dims) for name in ("mean", "lower", "upper", "truth")},
        "moments": (None,),
        "region_x": (None,),
        "region_y": (None,),
        "regions": (size("moments"), size("region_x"), size("region_y")),
    }


def _check_shape(stored: StoredValues, name: str, shape: tuple[int | None, ...]) -> None:
    """Check an array of numbers or bools that may have NaN."""
    array = stored.get(name, lambda value: isinstance(value, np.ndarray), "an array")
    fits = array.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in "biuf" or not fits:
        raise stored.error(name, f"an array of shape {shape}", f"{array.dtype} {array.shape}")


def _use_scores(evaluation: Evaluation, run: Run) -> None:
    """Make the tables of scores and assumptions, which fails if an entry is missing or has another type."""
    from kalmanssl.runs._trust_scores import trust_rows, trust_sentence
    from kalmanssl.runs.report import (
        assumption_values,
        assumptions_line,
        calibration_rows,
        conditional_rows,
        label_rows,
        reference_rows,
        score_rows,
        tiles,
    )

    scores = evaluation.scores
    found = [scores[name] for name in ("running", "rest", "all") if scores.get(name) is not None]
    if found and run.decoder is None:
        raise TypeError("scores without a decoder")
    for part in found:
        if are_label_scores(part) != (run.labels is not None):
            raise TypeError("scores of another kind of behavior")
        if are_label_scores(part):
            label_rows(part, "all bins")
            names, confusion = part["labels"], np.array(part["confusion"], dtype=float)
            if confusion.shape != (len(names), len(names)):
                raise TypeError(f"confusion of {len(names)} labels has the shape {confusion.shape}")
        else:
            calibration_rows({"all bins": part["calibration"]})
            reference_rows(part, "", 1.0)
            lengths = {
                len(np.array(part["calibration"][name], dtype=float)) for name in ("nominal", "empirical", "error")
            }
            if len(lengths) > 1:
                raise ValueError("calibration has lists of different lengths")
        conditional_rows(part.get("conditional"), run)
        trust_rows(part.get("trust"))
        trust_sentence(part.get("trust"))
    score_rows(scores, run.behavior_unit)
    tiles(run, evaluation)
    assumption_values(evaluation.assumptions)
    assumptions_line(evaluation.assumptions)
