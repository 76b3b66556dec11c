"""What an experiment is: a system, the models that are fitted to it, and how they are trained in each preset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from results_store import Row

from identifiability.baselines import BASELINES, LINEAR, MakeBaseline, why_missing
from identifiability.matcher import Model, Plan
from identifiability.measures import Fitted
from identifiability.whitened import OnWhitened
from kalmanssl.errors import InputError

__all__ = ["PRESETS", "Experiment", "Make", "Setting", "Size", "baseline_settings", "whitened_settings"]

PRESETS = {"tiny": 1, "quick": 1, "full": 5}
"""Presets with their numbers of seeds."""

Make = Callable[[int, Plan, int], Model]
"""Makes a model from the number of true dimensions, the training plan and a seed."""


@dataclass(frozen=True)
class Size:
    """Amount of data and training.

    Attributes
    ----------
    n_train, n_test : int
        Numbers of videos.
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
        Arguments of `dot_videos` in addition to those of the experiment.
    published, goal : float or None
        Score in the paper, and the score that this package should reach.
    plans : mapping
        Training plans by preset, where they differ from those of the experiment.
    missing : str or None
        Why it cannot run here.
    """

    name: str
    make: Make
    data: Mapping[str, Any] = field(default_factory=dict)
    published: float | None = None
    goal: float | None = None
    plans: Mapping[str, Plan] = field(default_factory=dict)
    missing: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A system, and the models that are fitted to it.

    Attributes
    ----------
    name, title, figure : str
        Name of the experiment, heading on the page, and the figure of the paper.
    data : mapping
        Arguments of `dot_videos`.
    sizes : mapping
        `Size` by preset.
    settings : tuple of Setting
    score : str
        Entry of a row that published scores and goals refer to.
    inside : float or None
        Bound on the coordinates; frames within it are also scored by themselves (`r2_inside`).
    angles : tuple of float
        Frequencies of a periodic system, radians per frame.
    measure : callable, optional
        Returns further entries for the row of one of our models.
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
        for setting in self.settings:
            if setting.name == name:
                return setting
        raise InputError(f"{self.name} has no setting {name!r}; it has {', '.join(s.name for s in self.settings)}")


def baseline_settings(
    hidden: tuple[int, ...],
    data: Mapping[str, Any] | None = None,
    more: Mapping[str, MakeBaseline] | None = None,
    wrap: Callable[[Make], Make] = lambda make: make,
) -> list[Setting]:
    """Return a setting for each baseline.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers of networks, as in our model.
    data : mapping, optional
        Arguments of `dot_videos` in addition to those of the experiment.
    more : mapping, optional
        Further baselines by name, made as those of `BASELINES`.
    wrap : callable, optional
        Returns what makes a baseline from what makes it elsewhere, for example on other features.
    """
    known = BASELINES | dict(more or {})
    steps = {"tiny": 20, "quick": 1000, "full": 10_000}
    plans = {preset: Plan(n, 32, 1e-3, dynamics_lr_factor=3.0) for preset, n in steps.items()}
    return [
        Setting(name, wrap(_maker(baseline, hidden)), data or {}, plans=plans, missing=why_missing(name))
        for name, baseline in known.items()
    ]


def whitened_settings(
    hidden: tuple[int, ...], plans: Mapping[str, Plan], data: Mapping[str, Any] | None = None
) -> list[Setting]:
    """Return a setting on whitened frames for each baseline that is a network.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers, as in our model.
    plans : mapping
        Training plans by preset, as those of our model on whitened frames.
    data : mapping, optional
        Arguments of `dot_videos` in addition to those of the experiment.
    """
    return [
        Setting(
            f"{name}, whitened",
            OnWhitened(_maker(baseline, hidden)),
            data or {},
            plans=plans,
            missing=why_missing(name),
        )
        for name, baseline in BASELINES.items()
        if name not in LINEAR
    ]


def _maker(baseline: MakeBaseline, hidden: tuple[int, ...]) -> Make:
    """Return what makes a baseline with these widths from dimensions, plan and seed."""
    return lambda dims, plan, seed: baseline(dims, hidden, plan, seed)
