"""Figures of representations and of probes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.plotting._color_maps import sequential_colors
from kalmanssl.plotting._style import INK, MUTED, add_legend, axes_or_new, transparent_image
from kalmanssl.utils.arrays import as_floats, center_and_scale, check_features, check_labels
from kalmanssl.utils.labels import label_text
from kalmanssl.utils.validation import check_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_confusion", "plot_spectrum", "plot_tsne"]

_POINTS = 1000
_PERPLEXITY = 30.0


def plot_tsne(z: Any, labels: Any, random_state: int | None = 0, ax: Axes | None = None) -> Axes:
    """Draw a two-dimensional t-SNE embedding of representations, colored by class.

    The perplexity is 30 (van der Maaten & Hinton 2008), as in the LDM paper's Fig. 3. Distances between groups and
    the sizes of groups in the figure have no meaning.

    Parameters
    ----------
    z : (samples, dims)
        At most 1000 samples are drawn, chosen at random.
    labels : (samples,)
        Numbers or names of classes.
    random_state : int or None
        Seed of the choice of samples and of t-SNE.
    ax : Axes, optional

    Raises
    ------
    InputError
        If the shapes do not match, a value is NaN, there are 30 samples or fewer, or all drawn samples are equal.
    """
    from sklearn.manifold import TSNE

    z = check_features("z", z, minimum=int(_PERPLEXITY) + 1)
    classes, number = np.unique(check_labels("labels", labels, len(z), minimum=1), return_inverse=True)
    check_seed(random_state)
    rng = np.random.default_rng(random_state)
    chosen = rng.permutation(len(z))[:_POINTS]
    seed = int(rng.integers(2**31))
    # t-SNE crashes if all distances are zero or infinite.
    drawn = center_and_scale("z", z[chosen])[0]
    start = "pca" if drawn.shape[1] > 1 else "random"
    place = TSNE(perplexity=_PERPLEXITY, init=start, random_state=seed).fit_transform(drawn / drawn.std())
    ax = axes_or_new(ax)
    named = len(classes) <= 20
    colors: Any = "tab10" if len(classes) <= 10 else "tab20" if named else sequential_colors()
    last = {"tab10": 9, "tab20": 19}[colors] if named else len(classes) - 1
    points = ax.scatter(
        place[:, 0], place[:, 1], c=number[chosen], cmap=colors, vmin=0, vmax=last, s=6, linewidths=0, alpha=0.8
    )
    if named:
        shown = points.to_rgba(np.arange(len(classes)), alpha=1)
        handles = [ax.plot([], [], ls="", marker=".", color=color)[0] for color in shown]
        add_legend(ax, handles=handles, labels=[label_text(c) for c in classes], fontsize="small", ncols=2)
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    return ax


def plot_spectrum(spectrum: Any, label: str = "", ax: Axes | None = None) -> Axes:
    """Draw the eigenvalues of a covariance from large to small; several spectra can be drawn into the same ax.

    Parameters
    ----------
    spectrum : (dims,)
        As `kalmanssl.probes.EffectiveDimension.spectrum`.
    label : str
        For the legend.
    ax : Axes, optional

    Raises
    ------
    InputError
        If the values are not finite and non-negative, or all are zero.
    """
    values = as_floats("spectrum", spectrum)
    if values.ndim != 1 or not (np.isfinite(values) & (values >= 0)).all() or not values.any():
        raise InputError(
            f"spectrum must be finite, not negative and not all zero, (dims,); got {spectrum!r}", parameter="spectrum"
        )
    ax = axes_or_new(ax)
    order = np.sort(values)[::-1]
    # Values below the rounding error of the largest are not drawn.
    shown = order[order > 1e-16 * order[0]]
    drawn: dict[str, Any] = {"label": label} if label else {}
    ax.plot(1 + np.arange(len(shown)), shown, lw=1.4, marker="." if len(order) <= 32 else "", **drawn)
    ax.set(xlabel="dimension", ylabel="variance", yscale="log")
    if label:
        add_legend(ax)
    return ax


def plot_confusion(matrix: Any, classes: Sequence[Any], rows: str = "category", ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix: the numbers are counts, the opacity is the share of each class (column).

    Parameters
    ----------
    matrix : (categories, classes)
        Counts, as `kalmanssl.probes.CategoryMatching.confusion`; ``matrix[np.argsort(match.optimal)]`` has matched ones
        on the diagonal.
    classes : sequence
        Names of the columns.
    rows : str
        Name of the vertical axis.
    ax : Axes, optional

    Raises
    ------
    InputError
        If the counts are not finite and non-negative, or the number of names differs from the number of columns.
    """
    counts = as_floats("matrix", matrix)
    if counts.ndim != 2 or 0 in counts.shape or not (np.isfinite(counts) & (counts >= 0)).all():
        raise InputError(
            f"matrix must be counts (categories, classes), not negative; got shape {counts.shape}", parameter="matrix"
        )
    if len(classes) != counts.shape[1]:
        raise InputError(
            f"classes has {len(classes)} names and matrix {counts.shape[1]} columns: give one for each",
            parameter="classes",
        )
    share = counts / np.maximum(counts.sum(axis=0), 1)
    ax = axes_or_new(ax)
    ax.imshow(transparent_image(share), interpolation="nearest", aspect="auto")
    if share.size <= 400:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ink = "white" if share[row, column] > 0.6 else INK
                ax.text(column, row, f"{count:g}", ha="center", va="center", color=ink, fontsize="x-small")
    if len(classes) <= 20:
        ax.set_xticks(range(len(classes)), [label_text(c) for c in classes])
        ax.set_yticks(range(len(counts)))
    ax.tick_params(colors=INK, color=MUTED)
    ax.set(xlabel="class", ylabel=rows)
    return ax
