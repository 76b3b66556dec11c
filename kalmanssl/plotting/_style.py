"""Colors and axes that all figures share.

Blue, orange and green are from the palette of Okabe and Ito, which can be told apart with any color vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.plotting._degrees import place_at_degrees, show_degrees
from kalmanssl.utils.measurement_units import in_degrees
from kalmanssl.utils.segments import segment_slices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

__all__ = [
    "BLUE", "CSS_VARIABLES", "GREEN", "INK", "MUTED", "ORANGE",
    "add_color_bar", "add_legend", "axes_or_new", "draw_over_time", "figure_of", "label_axis", "new_axes",
    "transparent_image",
]  # fmt: skip

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
# Unusual values: `figure_to_svg` replaces them in the text of an SVG, where no other element may have the same color.
INK, MUTED = "#1b1c1e", "#85888c"
# A page defines these CSS variables for its light and its dark appearance.
CSS_VARIABLES = {INK: "ink", MUTED: "quiet", BLUE: "blue", ORANGE: "orange", GREEN: "green"}


def new_axes(width: float = 4.4, height: float = 3.6, rows: Sequence[float] = (1,), **layout: Any) -> list[Axes]:
    """Create a figure without pyplot, with axes in one column that share the horizontal axis.

    A notebook shows the figure where one of the axes is the value of a cell.

    Parameters
    ----------
    width, height : float
        Inches.
    rows : sequence of float
        Relative heights of the axes, from top to bottom.
    **layout
        Passed to `matplotlib.figure.Figure.subplots`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from kalmanssl.plotting._shown_axes import ShownAxes

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    layout = {"subplot_kw": {"axes_class": ShownAxes}} | layout
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=list(rows), **layout)[:, 0]
    for ax in axes:
        _apply_style(ax)
    return list(axes)


def axes_or_new(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure if it is None."""
    return new_axes()[0] if ax is None else ax


def _apply_style(ax: Axes) -> None:
    """Set the colors and hide the upper and right spines."""
    ax.set_facecolor("none")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    ax.tick_params(colors=INK, which="both", color=MUTED)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    ax.title.set_color(INK)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that contains the axes.

    Raises
    ------
    InputError
        If the axes belong to no figure.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        raise InputError("ax belongs to no figure: create it with new_axes()", parameter="ax")
    return figure


def add_legend(ax: Axes, **options: Any) -> None:
    """Add a legend without a frame."""
    ax.legend(frameon=False, labelcolor=INK, **options)


def add_color_bar(drawn: ScalarMappable, ax: Axes, name: str, unit: str, extend: str = "neither") -> Colorbar:
    """Add a color bar without a frame for what is drawn in the axes, and return it; its colors are opaque.

    With `extend` "max", its upper end is an arrow: larger values have the same color.
    """
    bar = figure_of(ax).colorbar(drawn, ax=ax, shrink=0.8, extend=extend)
    label_axis(bar.ax.yaxis, name, unit)
    bar.ax.tick_params(colors=INK, color=MUTED)
    bar.ax.yaxis.label.set_color(INK)
    bar.outline.set_visible(False)
    bar.ax.collections[-1].set_alpha(1)
    return bar


def label_axis(axis: Axis, name: str, unit: str) -> None:
    """Label an axis "name (unit)", or with the name alone if the unit is unknown; underscores become spaces.

    What is drawn in radians stays in radians, but the ticks and the label are in degrees.
    """
    shown = name.replace("_", " ")
    if (angle := in_degrees(unit)) is not None:
        factor, unit = angle
        if factor != 1:
            show_degrees(axis)
        elif unit == "°":
            place_at_degrees(axis)
    axis.set_label_text(f"{shown} ({unit})" if unit else shown)


def draw_over_time(ax: Axes, time: np.ndarray, share: np.ndarray, first: float) -> None:
    """Draw shares (time, rows) between 0 and 1 as opacity; the first row is centered at `first`, gaps are blank."""
    half = 0.5 * float(np.median(np.diff(time))) if len(time) > 1 else 0.5
    image = transparent_image(share.T)
    for segment in segment_slices(time):
        start, stop = time[segment][[0, -1]].tolist()
        extent = (start - half, stop + half, first - 0.5, first + share.shape[1] - 0.5)
        ax.imshow(image[:, segment], extent=extent, origin="lower", interpolation="nearest", aspect="auto")
    ax.set(xlim=(time[0] - half, time[-1] + half))


def transparent_image(share: np.ndarray) -> np.ndarray:
    """Return shares between 0 and 1 as an RGBA image: blue with that opacity, legible on light and dark pages."""
    from matplotlib.colors import to_rgb

    image = np.zeros((*share.shape, 4))
    image[..., :3] = to_rgb(BLUE)
    image[..., 3] = share
    return image
