"""What an experiment is, and how one setting of it is run for one seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from kept import Row

from identifiability.baselines import BASELINES, missing
from identifiability.measures import Fitted, assumed, recovered
from identifiability.runner import Matcher, Model, Plan
from kalmanssl.datasets import DotVideos, dot_videos
from kalmanssl.errors import InputError
from kalmanssl.identifiability import affine_r2, mean_correlation

__all__ = ["PRESETS", "Experiment", "Make", "Setting", "Size", "baseline_settings", "run"]

PRESETS = {"tiny": 1, "quick": 1, "full": 5}
"""Presets with their numbers of seeds."""

PROBE, WATCHED = 300, 60  # videos that affine maps are fitted on, at the end and while learning
COMMON = 8  # trajectories whose latents are kept, to compare seeds
Make = Callable[[int, Plan, int], Model]
"""Makes a model from the number of true dimensions, a plan of training and a seed."""


@dataclass(frozen=True)
class Size:
    """How much data and training.

    Attributes
    ----------
    n_train, n_test : int
        Videos.
    plan : Plan
    """

    n_train: int
    n_test: int
    plan: Plan


@dataclass(frozen=True)
class Setting:
    """One model on one kind of data.

    Attributes
    ----------
    name : str
    make : callable
    data : mapping
        Arguments of `dot_videos` beyond those of the experiment.
    published, goal : float or None
        The figure of the paper, and what we hold ourselves to; of the experiment's score.
    plans : mapping
        By preset, where this setting is trained in another way than the others.
    why_missing : str or None
        Why it cannot run here.
    """

    name: str
    make: Make
    data: Mapping[str, Any] = field(default_factory=dict)
    published: float | None = None
    goal: float | None = None
    plans: Mapping[str, Plan] = field(default_factory=dict)
    why_missing: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A system, and the models that are to find its latents.

    Attributes
    ----------
    name, title, figure : str
        Its name here, what it is about, and where the paper shows it.
    data : mapping
        Arguments of `dot_videos`.
    sizes : mapping
        `Size` by preset.
    settings : tuple of Setting
    score : str
        Entry of a row that published figures and goals are about.
    inside : float or None
        Bound on the coordinates of the frames that are scored once more by themselves (`r2_inside`).
    angles : tuple of float
        Frequencies of the system, radians per frame, where it is periodic.
    measure : callable, optional
        Further entries of a row of one of our models.
    """

    name: str
    title: str
    figure: str
    data: Mapping[str, Any]
    sizes: Mapping[str, Size]
    settings: tuple[Setting, ...]
    score: str = "r2_true_from_learned"
    inside: float | None = None
    angles: tuple[float, ...] = ()
    measure: Callable[[Fitted], Row] | None = None

    def setting(self, name: str) -> Setting:
        """Return the setting of that name."""
        for one in self.settings:
            if one.name == name:
                return one
        raise InputError(f"{self.name} has no setting {name!r}; it has {', '.join(s.name for s in self.settings)}")


def baseline_settings(hidden: tuple[int, ...], steps: int, data: Mapping[str, Any] | None = None) -> list[Setting]:
    """Return a setting for each baseline.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers of those that are networks: as ours.
    steps : int
        Of their training in the quick preset; ten times as many in the full one.
    data : mapping, optional
        Arguments of `dot_videos` beyond those of the experiment.
    """

    def maker(name: str) -> Make:
        return lambda dims, plan, seed: BASELINES[name](dims, hidden, plan, seed)

    def plan(steps: int) -> Plan:
        return Plan(steps, 32, 1e-3, dynamics=3.0)

    plans = {"tiny": plan(20), "quick": plan(steps), "full": plan(10 * steps)}
    return [Setting(name, maker(name), data or {}, plans=plans, why_missing=missing(name)) for name in BASELINES]


def run(
    experiment: Experiment, setting: Setting, preset: str, seed: int, watch: Callable[[Row], None] | None = None
) -> Row:
    """Fit one model and score it on fresh trajectories.

    While it learns it is scored on validation videos, which plans of training may be chosen by; test videos are
    looked at once, at the end.

    Parameters
    ----------
    experiment, setting, preset, seed
        What to run.
    watch : callable, optional
        Called while a model of ours learns with a row that has `step`, `steps` and the `score` so far.

    Returns
    -------
    dict
        `experiment`, `setting`, `seed`, and either `r2_true_from_learned`, `r2_learned_from_true` (and what else was
        measured) or `failed` with the reason.

    Raises
    ------
    InputError
        If what the model returns is no set of latents of these videos.
    """
    row: Row = {"experiment": experiment.name, "setting": setting.name, "seed": seed}
    size = experiment.sizes[preset]
    made = {**experiment.data, **setting.data, "random_state": seed}
    train = dot_videos(n_videos=size.n_train, **made)
    probe, watched = (dot_videos(n_videos=min(n, size.n_train), **made) for n in (PROBE, WATCHED))
    validation, test = (dot_videos(n_videos=size.n_test, split=split, **made) for split in ("validation", "test"))
    plan = setting.plans.get(preset, size.plan)
    model = setting.make(train.motion.dims, plan, seed)
    start = time.perf_counter()
    curve: list[list[float]] = []
    if isinstance(model, Matcher):

        def look(step: int) -> None:
            found = score(model, watched, validation, experiment, setting.name)[experiment.score]
            curve.append([step, found])
            if watch is not None:
                watch({**row, "step": step, "steps": plan.steps, "score": found})

        model.watch = look
    try:
        model.fit(train.videos)
    except Exception as error:  # diverged, collapsed, or a model of somebody else that gave up: the others go on
        reason = (str(error).splitlines() or [""])[0]
        return row | {"failed": f"{type(error).__name__}: {reason}"}
    row["fit_s"] = time.perf_counter() - start
    row["validation"] = score(model, probe, validation, experiment, setting.name)[experiment.score]
    row |= score(model, probe, test, experiment, setting.name)
    row["common"] = common_latents(model, train, made, setting.name)
    if isinstance(model, Matcher):
        fitted = Fitted(model, probe, test)
        row |= {"curve": curve, "cosine": model.cosine} | recovered(fitted, experiment.angles) | assumed(fitted)
        if experiment.measure is not None:
            row |= experiment.measure(fitted)
    return row


def common_latents(model: Model, system: DotVideos, made: Row, name: str) -> list[list[float]]:
    """Latents of the same trajectories, whatever the seed, in pictures without noise: what seeds can be compared by."""
    position = dot_videos(n_videos=COMMON, split="validation", **{**made, "random_state": 0}).position
    found = latents_of(model, system.render(position), name)[:, ::4]
    return found.reshape(-1, found.shape[-1]).astype(float).round(4).tolist()


def score(model: Model, train: DotVideos, test: DotVideos, experiment: Experiment, name: str) -> dict[str, float]:
    """Score by an affine map in both directions that is fitted on training videos."""
    true, found = train.position, latents_of(model, train.videos, name)
    new_true, new_found = test.position, latents_of(model, test.videos, name)
    scores = {
        "r2_true_from_learned": affine_r2(found, true, new_found, new_true),
        "r2_learned_from_true": affine_r2(true, found, new_true, new_found),
        "mean_correlation": mean_correlation(new_true, new_found),
    }
    if experiment.inside is not None:
        here, there = (np.abs(p).max(-1) <= experiment.inside for p in (true, new_true))
        scores["r2_inside"] = affine_r2(found[here], true[here], new_found[there], new_true[there])
        scores["share_inside"] = float(there.mean())
    return scores


def latents_of(model: Model, videos: np.ndarray, name: str) -> np.ndarray:
    """Transform videos, and refuse what cannot be their latents."""
    found = np.asarray(model.transform(videos))
    wanted = f"transform must return latents of shape ({len(videos)} videos, {videos.shape[1]} frames, dims)"
    if found.ndim != 3 or found.shape[:2] != videos.shape[:2] or found.shape[2] == 0:
        raise InputError(f"model {name!r}: {wanted}, got {found.shape}")
    if not np.issubdtype(found.dtype, np.number) or np.issubdtype(found.dtype, np.complexfloating):
        raise InputError(f"model {name!r}: {wanted} of real numbers, got {found.dtype}")
    bad = int((~np.isfinite(found)).sum())
    if bad:
        raise InputError(
            f"model {name!r}: {bad} of {found.size} latents are NaN or infinite; transform must not return such"
        )
    return found
