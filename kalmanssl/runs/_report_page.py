"""The frame of the report: style sheet, and the few pieces of HTML that it is put together from."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from kalmanssl.plotting import figure_to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["drawing", "page", "section", "table", "tiles"]

_STYLE = """
:root { --ink: #1b1c1e; --muted: #686c72; --line: #d9dbde; --page: #f5f5f3; --card: #ffffff; --quiet: #85888c;
  --blue: #0072b2; --orange: #d55e00; --green: #009e73; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --muted: #a3a7ad; --line: #3a3d42;
  --page: #17181a; --card: #202225; --blue: #56b4e9; --orange: #f0883e; --green: #2fc79a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .35rem; }
p { margin: .3rem 0 .8rem; max-width: 46rem; }
.lead, .note, figcaption, small { color: var(--muted); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1.4rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.25;
  white-space: nowrap; }
.tile span { display: block; color: var(--muted); font-size: .85rem; line-height: 1.35; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1.1rem 1.25rem;
  margin: 1rem 0; }
.wide { overflow-x: auto; }
.wide svg { min-width: 40rem; }
svg { display: block; width: 100%; height: auto; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1.25rem;
  align-items: start; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .28rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--muted); }
tr:last-child td { border-bottom: 0; }
ul { padding-left: 1.1rem; margin: .3rem 0; }
footer { color: var(--muted); font-size: .85rem; margin-top: 1.5rem; }
@media (max-width: 40rem) { main { padding: 1.2rem .7rem 2rem; } section { padding: .8rem .8rem; }
  .tile b { font-size: 1.2rem; } }
@media print { :root { --page: #ffffff; } body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  section, .tile { break-inside: avoid; border-color: #bbbbbb; } .scroll { overflow: visible; }
  table { font-size: .75rem; } th, td { padding: .2rem .3rem; } .wide svg { min-width: 0; } }
"""


def page(title: str, body: str, language: str = "en") -> str:
    """Make a whole document of the body, with the style inside and nothing to be fetched."""
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def section(name: str, title: str, *parts: str) -> str:
    """One card of the page; `name` is its anchor."""
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n' + "\n".join(parts) + "\n</section>"


def table(rows: Sequence[Sequence[str]], words: bool = False) -> str:
    """Table of text; the first row is the heading, or with `words` a list of names and what they are."""
    cell = '<td class="text">' if words else "<td>"
    head = [] if words else ["<tr>" + "".join(f"<th>{escape(c)}</th>" for c in rows[0]) + "</tr>"]
    lines = head + [
        f"<tr><td>{escape(row[0])}</td>" + "".join(f"{cell}{escape(c)}</td>" for c in row[1:]) + "</tr>"
        for row in rows[len(head) :]
    ]
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def tiles(items: Sequence[tuple[str, str]]) -> str:
    """Numbers to see first: (number, what it is)."""
    inner = "".join(f'<div class="tile"><b>{escape(n)}</b><span>{escape(what)}</span></div>' for n, what in items)
    return f'<div class="tiles">{inner}</div>'


def drawing(name: str, axes: Axes, says: str, wide: bool = False) -> str:
    """Inline picture of the figure that the axes are in; ink and lines take the colors of the page.

    Parameters
    ----------
    name : str
        Put before every id in the SVG, so that those of several pictures do not meet.
    axes : Axes
    says : str
        What the picture shows, for those who cannot see it.
    wide : bool
        Let it scroll sideways on a narrow screen instead of shrinking beyond legibility.
    """
    svg = figure_to_svg(axes, name=name, description=says)
    return f'<figure style="margin:0"{" class=wide" if wide else ""}>{svg}</figure>'
