"""Parts that fit one model of the identifiability suite, with further measures of the fitted model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from identifiability.experiment import Experiment, Make, Size
from identifiability.experiments import EXPERIMENTS
from identifiability.measures import Fitted
from identifiability.run import run
from parallel import Logger
from results_store import Row

from kalmanssl.errors import CollapseError
from paper.item import Part

__all__ = ["fit_part"]

Measure = Callable[[Fitted], Row]


def fit_part(
    experiment: str,
    setting: str,
    *,
    seeds: int | None = None,
    measures: tuple[Measure, ...] = (),
    sizes: Mapping[str, Size] | None = None,
    data: Mapping[str, Any] | None = None,
    make: Make | None = None,
    name: str | None = None,
    long: bool = False,
) -> Part:
    """Return a part that fits one setting of an experiment of the identifiability suite.

    Parameters
    ----------
    experiment, setting : str
    seeds : int, optional
        Largest number of seeds, see `Part`.
    measures : tuple of callable
        Further measures of the fitted model, for models of ours only: flat numbers, and optionally `drawn`.
    sizes : mapping, optional
        Data and training by preset, where they differ from those of the experiment.
    data : mapping, optional
        Arguments of `dot_videos` in addition to those of the setting.
    make : callable, optional
        Makes another model than that of the setting.
    name : str, optional
        Name of the part; by default "experiment: setting".
    long : bool
        Whether a run takes minutes, see `Part`.

    Returns
    -------
    Part
        Its rows have `r2` and `r2_back` (true from learned latents and the reverse),
        `r2_inside`, the measures of recovery, and what is drawn: curve, cosine and map.
    """
    known: Experiment = EXPERIMENTS[experiment]
    all_sizes = {**known.sizes, **(sizes or {})}
    chosen = known.setting(setting)
    chosen = replace(
        chosen,
        data={**chosen.data, **(data or {})},
        make=make or chosen.make,
        plans={preset: plan for preset, plan in chosen.plans.items() if preset not in (sizes or {})},
    )
    changed = replace(known, sizes=all_sizes, measure=_joined(known, measures))

    def run_part(preset: str, seed: int, logger: Logger | None) -> Row:
        row = run(changed, chosen, preset, seed, logger)
        if "failed" in row:
            kind = "collapsed" if row["failed"].startswith(CollapseError.__name__) else "failed"
            return {kind: row["failed"]}
        return _flat(row)

    settings = {
        preset: {
            "data": {**changed.data, **chosen.data},
            **asdict(size),
            "plan": asdict(chosen.plans.get(preset, size.plan)),
            "model": repr(make) if make else setting,
            "measures": [measure.__name__ for measure in measures],
        }
        for preset, size in all_sizes.items()
    }
    return Part(name or f"{experiment}: {setting}", run_part, settings, seeds, long=long)


def _joined(experiment: Experiment, measures: tuple[Measure, ...]) -> Measure:
    """Return one measure that makes all measures, those of the experiment first."""
    every = (*((experiment.measure,) if experiment.measure else ()), *measures)

    def measure(fitted: Fitted) -> Row:
        row: Row = {}
        for one in every:
            found = one(fitted)
            drawn = {**row.get("drawn", {}), **found.get("drawn", {})}
            row |= found | ({"drawn": drawn} if drawn else {})
        return row

    return measure


def _flat(row: Row) -> Row:
    """Return the numbers of a row of the identifiability suite side by side, and what is drawn."""
    flat: Row = {"r2": row["r2_true_from_learned"], "r2_back": row["r2_learned_from_true"]}
    recovery = row.get("recovery") or {}
    flat |= {
        name: recovery.get(entry)
        for name, entry in (
            ("encoder_r2", "r2_true_from_learned"),
            ("predictor_same_map", "predictor_r2_same_map"),
            ("predictor_own_map", "predictor_r2_own_map"),
            ("nonlinear_gain", "mlp_gain"),
        )
    }
    if flat["predictor_own_map"] is not None:
        flat["predictor_map_gap"] = flat["predictor_own_map"] - flat["predictor_same_map"]
    calibration = recovery.get("calibration") or {}
    flat["latent_coverage_95"] = calibration.get("coverage", {}).get("95")
    drawn = {name: row[name] for name in ("curve", "cosine", "map", "noise_levels") if row.get(name)}
    if row.get("cosine"):
        values = [value for _, value in row["cosine"]]
        some = max(1, len(values) // 8)
        flat |= {"cosine_first": float(np.mean(values[:some])), "cosine_last": float(np.mean(values[-2 * some :]))}
        flat["cosine_least"] = float(min(values))
    drawn |= row.get("drawn", {})
    numbers = {name: value for name, value in row.items() if isinstance(value, float) and name not in _RENAMED}
    return {**{k: v for k, v in flat.items() if v is not None}, **numbers, **({"drawn": drawn} if drawn else {})}


_RENAMED = ("r2_true_from_learned", "r2_learned_from_true", "fit_s")
