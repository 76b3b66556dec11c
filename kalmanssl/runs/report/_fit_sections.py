"""Figures, tables and numbers of the sections of the report about the fit: dynamics, training and settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kalmanssl import plotting
from kalmanssl.runs._gain import gain_text, gain_values
from kalmanssl.runs._text import cell, duration

if TYPE_CHECKING:
    from kalmanssl.runs._run import Run

__all__ = ["dynamics", "settings", "training"]

_EIGENVALUES_LISTED = 12
_EPOCHS_LISTED = 6


def dynamics(run: Run) -> dict[str, Any]:
    """Draw the eigenvalues of the transition matrix, and tabulate the slowest.

    A rotation that decays before a quarter of its period is no rhythm, so that its period is left out.
    """
    A = run.model.model_.predictor.A.detach().numpy()
    step = run.model.bins_per_step_ * run.metadata["recording"]["bin_size_s"]
    constants = plotting.time_constants(A, step)
    rows = [["modulus", "period", "decay time"]]
    for row in constants[:_EIGENVALUES_LISTED]:
        is_rhythm = math.isfinite(row["period_s"]) and row["decay_s"] >= row["period_s"] / 4
        decay = duration(row["decay_s"]) if row["modulus"] < 1 else "grows"
        rows.append([f"{row['modulus']:.4f}", duration(row["period_s"]) if is_rhythm else "none", decay])
    unlisted = len(constants) - _EIGENVALUES_LISTED
    return {"axes": plotting.plot_eigenvalues(A), "rows": rows, "step": duration(step), "unlisted": unlisted}


def training(run: Run) -> dict[str, Any] | None:
    """Draw the loss over the epochs, and tabulate some of them; None without a history."""
    history = run.model.history_
    names = {"loss": "loss", "held_out_loss": "held-out loss", "held_out_score": "gain", "effective_dimension": "dims"}
    keys = [key for key in names if history.get(key)]
    if not keys:
        return None
    count = len(history[keys[0]])
    shown = sorted({0, count - 1, *range(0, count, max(1, count // _EPOCHS_LISTED))})
    rows = [["epoch", *(names[key] for key in keys)]]
    gains = [gain_text(*one) for one in zip(*gain_values(history), strict=True)]
    cells = {key: gains if key == "held_out_score" else [cell(value) for value in history[key]] for key in keys}
    rows += [[str(i + 1), *(cells[key][i] if i < len(cells[key]) else "–" for key in keys)] for i in shown]
    has_gain = "held_out_score" in keys
    axes = plotting.new_axes(4.4, 4.8 if has_gain else 3.6, rows=(1, 1) if has_gain else (1,))
    plotting.plot_training(history, ax=axes[0])
    if has_gain:
        axes[0].set_xlabel("")
        plotting.plot_gain(history, ax=axes[1])
    return {
        "axes": axes[0],
        "rows": rows,
        "has_gain": has_gain,
        "second": [gain_text(*one) for one in zip(*gain_values(run.model.noise_history_), strict=True)],
        # The windows of the first stage are drawn by their activity, those of the second stage uniformly.
        "active_windows": run.model.activity_sampling_power > 0,
    }


def settings(run: Run) -> dict[str, list[tuple[str, str]]]:
    """Return names and values of the settings of the run, and of all parameters of the model."""
    chosen = [(name, _setting(value)) for name, value in sorted(run.settings.given().items())]
    seconds = run.metadata.get("seconds", {})
    chosen += [(f"time to fit the {part}", duration(value)) for part, value in seconds.items()]
    parameters = run.model.get_params(deep=False).items()
    model = [(name, _setting(value)) for name, value in parameters if name not in ("encoder", "checkpoint_dir")]
    return {"chosen": chosen, "model": model}


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_setting(one) for one in value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)
