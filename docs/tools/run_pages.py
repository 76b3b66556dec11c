"""Run the Python code of the pages, and keep the pictures that it saves for the build.

``python docs/tools/run_pages.py`` runs the pages that changed, or all of them if the library changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "pages"
PICTURES = ROOT / "build" / "pictures"
STAMP = "made_from"  # file beside the pictures of a page with the hash of what they were made from


def pages_with_code() -> list[Path]:
    """Return the pages that have Python code."""
    return [page for page in sorted(PAGES.glob("*.md")) if code_blocks(page)]


def code_blocks(page: Path) -> list[tuple[str, str]]:
    """Return the Python code of a page, one pair per block: the package that it needs, or "", and the code."""
    found = re.findall(r"^(?:<!-- needs: (\w+) -->\n)?```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [(package, code) for package, code in found]


def source_hash(page: Path) -> str:
    """Return a hash of the page and of the library."""
    found = hashlib.sha256(page.read_bytes())
    for folder in ("kalmanssl", "datasets"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def run_page(page: Path) -> str:
    """Run the blocks of a page one after another in an empty folder, keep its pictures, and return what it printed."""
    names: dict[str, object] = {"__name__": "__main__"}
    printed = io.StringIO()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(printed):
                for number, (package, code) in enumerate(code_blocks(page), start=1):
                    if package and find_spec(package) is None:
                        print(f"BLOCK {number} OF {page.name} IS NOT RUN: {package} is not installed", file=sys.stderr)
                        continue
                    exec(compile(code, f"{page.name}, block {number}", "exec"), names)
        finally:
            os.chdir(before)
        kept = PICTURES / page.stem
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for picture in Path(folder).glob("*.png"):
            shutil.copy(picture, kept)
        (kept / STAMP).write_text(source_hash(page))
    return printed.getvalue()


def main() -> None:
    """Run the pages whose pictures are missing or out of date."""
    for page in pages_with_code():
        stamp = PICTURES / page.stem / STAMP
        if stamp.exists() and stamp.read_text() == source_hash(page):
            continue
        print(f"running the code of {page.relative_to(ROOT)}", file=sys.stderr, flush=True)
        run_page(page)


if __name__ == "__main__":
    main()
