"""The pages of the documentation load nothing from other servers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

from docs.tools.offline_pages import loaded_from_servers, on_post_page

PAGE = SimpleNamespace(file=SimpleNamespace(src_path="index.md"))


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://unpkg.com/iframe-worker/shim">',
        "<script async src=//cdn.example/a.js>",
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<link href="https://fonts.example/css" rel="stylesheet">',
        '<img alt="" src="http://example.org/a.png">',
    ],
)
def test_a_page_that_loads_from_a_server_fails_the_build(tag):
    assert len(loaded_from_servers(f"<p>{tag}</p>")) == 1
    with pytest.raises(PluginError, match=r"index\.md loads a file from another server"):
        on_post_page(tag, PAGE, None)


def test_links_and_local_files_are_allowed():
    html = (
        '<a href="https://arxiv.org/abs/2605.03517">paper</a> <script src="assets/a.js"></script> '
        '<link rel="stylesheet" href="assets/a.css"> <link rel="canonical" href="https://example.org/">'
    )
    assert on_post_page(html, PAGE, None) == html
