"""HTML pages from templates, each in one file with its style and figures."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from kalmanssl.plotting import figure_to_svg
from kalmanssl.runs._text import duration
from kalmanssl.utils.text import time_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["render_page"]

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, values: dict[str, Any], folder: str | os.PathLike[str] | None = None) -> str:
    """Render an HTML page that loads no other file.

    Parameters
    ----------
    template : str
        File name of a Jinja template. It can extend ``base.html.jinja``, which has the style and shows `title`, and
        import the macros of ``macros.html.jinja``. Besides Jinja's own filters there are ``axes | svg(name,
        description)`` for a figure in the colors of the page, ``figure | png`` for the address of an image, and
        ``time | seconds`` and ``length | duration``.
    values : dict
        Variables of the template. Text is escaped.
    folder : path, optional
        Folder of the template. By default the template is one of this package.

    Raises
    ------
    jinja2.TemplateError
        If the template is missing or invalid, or uses a variable that is not among `values`.
    """
    folders = [_TEMPLATES] if folder is None else [Path(folder), _TEMPLATES]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": _svg, "png": _png, "seconds": _seconds, "duration": duration}
    return environment.get_template(template).render(values)


def _seconds(time: float) -> str:
    """Return a time to a hundredth of a second, which is enough to find it in a recording."""
    return time_text(round(time, 2))


def _svg(axes: Axes, name: str, description: str) -> Markup:
    """Return the figure that contains the axes as an SVG element, see `figure_to_svg`."""
    return Markup(figure_to_svg(axes, name=name, description=description))


def _png(figure: Figure) -> str:
    """Return a figure as the address of an embedded PNG image. With 256 colors it has a third of the size."""
    from PIL import Image

    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
