"""Short summaries of objects: one line of text for `repr`, and a small table for notebooks."""

from __future__ import annotations

from html import escape

__all__ = ["HtmlSummary", "Summary"]

_LEFT = ' style="text-align: left"'


class HtmlSummary:
    """Show an object in a notebook as a small table of what `_summary` returns."""

    def _summary(self) -> list[tuple[str, str]]:
        """Return names and values, the most important ones first."""
        raise NotImplementedError

    def _picture(self) -> tuple[str, str, str] | None:
        """Return a name, a small picture as SVG and what it shows, for the last row of the table, or None."""
        return None

    def _repr_html_(self) -> str:
        """Return the table as HTML; notebooks call this."""
        rows = "".join(
            f"<tr><th{_LEFT}>{escape(name)}</th><td{_LEFT}>{escape(value)}</td></tr>" for name, value in self._summary()
        )
        picture = self._picture()
        if picture is not None:
            name, svg, text = picture
            rows += f"<tr><th{_LEFT}>{escape(name)}</th><td{_LEFT}>{svg}<br/><small>{escape(text)}</small></td></tr>"
        return f"<table><caption{_LEFT}><b>{escape(type(self).__name__)}</b></caption>{rows}</table>"


class Summary(HtmlSummary):
    """The same, and `repr` is one line with these names and values."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'; '.join(f'{name} {value}' for name, value in self._summary())})"
