"""Figures of the fitted dynamics and of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.plotting._style import BLUE, MUTED, ORANGE, add_legend, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_eigenvalues", "plot_gain", "plot_training", "time_constants"]


def plot_eigenvalues(A: np.ndarray | Any, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalues of a transition matrix in the complex plane, with the unit circle.

    Parameters
    ----------
    A : (state, state), or KalmanSSL
        A fitted model has the matrix of one filter step.
    ax : Axes, optional
    """
    ax = axes_or_new(ax)
    if hasattr(A, "model_"):
        A = A.model_.predictor.A.detach().numpy()
    values = np.linalg.eigvals(np.asarray(A, dtype=float))
    angle = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(angle), np.sin(angle), color=MUTED, lw=1)
    ax.axhline(0, color=MUTED, lw=0.5)
    ax.axvline(0, color=MUTED, lw=0.5)
    ax.scatter(values.real, values.imag, s=26, color=BLUE, alpha=0.75, linewidths=0)
    ax.set_aspect("equal")
    ax.set(xlabel="real part", ylabel="imaginary part", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    return ax


def time_constants(A: np.ndarray, step: float) -> list[dict[str, float]]:
    """Compute the period and decay time of each eigenvalue of a transition matrix, slowest decay first.

    Parameters
    ----------
    A : (state, state)
    step : float
        Duration of one step, seconds.

    Returns
    -------
    list of dict
        One entry per real eigenvalue or conjugate pair: `real`, `imaginary`, `modulus`, `period_s` (infinite for a
        positive real eigenvalue) and `decay_s`, the time to decay to 1/e (infinite if the modulus is 1 or more).
    """
    values = np.linalg.eigvals(np.asarray(A, dtype=float))
    values = values[values.imag >= 0]
    rows = []
    for value in values[np.argsort(-np.abs(values), kind="stable")]:
        modulus, angle = float(np.abs(value)), float(np.abs(np.angle(value)))
        decays = 0 < modulus < 1
        rows.append(
            {
                "real": float(value.real),
                "imaginary": float(value.imag),
                "modulus": modulus,
                "period_s": 2 * np.pi * step / angle if angle > 1e-9 else float("inf"),
                "decay_s": -step / np.log(modulus) if decays else (0.0 if modulus == 0 else float("inf")),
            }
        )
    return rows


def plot_training(history: Mapping[str, Sequence[float]] | Any, ax: Axes | None = None) -> Axes:
    """Draw the loss after every epoch, on the training data and on the held-out blocks.

    Parameters
    ----------
    history : dict of sequences, or KalmanSSL
        As `KalmanSSL.history_`.
    ax : Axes, optional
    """
    from matplotlib.ticker import MaxNLocator

    ax = axes_or_new(ax)
    history = getattr(history, "history_", history)
    for key, color, label in (("loss", BLUE, "training data"), ("held_out_loss", ORANGE, "held-out blocks")):
        values = history.get(key, ())
        if len(values):
            ax.plot(1 + np.arange(len(values)), values, color=color, lw=1.4, marker=".", ms=5, label=label)
    ax.set(xlabel="epoch", ylabel="loss (nats per bin)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(ax, loc="best")
    return ax


def plot_gain(history: Mapping[str, Sequence[float]] | Any, ax: Axes | None = None) -> Axes:
    """Draw the held-out gain after every epoch, with a band of one standard error if that is known.

    It is how much better the past predicts the latents than their average does, which is the dashed line at zero.

    Parameters
    ----------
    history : dict of sequences, or KalmanSSL
        As `KalmanSSL.history_`, with `held_out_score`.
    ax : Axes, optional
    """
    from matplotlib.ticker import MaxNLocator

    ax = axes_or_new(ax)
    history = getattr(history, "history_", history)
    values, error = (np.asarray(history.get(f"held_out_{key}", ()), dtype=float) for key in ("score", "score_error"))
    if len(error) == len(values):
        ax.fill_between(1 + np.arange(len(values)), values - error, values + error, color=ORANGE, alpha=0.2, lw=0)
    ax.axhline(0, color=MUTED, lw=1, ls="--", label="average of the latents")
    ax.plot(1 + np.arange(len(values)), values, color=ORANGE, lw=1.4, marker=".", ms=5, label="held-out blocks")
    ax.set(xlabel="epoch", ylabel="gain (nats per bin)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(ax, loc="best")
    return ax
