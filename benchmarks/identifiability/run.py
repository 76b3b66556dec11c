"""Fit one setting of an experiment with one seed, and score it."""

from __future__ import annotations

import time

import numpy as np
from parallel import Logger
from results_store import Row

from identifiability.experiment import Experiment, Setting
from identifiability.matcher import BestOfStarts, Matcher, Model
from identifiability.measures import Fitted, assumption_row, recovery_row
from identifiability.seeds import to_text
from kalmanssl.datasets import DotVideos, dot_videos
from kalmanssl.errors import InputError, first_line
from kalmanssl.identifiability import affine_r2, mean_correlation

__all__ = ["run"]

N_PROBE, N_CURVE = 300, 60  # training videos for affine maps at the end, and during training
N_COMMON = 8  # trajectories that are the same for all seeds


def run(experiment: Experiment, setting: Setting, preset: str, seed: int, logger: Logger | None = None) -> Row:
    """Fit one model and score it on new trajectories.

    Training plans may be chosen by the scores on validation videos, which are computed during training. Test videos are
    used once, at the end.

    Parameters
    ----------
    experiment, setting, preset, seed
        What to run.
    logger : callable, optional
        Called during the training of one of our models with a row that has `step`, `steps` and the `score` so far.

    Returns
    -------
    dict
        `experiment`, `setting`, `seed`, and either `r2_true_from_learned`, `r2_learned_from_true` and further measures,
        or `failed` with the reason.

    Raises
    ------
    InputError
        If what the model returns cannot be latents of these videos.
    """
    row: Row = {"experiment": experiment.name, "setting": setting.name, "seed": seed}
    size = experiment.sizes[preset]
    data = {**experiment.data, **setting.data, "random_state": seed}
    train = dot_videos(n_videos=size.n_train, **data)
    probe, curve_probe = (dot_videos(n_videos=min(n, size.n_train), **data) for n in (N_PROBE, N_CURVE))
    validation, test = (dot_videos(n_videos=size.n_test, split=split, **data) for split in ("validation", "test"))
    plan = setting.plans.get(preset, size.plan)
    model = setting.make(train.motion.dims, plan, seed)
    curve: list[list[float]] = []
    if isinstance(model, Matcher):

        def on_epoch_end(step: int) -> None:
            score = _scores(model, curve_probe, validation, experiment, setting.name)[experiment.score]
            curve.append([step, score])
            if logger is not None:
                logger({**row, "step": step, "steps": plan.steps, "score": score})

        model.on_epoch_end = on_epoch_end
    start = time.perf_counter()
    try:
        model.fit(train.videos)
    except Exception as error:  # training diverged or collapsed, or a user's model failed: other runs continue
        return row | {"failed": f"{type(error).__name__}: {first_line(error)}"}
    row["fit_s"] = time.perf_counter() - start
    row["validation"] = _scores(model, probe, validation, experiment, setting.name)[experiment.score]
    row |= _scores(model, probe, test, experiment, setting.name)
    row["common"] = _common_latents(model, train, data, setting.name)
    if isinstance(model, Matcher):
        row |= {"curve": curve} | _further_measures(Fitted(model, probe, test), experiment)
    return row


def _further_measures(fitted: Fitted, experiment: Experiment) -> Row:
    """Return the entries that only rows of our models have."""
    row: Row = {"cosine": fitted.model.cosine}
    if isinstance(fitted.model, BestOfStarts):
        row["objectives"] = fitted.model.objectives
    row |= recovery_row(fitted, experiment.angles) | assumption_row(fitted)
    return row | (experiment.measure(fitted) if experiment.measure is not None else {})


def _common_latents(model: Model, system: DotVideos, data: Row, name: str) -> Row:
    """Return latents of noiseless videos that are the same for all seeds, so that seeds can be compared."""
    position = dot_videos(n_videos=N_COMMON, split="validation", **{**data, "random_state": 0}).position
    latents = _latents(model, system.render(position), name)[:, ::4]
    return to_text(latents.reshape(-1, latents.shape[-1]))


def _scores(model: Model, train: DotVideos, test: DotVideos, experiment: Experiment, name: str) -> dict[str, float]:
    """Return the R² of affine maps in both directions, fitted on training videos and scored on test videos."""
    true, learned = train.position, _latents(model, train.videos, name)
    test_true, test_learned = test.position, _latents(model, test.videos, name)
    scores = {
        "r2_true_from_learned": affine_r2(learned, true, test_learned, test_true),
        "r2_learned_from_true": affine_r2(true, learned, test_true, test_learned),
        "mean_correlation": mean_correlation(test_true, test_learned),
    }
    if experiment.inside is not None:
        inside, test_inside = (np.abs(p).max(-1) <= experiment.inside for p in (true, test_true))
        scores["r2_inside"] = affine_r2(
            learned[inside], true[inside], test_learned[test_inside], test_true[test_inside]
        )
        scores["share_inside"] = float(test_inside.mean())
    return scores


def _latents(model: Model, videos: np.ndarray, name: str) -> np.ndarray:
    """Transform videos, and check that the result can be their latents."""
    latents = np.asarray(model.transform(videos))
    expected = f"transform must return latents of shape ({len(videos)} videos, {videos.shape[1]} frames, dims)"
    if latents.ndim != 3 or latents.shape[:2] != videos.shape[:2] or latents.shape[2] == 0:
        raise InputError(f"model {name!r}: {expected}, got {latents.shape}")
    if not np.issubdtype(latents.dtype, np.number) or np.issubdtype(latents.dtype, np.complexfloating):
        raise InputError(f"model {name!r}: {expected} of real numbers, got {latents.dtype}")
    n_bad = int((~np.isfinite(latents)).sum())
    if n_bad:
        raise InputError(
            f"model {name!r}: {n_bad} of {latents.size} latents are NaN or infinite; return finite numbers"
        )
    return latents
