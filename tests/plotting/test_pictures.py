"""Figures look as in the stored pictures, which were looked at.

The pictures have no text, since its pixels depend on the version of the font library. After a change that is meant,
``python tests/plotting/test_pictures.py`` writes them anew; look at them before they are committed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.testing.compare import compare_images

from kalmanssl import plotting

STORED = Path(__file__).parent / "pictures"
TOLERANCE = 4.0  # root mean square of the difference of 8-bit colors; another rasterizer gives about 1
TIME = np.arange(120) * 0.25
TRACKED = 1.0 + np.sin(TIME / 3)
DECODED = TRACKED + 0.15 * np.sin(5 * TIME)


def small(width: float = 2.4, height: float = 1.6) -> Axes:
    return plotting.new_axes(width, height)[0]


def decoded() -> Axes:
    moving = (TIME % 10) < 6
    width = np.where(moving, 0.25, 0.5)
    return plotting.plot_decoded(
        TIME, DECODED, DECODED - width, DECODED + width, TRACKED, where=moving, hatched=True, usual=(0.1, 1.9),
        ax=small(),
    )  # fmt: skip


def decoded_angle() -> Axes:
    angle = (0.5 * TIME) % 6.0
    return plotting.plot_decoded(TIME, angle, angle - 0.6, angle + 0.6, (angle + 0.3) % 6.0, period=6.0, ax=small())


def turns() -> Axes:
    angle = (0.4 * TIME) % 6.0
    angle[60:] = (angle[60:] + 2.0) % 6.0  # a jump that no line may cross
    return plotting.plot_turns(TIME, angle, angle - 0.4, angle + 0.4, (angle + 0.2) % 6.0, period=6.0, ax=small(2, 2))


def trajectory() -> Axes:
    way = np.stack([np.cos(TIME / 5), np.sin(TIME / 5)], axis=1)
    centers = np.linspace(-1.5, 1.5, 31)
    x, y = np.meshgrid(centers, centers, indexing="ij")
    moments = np.array([20, 80])
    regions = np.stack([np.hypot(x - way[m, 0], y - way[m, 1]) < 0.4 for m in moments])
    return plotting.plot_map(
        way + 0.1, way, regions=regions, cells=(centers, centers), moments=moments, ax=small(2, 2)
    )  # fmt: skip


def latents() -> Axes:
    values = np.stack([np.cos(TIME), np.sin(TIME), TIME / 30], axis=1)
    return plotting.plot_latents(values, TIME, dims=(0, 2), explained=[0.5, 0.3, 0.2], ax=small())


def latents_on_a_circle() -> Axes:
    values = np.stack([np.cos(TIME), np.sin(TIME)], axis=1)
    return plotting.plot_latents(values, TIME, period=2 * np.pi, ax=small())


def calibration() -> Axes:
    nominal = np.linspace(0.1, 0.9, 9)
    curves = {
        name: {"nominal": nominal, "empirical": nominal**power, "error": np.full(9, 0.03)}
        for name, power in (("moving bins", 1.3), ("bins at rest", 0.8))
    }
    return plotting.plot_calibration(curves, ax=small(2, 2))


def error_by_time() -> Axes:
    errors = np.stack([1 + np.sin(TIME[::8]), 2 + np.cos(TIME[::8])], axis=1)
    return plotting.plot_error_by_time(TIME[::8], errors, ("moving", "at rest"), reference=2.5, ax=small())


def error_map() -> Axes:
    edges = np.stack([np.linspace(0, 1, 7)] * 2)
    error = np.add.outer(np.arange(6.0), 0.5 * np.arange(6.0))
    error[4:, :2] = np.nan
    return plotting.plot_error_map(edges, error, ax=small(2, 1.6))


def raster() -> Axes:
    counts = (np.add.outer(np.arange(120), 7 * np.arange(12)) % 23 == 0).astype(int)
    return plotting.plot_raster(counts, TIME, ax=small())


def eigenvalues() -> Axes:
    return plotting.plot_eigenvalues(np.array([[0.9, 0.3, 0], [-0.3, 0.9, 0], [0, 0, 0.5]]), ax=small(2, 2))


FIGURES: list[Callable[[], Axes]] = [
    decoded, decoded_angle, turns, trajectory, latents, latents_on_a_circle, calibration, error_by_time, error_map,
    raster, eigenvalues,
]  # fmt: skip


def draw(figure: Callable[[], Axes], path: Path) -> None:
    """Draw a figure without text to a small PNG file."""
    with mpl.rc_context(mpl.rcParamsDefault):
        drawn = plotting.figure_of(figure())
        for ax in drawn.axes:
            ax.set(xlabel="", ylabel="", title="")
            ax.tick_params(labelbottom=False, labelleft=False, labelright=False)
            for text in list(ax.texts):
                text.remove()
            if (legend := ax.get_legend()) is not None:
                legend.remove()
        drawn.savefig(path, dpi=60, facecolor="white", metadata={"Software": None})


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_figure_looks_as_stored(figure: Callable[[], Axes], tmp_path: Path) -> None:
    path = tmp_path / f"{figure.__name__}.png"
    draw(figure, path)
    assert compare_images(str(STORED / path.name), str(path), tol=TOLERANCE) is None


def test_the_comparison_sees_small_changes(tmp_path: Path) -> None:
    def changed() -> Axes:
        return plotting.plot_error_by_time(TIME[::8], 1.3 + np.sin(TIME[::8]), ("moving",), ax=small())

    draw(changed, tmp_path / "error_by_time.png")
    found = compare_images(str(STORED / "error_by_time.png"), str(tmp_path / "error_by_time.png"), tol=TOLERANCE)
    assert found is not None
    assert "RMS" in found


if __name__ == "__main__":
    STORED.mkdir(exist_ok=True)
    for one in FIGURES:
        draw(one, STORED / f"{one.__name__}.png")
