"""Color maps that can be read on light and on dark pages.

All their colors have a contrast of at least 3 with white and with the dark page of the report, which WCAG 2.1 asks of
graphical objects (success criterion 1.4.11). This allows lightness from 46.5 to 61 in the color space CIELAB, so that
hue tells values apart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.colors import ListedColormap

__all__ = ["cyclic_colors", "sequential_colors"]

_COUNT = 256
# Lightness, green to red, blue to yellow: blue, purple, pink, gold. The last one always grows, which every kind of
# color vision can see.
_SEQUENCE = ((46.5, 0.0, -45.0), (50.0, 40.0, -38.0), (54.0, 55.0, 10.0), (61.0, 15.0, 58.0))


@lru_cache(maxsize=1)
def cyclic_colors() -> ListedColormap:
    """Return a color map for circular values that can be read on light and on dark pages.

    Hue goes once around the circle of the color space CIELAB. The lightness goes from 46.5 to 60.5 and back, so that
    opposite values also differ without colors.
    """
    angle = np.linspace(0, 2 * np.pi, _COUNT, endpoint=False)
    lightness = 53.5 - 7.0 * np.cos(angle)
    return _color_map("cyclic", np.stack([lightness, 34 * np.cos(angle + 2.5), 38 * np.sin(angle + 2.5)], axis=1))


@lru_cache(maxsize=1)
def sequential_colors() -> ListedColormap:
    """Return a color map from blue over purple and pink to gold that can be read on light and on dark pages.

    The lightness grows from 46.5 to 61 in the color space CIELAB.
    """
    share, points = np.linspace(0, 1, _COUNT), np.array(_SEQUENCE)
    known = np.linspace(0, 1, len(points))
    return _color_map("sequential", np.stack([np.interp(share, known, column) for column in points.T], axis=1))


def _color_map(name: str, lab: np.ndarray) -> ListedColormap:
    """Return the color map of colors (count, 3) in CIELAB with the white point D65, clipped to sRGB."""
    from matplotlib.colors import ListedColormap

    whole = (lab[:, 0] + 16) / 116
    ratio = np.stack([whole + lab[:, 1] / 500, whole, whole - lab[:, 2] / 200], axis=1)
    limit = 6 / 29
    xyz = np.where(ratio > limit, ratio**3, 3 * limit**2 * (ratio - 4 / 29)) * [0.95047, 1.0, 1.08883]
    linear = xyz @ np.array([[3.2406, -0.9689, 0.0557], [-1.5372, 1.8758, -0.2040], [-0.4986, 0.0415, 1.0570]])
    linear = np.clip(linear, 0.0, 1.0)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return ListedColormap(np.clip(rgb, 0.0, 1.0), name=name)
