"""Fig. A2: rank and singular values of the Jacobian of the encoder, and cosines of gradients, over the training."""

import numpy as np
from images.combinations import COMBINATIONS
from matplotlib.figure import Figure

from paper.drawing import curves, first_drawn, panels
from paper.item import Item, Rows, Target
from paper.items.table2 import DIGITS, NAMES

__all__ = ["ITEM"]

PLOT = "plot (values read off, CIFAR-100)"
# Ends of the curves for CIFAR-100.
COSINES = {
    "Euclidean KDE": 0.55,
    "Euclidean KDE + MI": 0.54,
    "Euclidean kNN": 0.53,
    "Euclidean kNN + MI": 0.55,
    "VICReg-LDM": -0.15,
    "VICReg": 0.85,
    "sphere KDE + MI": 0.37,
    "sphere kNN + MI": 0.67,
    "sphere log-determinant": 0.93,
}
DIFFERENT = "Other images and encoder, see above."
SHOWN = ("Euclidean KDE", "Euclidean kNN", "VICReg", "sphere KDE", "sphere kNN", "sphere log-determinant")


def _targets() -> list[Target]:
    found = []
    for name in NAMES:
        part = DIGITS[name].name
        if COMBINATIONS[name].partner:
            why = DIFFERENT if name in COSINES else "No curve to read."
            source = PLOT if name in COSINES else ""
            found.append(
                Target(
                    f"{name}: cosine at the end",
                    part,
                    "cosine_last",
                    COSINES.get(name),
                    source,
                    "equal",
                    0.1,
                    why=why,
                )
            )
        found.append(
            Target(
                f"{name}: rank of the Jacobian at the end",
                part,
                "rank_last",
                baseline=(part, "rank_first"),
                why="The paper shows it in a figure only. Baseline: random weights. At most 64, the pixels.",
            )
        )
        found.append(
            Target(
                f"{name}: log-determinant at the end",
                part,
                "log_det_last",
                baseline=(part, "log_det_first"),
                why="Of J J' + 1e-6; the paper shows it in a figure only. Baseline: random weights.",
            )
        )
    return found


def _draw(rows: Rows) -> list[Figure]:
    figure, axes = panels(3, 5.2, 3.6)
    parts = [DIGITS[name].name for name in NAMES]
    curves(axes[0], rows, parts, "rank", "epoch", "rank of the Jacobian")
    curves(axes[1], rows, parts, "log_det", "epoch", "log det(J J' + 1e-6)")
    curves(axes[2], rows, [DIGITS[n].name for n in NAMES if COMBINATIONS[n].partner], "cosine", "epoch", "cosine")
    second, more = panels(len(SHOWN), 2.8, 2.8)
    for ax, name in zip(more, SHOWN, strict=True):
        for epoch, values in first_drawn(rows, DIGITS[name].name, "singular") or ():
            ax.semilogy(np.maximum(values, 1e-6), label=f"epoch {epoch}", linewidth=1)
        ax.set_title(name, fontsize=8)
        ax.set(xlabel="number", ylabel="singular value")
    if more[-1].lines:
        more[-1].legend(frameon=False, fontsize=6)
    return [figure, second]


ITEM = Item(
    name="figA2",
    figure="Fig. A2",
    title="The encoder becomes invertible, and both entropies agree",
    shown="Over the training the Jacobian of backbone and projector gains rank (A), and the gradients of the "
    "entropies with and without mutual information point in similar directions (B).",
    parts=tuple(DIGITS.values()),
    targets=tuple(_targets()),
    draw=_draw,
    found="The rank of the Jacobian grows in every combination, and all cosines are positive at the end. Their sizes "
    "are not those of the paper, most are higher: ours are for digits, a small encoder and narrow kernels instead of "
    "CIFAR-100 and ResNet-18. The claim, a positive cosine, holds where it is above 0.",
)
