"""Axes that a notebook shows."""

from __future__ import annotations

import io

from matplotlib.axes import Axes

__all__ = ["ShownAxes"]

_DPI = 100


class ShownAxes(Axes):
    """Axes of a figure without pyplot: a notebook shows the figure where they are the value of a cell."""

    def _repr_png_(self) -> bytes:
        """Return the figure as PNG on white, since its text is dark; notebooks call this."""
        buffer = io.BytesIO()
        figure = self.get_figure(root=True)
        if figure is not None:
            figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
        return buffer.getvalue()
