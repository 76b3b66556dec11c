"""Pages that are made by the build: the reference from docstrings, the commands, and the pictures of the pages."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from typing import Any

import typer
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from docs.tools.public_names import (
    DOCUMENTED,
    ROOT,
    defined_names,
    full_names,
    member_names,
    public_names,
    value_docstrings,
)

PICTURES = ROOT / "build" / "pictures"
SOURCE = ROOT / "build" / "docs_source"


def api_page(package: str) -> str:
    """Return the reference page of a sub-package: a table of its names, and an entry for each."""
    about = DOCUMENTED[package]
    if not about.startswith("Kalman"):  # a name
        about = about[0].lower() + about[1:]
    title = f"# kalmanssl.{package}: {about} {{#kalmanssl.{package}}}"
    overview = (
        f"::: kalmanssl.{package}\n    options: {{members: [], show_root_heading: false, show_root_toc_entry: false}}"
    )
    names = defined_names(package)
    entries = [entry(package, name) for name in names]
    return "\n\n".join([title, overview, name_table(package, names), *entries])


def entry(package: str, name: str) -> str:
    """Return the entry of a name; the members of a class are in the order of the source, inherited ones last."""
    text, value = f"::: kalmanssl.{package}.{name}", getattr(importlib.import_module(f"kalmanssl.{package}"), name)
    if not inspect.isclass(value):
        return text
    return f"{text}\n    options: {{members: {member_names(value)}}}"


def name_table(package: str, names: list[str]) -> str:
    """Return a table of names with the first sentences of their docstrings."""
    rows = [f"| [`{name}`][kalmanssl.{package}.{name}] | {summary(package, name)} |" for name in names]
    return "\n".join(["| name | what it is or does |", "| --- | --- |", *rows])


def summary(package: str, name: str) -> str:
    """Return the first sentences of the docstring of a name, for a table."""
    value = getattr(importlib.import_module(f"kalmanssl.{package}".rstrip(".")), name)
    has_own = inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)
    about = (inspect.getdoc(value) if has_own else value_docstrings(package).get(name)) or ""
    return " ".join(about.split("\n\n")[0].split()).replace("|", "\\|")


def top_page() -> str:
    """Return the page of the names that `import kalmanssl` offers directly."""
    where = full_names()
    lines = ["# Reference", "", "After `import kalmanssl as ks`, these names are available as `ks.NAME`:", ""]
    lines += ["| name | what it is or does | sub-package |", "| --- | --- | --- |"]
    for name in public_names(""):
        target = where.get(name, f"kalmanssl.{name}")
        package = target.rpartition(".")[0]
        # A sub-package is not defined in another one.
        where_defined = "" if package == "kalmanssl" else f"[`{package.removeprefix('kalmanssl.')}`][{package}]"
        lines.append(f"| [`{name}`][{target}] | {summary('', name)} | {where_defined} |")
    lines += ["", "Sub-packages:", "", "| name | what it is for |", "| --- | --- |"]
    lines += [f"| [`kalmanssl.{package}`][kalmanssl.{package}] | {about} |" for package, about in DOCUMENTED.items()]
    return "\n".join(lines)


def command_page() -> str:
    """Return the page of the commands, from the texts of ``kalmanssl --help``."""
    from kalmanssl.cli import app

    command = typer.main.get_command(app)
    page = get_docs_for_click(obj=command, ctx=typer.Context(command), name="kalmanssl", title="Command line")
    for name, one in getattr(command, "commands", {}).items():  # the list of commands has shortened texts
        first = " ".join((one.help or "").split("\n\n")[0].split())
        page = re.sub(rf"^\* `{name}`: .*$", lambda _, name=name, first=first: f"* `{name}`: {first}", page, flags=re.M)
    return re.sub(r"\[/?bold\]", "**", page)  # rich's markup


def generated_pages() -> dict[str, str]:
    """Return the path of each generated page in the site, and its Markdown."""
    pages = {f"api/{package}.md": api_page(package) for package in DOCUMENTED}
    return {"commands.md": command_page(), "api/index.md": top_page()} | pages


@event_priority(100)  # before the plugin that reads the copy
def on_config(config: Any) -> Any:
    """Copy the package with its data sets, as it is installed, and add the generated pages to the navigation."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "kalmanssl", SOURCE / "kalmanssl", ignore=skip)
    shutil.copytree(ROOT / "datasets", SOURCE / "kalmanssl" / "datasets", ignore=skip)
    api = ["api/index.md", *({f"kalmanssl.{package}": f"api/{package}.md"} for package in DOCUMENTED)]
    config.nav.insert(-1, {"Reference": ["commands.md", *api]})
    return config


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Remove the dash before a description that is empty, and private fields of data classes from signatures."""
    html = re.sub(r'\s*–\s*<div class="doc-md-description">\s*</div>', "", html)
    return re.sub(r'(?m)^ *<span class="n">_\w+</span>(<span class="o">=.*)?<span class="p">,</span>\n', "", html)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and the pictures to the files of the site."""
    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text))
    for picture in sorted(PICTURES.rglob("*.png")):
        path = f"pictures/{picture.relative_to(PICTURES).as_posix()}"
        files.append(File.generated(config, path, abs_src_path=str(picture)))
    return files
