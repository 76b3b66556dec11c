"""A report of a run: one HTML page with everything inside, to read, print or send."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl import plotting
from kalmanssl.runs._report_assumptions import assumptions_section
from kalmanssl.runs._report_page import drawing, page, section, table, tiles
from kalmanssl.utils.storage import replace_file

if TYPE_CHECKING:
    from kalmanssl.runs._evaluation import Evaluation
    from kalmanssl.runs._run import Run

__all__ = ["build_report", "score_rows", "write_report"]

_EIGENVALUES_LISTED = 12


def write_report(run: Run, out: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write the report of a run to a file.

    Parameters
    ----------
    run : Run
        Its `evaluation` says what is shown.
    out : path
    overwrite : bool

    Raises
    ------
    InputError
        If the file exists and `overwrite` is false, or cannot be written.
    """
    text = build_report(run)

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    replace_file(out, write, overwrite)


def build_report(run: Run) -> str:
    """Make the page: a string of HTML that needs nothing from outside."""
    evaluation = run.evaluation
    source = run.metadata["recording"]["source"] if evaluation is None else evaluation.part["source"]
    parts = [f"<h1>{_text(source)}</h1>", _lead(run)]
    if evaluation is not None:
        parts += [_headline(run, evaluation), _decoded(run, evaluation), _scores(run, evaluation)]
        parts += [_latents(run, evaluation), assumptions_section(evaluation), _noise(run, evaluation)]
    parts += [_dynamics(run), _training(run), _settings(run), _notes(run)]
    made = f"kalmanssl {run.metadata.get('kalmanssl', '')}, fitted {run.metadata.get('made', 'now')}".strip()
    parts.append(f"<footer>{_text(made)}. Method: latent distribution matching with a Kalman predictor.</footer>")
    return page(f"{source}: kalmanssl report", "\n".join(part for part in parts if part))


def score_rows(scores: dict[str, Any], unit: str) -> list[list[str]]:
    """Table of scores as text: a heading, then one row per score; empty if there are none.

    Parameters
    ----------
    scores : dict
        "running" and "all", as in `kalmanssl.runs.Evaluation`.
    unit : str
        Of the behavior.
    """
    parts = {
        heading: scores[name]
        for name, heading in (("running", "running bins"), ("all", "all bins"))
        if scores[name] is not None
    }
    if not parts:
        return []
    of = f" ({unit})" if unit else ""
    first = next(iter(parts.values()))
    rows = [["", *parts]]
    for key, label in (("median_error", "median error"), ("mean_error", "mean error"), ("crps", "CRPS")):
        rows.append([label + of, *(_number(p[key]) for p in parts.values())])
    rows.append(["R²", *(_number(p["r2"]) for p in parts.values())])
    for level in first["coverage"]:
        cells = [f"{100 * p['coverage'][level]:.1f} ± {100 * p['coverage_error'][level]:.1f}" for p in parts.values()]
        rows.append([f"inside the {level} % interval (%)", *cells])
    for level in first["width"]:
        rows.append([f"width of the {level} % interval{of}", *(_number(p["width"][level]) for p in parts.values())])
    rows.append(["bins", *(str(p["bins"]) for p in parts.values())])
    return rows


def _text(value: Any) -> str:
    from html import escape

    return escape(str(value))


def _number(value: float) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _seconds(value: float) -> str:
    if not math.isfinite(value):
        return "none"
    return f"{value:.3g}"


def _span(start: float, stop: float) -> str:
    return f"{start:.10g} to {stop:.10g} s"


def _lead(run: Run) -> str:
    known = run.metadata["recording"]
    what = f"{known['units']} units" + (f", {known['spikes']:,} spikes" if known.get("spikes") else "")
    text = (
        f"{what}, in bins of {1e3 * known['bin_size_s']:.4g} ms. Latent dynamics were fitted without labels on "
        f"{_span(known['start_s'], known['fitted_until_s'])} ({known['fitted_s'] / 60:.3g} min)."
    )
    if run.evaluation is not None:
        part = run.evaluation.part
        how = "smoothed, knowing what follows" if part["smoothed"] else "filtered, without looking ahead"
        where = f"Shown below: {_span(part['start_s'], part['stop_s'])}, {how}"
        seen = (
            ". <strong>The model was fitted on this time: on new time it errs more.</strong>"
            if part["fitted"]
            else ", which the fit has not seen."
        )
        return f'<p class="lead">{_text(text)} {_text(where)}{seen}</p>'
    return f'<p class="lead">{_text(text)}</p>'


def _headline(run: Run, evaluation: Evaluation) -> str:
    name, scores = evaluation.main
    if scores is None:
        return ""
    unit = f" {run.behavior_unit}" if run.behavior_unit else ""
    bins = "running bins" if name == "running" else "all bins"
    items = [
        (_number(scores["median_error"]) + unit, f"median error, {bins}"),
        (_number(scores["r2"]), "R²"),
        (_number(scores["crps"]) + unit, "CRPS"),
    ]
    items += [
        (f"{100 * scores['coverage'][level]:.1f} %", f"inside the {level} % interval")
        for level in ("95", "80")
        if level in scores["coverage"]
    ]
    return tiles(items)


def _decoded(run: Run, evaluation: Evaluation) -> str:
    a = evaluation.arrays
    dims = a["mean"].shape[1] if "mean" in a else 0
    axes = plotting.new_axes(9.2, 3.0 + 1.9 * dims, rows=(1.35, *[1] * dims))
    plotting.plot_raster(a["counts"], a["time"], ax=axes[0])
    period = run.settings.period
    for dim in range(dims):
        plotting.plot_decoded(
            a["time"],
            a["mean"][:, dim],
            a["lower"][:, dim],
            a["upper"][:, dim],
            a["truth"][:, dim] if "truth" in a else None,
            where=a.get("runs"),
            level=run.require_decoder().level,
            name=f"{run.behavior}{f' {dim + 1}' if dims > 1 else ''}",
            unit=run.behavior_unit,
            period=period,
            ax=axes[1 + dim],
        )
    axes[-1].set_xlabel("time (s)")
    seconds = float(a["time"][-1] - a["time"][0])
    says = (
        f"Spikes of {a['counts'].shape[1]} units over {seconds:.0f} s"
        + (f", and below them {run.behavior} as decoded, with its interval, and as tracked" if dims else "")
        + "."
    )
    sorted_by = " Units are ordered by where they fire most." if dims == 1 and "truth" in a else ""
    if dims and "runs" in a:
        sorted_by += f" The decoder learned {run.behavior} from running; what it says of rest is drawn faint."
    return section(
        "decoded",
        "Spikes and decoded behavior" if dims else "Spikes",
        f'<p class="note">{_text(says + sorted_by)}</p>',
        drawing("decoded", axes[0], says, wide=True),
    )


def _scores(run: Run, evaluation: Evaluation) -> str:
    rows = score_rows(evaluation.scores, run.behavior_unit)
    if not rows:
        return ""
    curves = {
        heading: evaluation.scores[name]["calibration"]
        for name, heading in (("running", "running bins"), ("all", "all bins"))
        if evaluation.scores[name] is not None
    }
    left = drawing(
        "calibration",
        plotting.plot_calibration(curves, run.require_decoder().level),
        "Share of bins inside the interval against the promised share, for every level.",
    )
    a = evaluation.arrays
    right = ""
    if "decoded" in a and a["decoded"].shape[1] == 1:
        decoded, tracked = a["decoded"][:, 0], a["tracked"][:, 0]
        right = drawing(
            "confusion",
            plotting.plot_decoded_against_tracked(decoded, tracked, name=str(run.behavior), unit=run.behavior_unit),
            "Decoded against tracked behavior; each column shows where decoded behavior lies.",
        )
    curve = [["promised (%)", *(f"{name.removesuffix(' bins')} (%)" for name in curves)]]
    first = next(iter(curves.values()))
    for i, nominal in enumerate(first["nominal"]):
        if round(100 * nominal) % 10 == 0 or nominal >= 0.95:
            cells = [f"{100 * c['empirical'][i]:.1f} ± {100 * c['error'][i]:.1f}" for c in curves.values()]
            curve.append([f"{100 * nominal:g}", *cells])
    return section(
        "scores",
        "How well it decodes, and whether the intervals keep their promise",
        f'<p class="note">{_calibrated_on(run)} Bands and ± are one standard error, counting stretches of time, since '
        "neighboring bins err together.</p>",
        f'<div class="beside">{left}{right}</div>',
        f'<div class="beside">{table(rows)}{table(curve)}</div>',
    )


def _calibrated_on(run: Run) -> str:
    if run.settings.end_zones is None and run.settings.min_speed is None:
        return "The decoder and its intervals were learned from all bins (--end-zones or --min-speed: from running)."
    return (
        "The decoder and its intervals were learned from running bins. At rest, cells are silent or replay other "
        "places: scores of all bins are no measure of the promise."
    )


def _latents(run: Run, evaluation: Evaluation) -> str:
    a = evaluation.arrays
    latents, color = a["latents"], a["color"]
    name, unit = (run.behavior, run.behavior_unit) if "truth" in a else ("time", "s")
    of: dict[str, Any] = {"name": name, "unit": unit, "period": run.settings.period if "truth" in a else None}
    views = [(0, 1), (0, 2)][: max(1, min(2, latents.shape[1] - 1))] if latents.shape[1] > 1 else []
    drawn = [
        drawing(
            f"latents{number}",
            plotting.plot_latents(latents, color, dims=dims, **of, ax=plotting.new_axes(4.8, 3.8)[0]),
            f"Latents along their principal axes {dims[0] + 1} and {dims[1] + 1}, colored by {name}.",
        )
        for number, dims in enumerate(views)
    ]
    where = "running bins" if evaluation.main[0] == "running" else "bins"
    return section(
        "latents",
        "The latent path",
        f'<p class="note">Posterior means of the state at {len(latents)} {where}, along the axes in which they spread '
        f"most, colored by {_text(name)}. The model never saw {_text(name)}.</p>",
        f'<div class="beside">{"".join(drawn)}</div>',
    )


def _noise(run: Run, evaluation: Evaluation) -> str:
    a = evaluation.arrays
    axes = plotting.new_axes(9.2, 3.4, rows=(1, 1))
    plotting.plot_noise(a["time"], a["noise"], ax=axes[0])
    axes[0].set_xlabel("")
    plotting.plot_log_likelihood(a["time"], a["log_likelihood"], ax=axes[1])
    says = "Noise that the model assigned, and how likely each bin was given those before it, over the same seconds."
    spread = np.sqrt(a["noise"])
    rows = [
        ["noise sd (latent units)", "10 %", "median", "90 %"],
        ["over channels", *(_number(v) for v in np.quantile(spread.mean(axis=0), [0.1, 0.5, 0.9]))],
        ["over time", *(_number(v) for v in np.quantile(np.median(spread, axis=1), [0.1, 0.5, 0.9]))],
    ]
    constant = bool(np.ptp(spread, axis=0).max() <= 1e-6 * spread.max())
    word = (
        "This model assumes constant noise (--noise input lets it follow the activity)."
        if constant
        else "The filter trusts a bin the less, the noisier the model takes it to be."
    )
    return section(
        "noise",
        "Noise that the model assigned",
        f'<p class="note">{_text(word)} Below: how likely the latents of each bin were given those before it; dips are '
        "moments that the dynamics did not expect.</p>",
        drawing("noise", axes[0], says, wide=True),
        table(rows),
    )


def _dynamics(run: Run) -> str:
    A = run.model.model_.predictor.A.detach().numpy()
    step = run.model.bins_per_step * run.metadata["recording"]["bin_size_s"]
    rows = [["modulus", "period (s)", "decay time (s)"]]
    listed = plotting.time_constants(A, step)
    for row in listed[:_EIGENVALUES_LISTED]:
        decay = _seconds(row["decay_s"]) if row["modulus"] < 1 else "grows"
        rows.append([f"{row['modulus']:.4f}", _seconds(row["period_s"]), decay])
    more = len(listed) - _EIGENVALUES_LISTED
    rest = f"<small>and {more} that decay faster</small>" if more > 0 else ""
    return section(
        "dynamics",
        "Dynamics",
        f'<p class="note">Eigenvalues of the transition matrix <i>A</i>, of a step of {step:.4g} s. Their angle is a '
        "rhythm, their distance from the circle a decay (time to fall to 1/e).</p>",
        '<div class="beside">'
        + drawing(
            "eigenvalues", plotting.plot_eigenvalues(A), "Eigenvalues of A in the complex plane, with the unit circle."
        )
        + f"<div>{table(rows)}{rest}</div></div>",
    )


def _training(run: Run) -> str:
    history = run.model.history_
    names = {"loss": "loss", "held_out_loss": "held out", "held_out_score": "gain", "effective_dimension": "dims"}
    keys = [key for key in names if history.get(key)]
    if not keys:
        return ""
    count = len(history[keys[0]])
    shown = sorted({0, count - 1, *range(0, count, max(1, count // 6))})
    rows = [["epoch", *(names[key] for key in keys)]]
    rows += [[str(i + 1), *(_number(history[key][i]) if i < len(history[key]) else "–" for key in keys)] for i in shown]
    gain = (
        "The gain is how much better the past predicts the present than chance, in nats per bin, on held-out blocks; "
        "the epoch with the highest is kept. Dims: how many latents carry signals of their own."
        if "held_out_score" in keys
        else ""
    )
    return section(
        "training",
        "Training",
        f'<p class="note">{gain}</p>' if gain else "",
        '<div class="beside">'
        + drawing(
            "training", plotting.plot_training(history), "Loss after every epoch, on training and held-out parts."
        )
        + f"<div>{table(rows)}</div></div>",
    )


def _settings(run: Run) -> str:
    rows = [[name, _setting(value)] for name, value in sorted(run.settings.given().items())]
    own = {k: v for k, v in run.model.get_params(deep=False).items() if k not in ("encoder", "checkpoint_dir")}
    seconds = run.metadata.get("seconds", {})
    took = [[f"time to fit the {what}", f"{value:g} s"] for what, value in seconds.items()]
    return section(
        "settings",
        "Settings",
        '<div class="beside"><div><p class="note">Chosen for this run</p>'
        + table(rows + took, words=True)
        + '</div><div><p class="note">All of the model</p>'
        + table([[name, _setting(value)] for name, value in own.items()], words=True)
        + "</div></div>",
    )


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_setting(one) for one in value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _notes(run: Run) -> str:
    notes = run.metadata["recording"]["notes"]
    if not notes:
        return ""
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return section("notes", "Notes on the recording", f"<ul>{items}</ul>")
