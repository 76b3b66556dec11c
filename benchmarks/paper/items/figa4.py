"""Fig. A4: frames with different amounts of noise, which the model infers."""

import numpy as np
from matplotlib.figure import Figure

from paper.drawing import bars, first_drawn, panels
from paper.fits import fit_part
from paper.item import Item, Rows, Target
from paper.kalman_measures import dynamics, position_intervals

__all__ = ["ITEM"]

MEASURES = (dynamics, position_intervals)
STOPGRAD = fit_part("noise", "stop-gradient", measures=MEASURES)
KNN = fit_part("noise", "kNN", measures=MEASURES)
CONSTANT = fit_part("noise", "stop-gradient, constant noise", measures=MEASURES)
EXACT = fit_part("noise", "exact filter, knows the system")
RANDOM = fit_part("noise", "random weights")
LINEAR = fit_part("noise", "PCA + Kalman")


def _draw(rows: Rows) -> list[Figure]:
    figure, axes = panels(3, 4.6, 3.2)
    parts = (STOPGRAD, KNN, CONSTANT, EXACT, LINEAR, RANDOM)
    bars(axes[0], rows, [(part.name.split(": ")[1], part.name, "r2") for part in parts], "R² of the position")
    levels = first_drawn(rows, STOPGRAD.name, "noise_levels")
    if levels:
        axes[1].plot(*np.transpose(levels), ".", markersize=2, alpha=0.4)
        axes[1].set(xlabel="variance of the pixels", ylabel="inferred variance of the latents")
    interval = first_drawn(rows, STOPGRAD.name, "interval")
    if interval:
        true, mean, sd, variance = np.transpose(interval)
        axes[2].fill_between(range(len(mean)), mean - 1.96 * sd, mean + 1.96 * sd, alpha=0.3, label="95 % interval")
        axes[2].plot(mean, linewidth=0.8, label="decoded")
        axes[2].plot(true, "k", linewidth=0.8, label="true")
        axes[2].plot(variance - 2.5, color="gray", linewidth=0.8, label="pixel variance - 2.5")
        axes[2].set(xlabel="frame", ylabel="first coordinate")
        axes[2].legend(frameon=False, fontsize=7)
    return [figure]


ITEM = Item(
    name="figA4",
    figure="Fig. A4",
    title="Noise that differs between frames",
    shown="A network infers the noise of each frame, and the filter trusts clear frames more; intervals of the "
    "decoded position (W P W') are wide where frames are noisy.",
    parts=(STOPGRAD, KNN, CONSTANT, EXACT, LINEAR, RANDOM),
    targets=(
        Target(
            "stop-gradient: R² of the position",
            STOPGRAD.name,
            "r2",
            0.959,
            "notebook (one test video)",
            baseline=(LINEAR.name, "r2"),
            why="Ours are scored on new trajectories.",
        ),
        Target("kNN: R² of the position", KNN.name, "r2", baseline=(LINEAR.name, "r2"), why="Not in the paper."),
        Target(
            "constant noise: R² of the position",
            CONSTANT.name,
            "r2",
            baseline=(RANDOM.name, "r2"),
            why="What the inferred noise is worth.",
        ),
        Target(
            "exact filter that knows the system: R²",
            EXACT.name,
            "r2",
            baseline=(RANDOM.name, "r2"),
            why="Bayes' rule with the true system: the maximum for any model.",
        ),
        Target(
            "stop-gradient: correlation of inferred and true noise",
            STOPGRAD.name,
            "noise_correlation",
            why="The paper shows it in a figure only.",
        ),
        Target(
            "stop-gradient: spectral radius of A",
            STOPGRAD.name,
            "spectral_radius",
            0.974,
            "notebook",
            "equal",
            why="The process noise makes rotation and decay compete.",
        ),
        Target(
            "stop-gradient: coverage of 95 % intervals, W P W'",
            STOPGRAD.name,
            "coverage_95",
            goal=0.95,
            why="Fig. A4C shows intervals without a number. Variance of the filter alone, as in the paper.",
        ),
        Target(
            "stop-gradient: coverage with the error of the decoder",
            STOPGRAD.name,
            "coverage_95_residual",
            goal=0.95,
            why="With the residual variance of the decoder, which counts part of the error twice.",
        ),
        Target(
            "stop-gradient: correlation of error and width",
            STOPGRAD.name,
            "error_width_correlation",
            why="Wide intervals where errors are large.",
        ),
    ),
    draw=_draw,
    found="The noise of the frames is inferred, and R² is between that of constant noise and that of the exact "
    "filter. The intervals of the filter alone are too narrow, since W P W' leaves out the error of the encoder and "
    "of the decoder.",
)
