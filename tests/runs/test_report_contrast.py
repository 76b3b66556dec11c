"""Colors of the report can be told from its background, as WCAG 2.1 asks (criteria 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from kalmanssl import plotting

TEXT, GRAPHICS = 4.5, 3.0


def luminance(colors: np.ndarray) -> np.ndarray:
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(colors: np.ndarray, background: str) -> np.ndarray:
    one, other = luminance(np.asarray(colors)) + 0.05, luminance(np.array(to_rgb(background))) + 0.05
    return np.maximum(one / other, other / one)


@pytest.fixture(params=["light", "dark"])
def page(request):
    """The variables of the style sheet by their names."""
    style = files("kalmanssl.runs.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    found = dict(re.findall(r"--([\w-]+): (#\w{6}|var\(--[\w-]+\))", " ".join(blocks[: 1 + (request.param == "dark")])))
    for name, value in found.items():
        if value.startswith("var"):
            found[name] = found[value[6:-1]]
    return found


@pytest.mark.parametrize("name", ["ink", "muted", "orange-text", "green-text", "blue"])
def test_text_is_legible(page, name):
    for background in ("panel", "page"):
        assert contrast(to_rgb(page[name]), page[background]) >= TEXT


@pytest.mark.parametrize("name", ["blue", "orange", "green", "quiet"])
def test_lines_of_figures_are_visible(page, name):
    assert contrast(to_rgb(page[name]), page["panel"]) >= GRAPHICS


@pytest.mark.parametrize("name", ["sequential_colors", "cyclic_colors"])
def test_points_of_figures_are_visible_whatever_their_value(page, name):
    colors = getattr(plotting, name)()(np.linspace(0, 1, 256))[:, :3]
    assert contrast(colors, page["panel"]).min() >= GRAPHICS


def test_colors_grow_lighter_with_the_value_and_close_for_angles():
    steps = np.linspace(0, 1, 256, endpoint=False)
    assert (np.diff(luminance(plotting.sequential_colors()(steps)[:, :3])) > 0).all()
    cyclic = plotting.cyclic_colors()(steps)[:, :3]
    apart = np.linalg.norm(np.diff(np.concatenate([cyclic, cyclic[:1]]), axis=0), axis=1)
    assert apart.max() < 0.06  # also from the last to the first
    # Opposite angles differ without colors, as far as the contrast with both pages allows.
    assert np.abs(luminance(cyclic) - np.roll(luminance(cyclic), 128)).max() > 0.12
