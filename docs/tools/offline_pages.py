"""Check that the pages load nothing from other servers, so that they can be read without a network."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.exceptions import PluginError

_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\ssrc=["']?(?:https?:)?//[^\s"'>]+"""
    r"""|<link\b(?=[^>]*\srel=["']?(?:stylesheet|preload|icon))[^>]*\shref=["']?(?:https?:)?//[^\s"'>]+""",
    re.IGNORECASE,
)


def loaded_from_servers(html: str) -> list[str]:
    """Return the tags of a page, up to their address, that load a file from another server."""
    return _LOADED.findall(html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Fail the build if a page loads a file from another server."""
    if found := loaded_from_servers(output):
        raise PluginError(f"{page.file.src_path} loads a file from another server: {found[0]}")
    return output
