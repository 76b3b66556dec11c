"""Pictures of representations and of what was read from them, in the manner of `kalmanssl.plotting`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.plotting._plots import BLUE, INK, MUTED
from kalmanssl.utils.arrays import as_floats, center_and_scale, check_features, check_labels
from kalmanssl.utils.validation import check_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_confusion", "plot_spectrum", "plot_tsne"]

_POINTS = 1000
_PERPLEXITY = 30.0


def plot_tsne(axes: Axes, z: Any, labels: Any, random_state: int | None = 0) -> Axes:
    """Draw representations as points in a plane, neighbors next to each other, colored by class.

    t-SNE of perplexity 30 (van der Maaten & Hinton 2008), as in the LDM paper's Fig. 3. Distances between groups and
    the sizes of groups mean nothing in it.

    Parameters
    ----------
    axes : Axes
    z : (samples, dims)
        At most 1000 of them are drawn, chosen at random.
    labels : (samples,)
        Numbers or names.
    random_state : int or None
        Seed of the choice and of the map.

    Raises
    ------
    InputError
        If shapes do not go together, something is NaN, there are 30 samples or fewer, or those drawn are all the same.
    """
    from sklearn.manifold import TSNE

    z = check_features("z", z, least=int(_PERPLEXITY) + 1)
    classes, number = np.unique(check_labels("labels", labels, len(z), least=1), return_inverse=True)
    check_seed(random_state)
    rng = np.random.default_rng(random_state)
    chosen = rng.permutation(len(z))[:_POINTS]
    seed = int(rng.integers(2**31))
    # Distances of which all are zero or infinite would end in a crash of the tree that t-SNE builds.
    drawn = center_and_scale("z", z[chosen])[0]
    start = "pca" if drawn.shape[1] > 1 else "random"
    place = TSNE(perplexity=_PERPLEXITY, init=start, random_state=seed).fit_transform(drawn / drawn.std())
    named = len(classes) <= 20
    colors = "tab10" if len(classes) <= 10 else "tab20" if named else "viridis"
    last = {"tab10": 9, "tab20": 19}.get(colors, len(classes) - 1)
    points = axes.scatter(
        place[:, 0], place[:, 1], c=number[chosen], cmap=colors, vmin=0, vmax=last, s=6, linewidths=0, alpha=0.8
    )
    if named:
        shown = points.to_rgba(np.arange(len(classes)), alpha=1)
        handles = [axes.plot([], [], ls="", marker=".", color=color)[0] for color in shown]
        axes.legend(handles, [str(c) for c in classes], frameon=False, labelcolor=INK, fontsize="small", ncols=2)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    return axes


def plot_spectrum(axes: Axes, spectrum: Any, label: str = "") -> Axes:
    """Draw the eigenvalues of a covariance from large to small; several spectra can be drawn into the same axes.

    Parameters
    ----------
    axes : Axes
    spectrum : (dims,)
        As `kalmanssl.probes.EffectiveDimension.spectrum`.
    label : str
        For the legend.

    Raises
    ------
    InputError
        If they are not numbers from 0 on, one of them positive.
    """
    values = as_floats("spectrum", spectrum)
    if values.ndim != 1 or not (np.isfinite(values) & (values >= 0)).all() or not values.any():
        raise InputError(f"spectrum must be finite, not negative and not all zero, (dims,); got {spectrum!r}")
    order = np.sort(values)[::-1]
    # Below the rounding of the largest there is nothing to see; a cliff shows as the end of the line.
    shown = order[order > 1e-16 * order[0]]
    drawn: dict[str, Any] = {"label": label} if label else {}
    axes.plot(1 + np.arange(len(shown)), shown, lw=1.4, marker="." if len(order) <= 32 else "", **drawn)
    axes.set(xlabel="dimension", ylabel="variance", yscale="log")
    if label:
        axes.legend(frameon=False, labelcolor=INK)
    return axes


def plot_confusion(axes: Axes, matrix: Any, classes: Sequence[Any], rows: str = "category") -> Axes:
    """Draw a table of counts with the share of each class in a column's color.

    Parameters
    ----------
    axes : Axes
    matrix : (categories, classes)
        Counts, as `kalmanssl.probes.CategoryMatching.confusion`; ``matrix[np.argsort(match.optimal)]`` has matched ones
        on the diagonal.
    classes : sequence
        Names of the columns.
    rows : str
        Name of the vertical axis.

    Raises
    ------
    InputError
        If the counts are not finite numbers from 0 on, or there are not as many names as columns.
    """
    from matplotlib.colors import to_rgb

    counts = as_floats("matrix", matrix)
    if counts.ndim != 2 or 0 in counts.shape or not (np.isfinite(counts) & (counts >= 0)).all():
        raise InputError(f"matrix must be counts (categories, classes), not negative; got shape {counts.shape}")
    if len(classes) != counts.shape[1]:
        raise InputError(f"classes has {len(classes)} names and matrix {counts.shape[1]} columns: give one for each")
    share = counts / np.maximum(counts.sum(axis=0), 1)
    # One color that fades away, so that it reads on a light and on a dark page.
    color = np.zeros((*share.shape, 4))
    color[..., :3] = to_rgb(BLUE)
    color[..., 3] = share
    axes.imshow(color, interpolation="nearest", aspect="auto")
    if share.size <= 400:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ink = "white" if share[row, column] > 0.6 else INK
                axes.text(column, row, f"{count:g}", ha="center", va="center", color=ink, fontsize="x-small")
    if len(classes) <= 20:
        axes.set_xticks(range(len(classes)), [str(c) for c in classes])
        axes.set_yticks(range(len(counts)))
    axes.tick_params(colors=INK, color=MUTED)
    axes.set(xlabel="class", ylabel=rows)
    return axes
