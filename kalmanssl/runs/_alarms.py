"""Alarms: what a reader of the scores must know first, each in one plain sentence with its figure and a way out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.runs._behavior import longest_constant
from kalmanssl.runs._evaluated_bins import EvaluatedBins
from kalmanssl.runs._gain import held_out_gain
from kalmanssl.runs._labels import are_label_scores
from kalmanssl.runs._running import running_rule
from kalmanssl.runs._text import PART_NAMES, axis_name, median_error, number, with_unit
from kalmanssl.utils.labels import label_text

if TYPE_CHECKING:
    from kalmanssl.runs._run import Run

__all__ = ["Alarm", "alarm_lines", "find_alarms"]

_CONSTANT = 0.5  # share of the bins with one value without a break
_OUTSIDE = 0.05  # share of the bins with a behavior that cannot be decoded
_WIDE = 0.5  # of the range of the behavior, or of the labels besides the true one
_WORSE, _WORSE_R2 = 1.25, 0.05  # median error relative to a ridge regression, and the difference of R²
_UNUSUAL = 0.05  # share of bins that are not trusted beyond twice their share on held-out time
_NARROW = {"80": 0.1, "95": 0.05}  # share of bins by which intervals cover less, if that is no accident
_UNCERTAIN = 0.05  # standard error of the coverage at 95 %


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes
    ----------
    name : str
        Short code name.
    message : str
        One sentence with the figure, and what to do.
    """

    name: str
    message: str


@dataclass(frozen=True)
class _Evaluated:
    """What alarms are found from; the attributes are the arguments of `find_alarms`."""

    run: Run
    part: dict[str, Any]
    scores: dict[str, Any]
    bins: EvaluatedBins

    @property
    def main(self) -> tuple[str, dict[str, Any] | None]:
        """Heading and scores of the bins that count, as in `kalmanssl.runs.Evaluation.main`."""
        name = self.part["main"]
        return PART_NAMES[name], self.scores[name]

    @property
    def decoder(self) -> Any:
        """The decoder of the latents that were evaluated, or None."""
        return None if self.run.decoder is None else self.run.latent_decoder(self.part["smoothed"])


def find_alarms(run: Run, part: dict[str, Any], scores: dict[str, Any], bins: EvaluatedBins) -> list[Alarm]:
    """Return the alarms of an evaluation, the most serious first; none if there is nothing to report.

    Parameters
    ----------
    run : Run
    part, scores : dict
        As in `kalmanssl.runs.Evaluation`.
    bins : EvaluatedBins
    """
    given = _Evaluated(run, part, scores, bins)
    found = [(name, check(given)) for name, check in _CHECKS]
    return [Alarm(name, message) for name, message in found if message]


def alarm_lines(alarms: list[Alarm]) -> list[str]:
    """Return one line of text for each alarm."""
    return [f"alarm: {alarm.message}" for alarm in alarms]


def _worse_than_chance(given: _Evaluated) -> str | None:
    """Return the alarm if the latents of held-out blocks are predicted worse than by their marginal distribution."""
    gain = held_out_gain(given.run.model)
    # Without a standard error, a negative gain is taken for what it says.
    if gain is None or not gain.value + (2 * gain.error if math.isfinite(gain.error) else 0.0) < 0:
        return None
    return (
        f"worse than chance: the latents do not predict; on held-out blocks of the fitted part their past predicts "
        f"them worse than their average does (gain {gain} nats per bin, which should be above 0): check the units, "
        "fit a longer part, or fit more epochs"
    )


def _uncertain_gain(given: _Evaluated) -> str | None:
    """Return the alarm if it is uncertain whether the latents of held-out blocks are predicted better than chance."""
    gain = held_out_gain(given.run.model)
    if gain is None or not abs(gain.value) <= 2 * gain.error:
        return None
    return (
        f"it is uncertain whether the latents predict: on held-out blocks of the fitted part the gain of their past "
        f"over their average is {gain} nats per bin (± one standard error), which is not clearly different from 0; fit "
        "a longer part, or look at the scores of the decoder instead"
    )


def _frozen_behavior(given: _Evaluated) -> str | None:
    """Return the alarm if the tracked behavior has one value most of the time."""
    time, truth = given.bins.time, given.bins.numbers
    if truth is None or given.run.labels is not None:
        return None
    share, first, last = longest_constant(truth)
    where = "in this part"
    fitted = float(given.run.metadata.get("constant_share") or 0.0)  # absent from older runs
    if share <= _CONSTANT and fitted > _CONSTANT:
        share, where = fitted, "in the fitted part"
    if share <= _CONSTANT:
        return None
    span = f", from {time[first]:.7g} to {time[last]:.7g} s" if where == "in this part" else ""
    return (
        f"{given.run.behavior} has exactly one value for {100 * share:.0f} % of the tracked time {where}{span}, "
        "without a break: if the tracker was frozen, scores and intervals mean nothing; leave this time out, or set "
        "the behavior to NaN where it is unknown"
    )


def _below_baseline(given: _Evaluated) -> str | None:
    """Return the alarm if a constant that is known from the fitted part is better than the decoded behavior."""
    from kalmanssl.decoding import constant_r2

    for name in ("running", "all"):
        scores = given.scores[name]
        scored = given.bins.parts.get(name)
        if scores is None or scored is None or given.bins.numbers is None:
            continue
        truth = given.bins.numbers[scored].reshape(scored.sum(), -1)
        if are_label_scores(scores):
            usual = int(given.decoder.chain.statistics.occupancy.argmax())
            share = float((truth[:, 0] == usual).mean())
            label = label_text(given.decoder.labels.tolist()[usual])
            if scores["accuracy"] < share:
                return (
                    f"the decoded {given.run.behavior} is right in {100 * scores['accuracy']:.0f} % of the bins, and "
                    f"always naming {label:.40}, the most frequent label of the fit, in "
                    f"{100 * share:.0f} %: do not use it; check the units, the labels and the clock of both"
                )
        elif scores["r2"] < (baseline := constant_r2(given.decoder, truth)):
            return (
                f"R² of {given.run.behavior} is {number(scores['r2'])} on {PART_NAMES[name]}, below that of a "
                f"constant, the mean of the fitted part ({number(baseline)}): do not use the decoded values; check the "
                "units, the behavior and the clock of both"
            )
    return None


def _below_ridge_regression(given: _Evaluated) -> str | None:
    """Return the alarm if a ridge regression on recent activity decodes clearly better."""
    heading, scores = given.main
    ridge = ((scores or {}).get("references") or {}).get("ridge")
    if scores is None or ridge is None or ridge["r2"] is None:
        return None
    error, known = scores["median_error"], ridge["median_error"]
    if error <= _WORSE * known or not scores["r2"] < ridge["r2"] - _WORSE_R2:
        return None
    unit = given.run.behavior_unit
    return (
        f"a ridge regression on the activity of the last 250 ms decodes {given.run.behavior} better: median error "
        f"{with_unit(known, unit, error)} instead of {with_unit(error, unit)} on {heading}; fit more epochs or more "
        "latents, or use the decoder ensemble"
    )


def _outside_the_fit(given: _Evaluated) -> str | None:
    """Return the alarm if the behavior often has values that it did not have in the fitted part."""
    scores, bins = given.scores["all"], given.bins
    if scores is None or bins.truth is None or bins.labels is not None:
        return None
    values = bins.truth[bins.known].reshape(int(bins.known.sum()), -1)
    axes = [axis for grid in given.decoder.grids for axis in grid.axes]
    outside = np.zeros(values.shape, dtype=bool)
    for dim, axis in enumerate(axes):
        if axis.period is None:
            outside[:, dim] = (values[:, dim] < axis.start) | (values[:, dim] > axis.start + axis.width * axis.n_cells)
    share = outside.any(axis=1).mean()
    if not share > _OUTSIDE:
        return None
    worst = int(outside.mean(axis=0).argmax())
    dimension = f" {axis_name(worst)}" if len(axes) > 1 else ""
    ends = (axes[worst].start, axes[worst].start + axes[worst].width * axes[worst].n_cells)
    low, high = (with_unit(end, given.run.behavior_unit, median_error(scores)) for end in ends)
    return (
        f"{100 * share:.0f} % of the bins have a {given.run.behavior}{dimension} outside of {low} to {high}, the range "
        "of the fitted part with a margin; only values in it can be decoded, so the intervals of these bins do not "
        "contain the true value; hold out another part, or decode a behavior that stays in its range, such as the "
        "speed in place of a distance or an angle that adds up"
    )


def _wide_intervals(given: _Evaluated) -> str | None:
    """Return the alarm if intervals are wider than half of the range of the behavior."""
    heading, scores = given.main
    if scores is None:
        return None
    if are_label_scores(scores):
        size, count = scores["set_size"]["95"], len(scores["labels"])
        if size - 1 <= _WIDE * (count - 1):
            return None
        return (
            f"the 95 % prediction set of {given.run.behavior} has on average {size:.1f} of {count} labels: it hardly "
            "tells them apart; fit a longer part or more units"
        )
    axes = [axis for grid in given.decoder.grids for axis in grid.axes]
    ranges = np.array([axis.width * axis.n_cells for axis in axes])
    widths = np.array([one["width"]["95"] for one in scores.get("dimensions", [scores])])
    worst = int((widths / ranges).argmax())
    if widths[worst] <= _WIDE * ranges[worst]:
        return None
    dimension = f" {axis_name(worst)}" if len(widths) > 1 else ""
    unit = given.run.behavior_unit
    width, whole = (with_unit(one, unit, median_error(scores)) for one in (widths[worst], ranges[worst]))
    return (
        f"the 95 % interval of {given.run.behavior}{dimension} is on average {width} wide "
        f"on {heading}, more than half of the {whole} that can be decoded: it says little "
        "about single bins; fit a longer part or more units, or average over time"
    )


def _narrow_intervals(given: _Evaluated) -> str | None:
    """Return the alarm if intervals cover clearly less often than they say."""
    heading, scores = given.main
    if scores is None or are_label_scores(scores):
        return None
    for level, allowed in _NARROW.items():
        share, error = scores["coverage"][level], scores["coverage_error"][level]
        nominal = float(level) / 100
        # Two conditions: the difference is no accident, and it is large. Their sum would hide large differences in
        # short parts: intervals at 80 % that cover 67 % with a standard error of 4 %.
        if share + 2 * error < nominal and share < nominal - allowed:
            return (
                f"the intervals of {given.run.behavior} are too narrow on {heading}: the {level} % interval contains "
                f"{100 * share:.0f} % of them; do not rely on its level there, and look at rest and movement "
                "apart"
            )
    return None


def _never_runs(given: _Evaluated) -> str | None:
    """Return the alarm if the animal never runs."""
    bins, scores = given.bins, given.scores
    if bins.runs is None or bins.numbers is None or scores["all"] is None or scores["running"] is not None:
        return None
    return (
        f"the behavior never moves here (moving: {running_rule(given.run)}): all scores are those of rest; evaluate a "
        "longer part, or define movement with --end-zones or --min-speed"
    )


def _few_calibration_errors(given: _Evaluated) -> str | None:
    """Return the alarm if intervals are calibrated on few independent errors."""
    if given.decoder is None or given.run.labels is not None:
        return None
    level = float(given.run.require_decoder().level)
    # Fewer errors than this have less than two outside of the interval, and one event decides where it ends.
    fewest, needed = min(float(one.effective) for one in given.decoder.calibrations), 2 / (1 - level)
    if math.isinf(fewest):
        return (
            f"the intervals of {given.run.behavior} are not calibrated: there was no held-out time to learn their "
            "errors from; fit a longer part"
        )
    if fewest >= needed * (1 - 1e-9):
        return None
    return (
        f"the intervals of {given.run.behavior} are calibrated on about {fewest:.0f} independent errors, and a level "
        f"of {100 * level:g} % needs at least {needed:.0f}: do not rely on their coverage; fit a longer part"
    )


def _unusual_activity(given: _Evaluated) -> str | None:
    """Return the alarm if many more bins are not trusted than on held-out time."""
    from kalmanssl.runs._trust_scores import trust_sentence

    trust = (given.scores["all"] or {}).get("trust")
    if trust is None or trust["untrusted"] <= 2 * given.decoder.trust.threshold + _UNUSUAL:
        return None
    return (
        f"the activity is unlike that of the fit: {trust_sentence(trust).removesuffix('.')}; leave these bins out "
        "(trusted = 0 in the file), and check that the units are the same and in the same order"
    )


def _few_scored_blocks(given: _Evaluated) -> str | None:
    """Return the alarm if the coverage of this part is uncertain."""
    heading, scores = given.main
    if scores is None or not scores["coverage_error"]["95"] > _UNCERTAIN:
        return None
    share, error = scores["coverage"]["95"], scores["coverage_error"]["95"]
    return (
        f"the coverage of the 95 % intervals on {heading}, {100 * share:.0f} %, is uncertain by {100 * error:.0f} "
        "points (one standard error): this part has few independent blocks of time; evaluate a longer part"
    )


_CHECKS: tuple[tuple[str, Callable[[_Evaluated], str | None]], ...] = (
    ("worse_than_chance", _worse_than_chance),
    ("uncertain_gain", _uncertain_gain),
    ("frozen_behavior", _frozen_behavior),
    ("below_baseline", _below_baseline),
    ("below_ridge_regression", _below_ridge_regression),
    ("outside_the_fit", _outside_the_fit),
    ("wide_intervals", _wide_intervals),
    ("narrow_intervals", _narrow_intervals),
    ("never_runs", _never_runs),
    ("unusual_activity", _unusual_activity),
    ("few_calibration_errors", _few_calibration_errors),
    ("few_scored_blocks", _few_scored_blocks),
)
