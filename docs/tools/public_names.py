"""The public names of the package with their docstrings, read from its source."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
DOCUMENTED = {  # sub-packages in the order of the navigation, with what they are for
    "estimator": "Latent dynamics from a recording",
    "data": "Recordings, latents, trials",
    "decoding": "Decoding of behavior",
    "identifiability": "Tests of identifiability",
    "selection": "Selection of settings",
    "units": "Questions about units",
    "alignment": "Alignment of sessions",
    "kalman": "Kalman filter",
    "models": "Objective and models",
    "entropy": "Entropy estimators",
    "distributions": "Conditional distributions",
    "networks": "Encoders and noise models",
    "training": "Training",
    "recipes": "Published methods for pairs",
    "images": "Images",
    "ica": "Linear ICA",
    "probes": "Probes of representations",
    "plotting": "Figures",
    "datasets": "Simulated and public data",
    "datasets.dandi": "Downloads from the DANDI archive",
    "runs": "Runs of the command line",
    "errors": "Errors",
}
# Parts of other sub-packages, which users reach through these, and the commands, which have a page of their own.
INTERNAL = {
    "runs.report",
    "estimator.sessions",
    "decoding.grids",
    "decoding.readouts",
    "decoding.movement",
    "decoding.inputs",
    "decoding.saving",
    "decoding.held_out",
    "decoding.calibration",
    "decoding.results",
    "decoding.labels",
    "decoding.metrics",
    "decoding.online",
    "cli",
    "data.nwb",
    "kalman.backends",
    "kalman.kernels",
    "utils",
}


def source_folder(package: str) -> Path:
    """Return the folder of a sub-package such as "kalman", or "" for kalmanssl itself, in the source."""
    parts = package.split(".")
    return ROOT.joinpath(*parts) if parts[0] == "datasets" else ROOT.joinpath("kalmanssl", *filter(None, parts))


def sub_packages() -> set[str]:
    """Return the names of all sub-packages in the source, and "errors"."""
    found = {"errors"}
    for top, prefix in ((ROOT / "kalmanssl", ""), (ROOT / "datasets", "datasets.")):
        for init in top.rglob("__init__.py"):
            found.add((prefix + ".".join(init.parent.relative_to(top).parts)).rstrip("."))
    return found - {""}


def public_names(package: str) -> list[str]:
    """Return the names that a sub-package exports, sorted without regard to case."""
    folder = source_folder(package)
    if package == "errors":
        module = ast.parse(folder.with_suffix(".py").read_text())
        (names,) = (node.value for node in module.body if isinstance(node, ast.Assign))
        return sorted(ast.literal_eval(names), key=str.lower)
    stub = folder / "__init__.pyi"  # of packages whose names are imported on first use
    module = ast.parse((stub if stub.exists() else folder / "__init__.py").read_text())
    imported = [node for node in module.body if isinstance(node, ast.ImportFrom)]
    return sorted((name.asname for node in imported for name in node.names if name.asname), key=str.lower)


def defined_names(package: str) -> list[str]:
    """Return the public names of a sub-package without those that are sub-packages themselves.

    Those that ``import kalmanssl`` also offers come first: they are what most users look for.
    """
    direct = set(public_names(""))
    names = [name for name in public_names(package) if f"{package}.{name}" not in DOCUMENTED]
    return sorted(names, key=lambda name: name not in direct)


def docstrings(body: list[ast.stmt]) -> dict[str, str]:
    """Return the docstrings of what a module or a class defines, also of values: the text below their assignment."""
    found = {}
    for node, after in pairwise([*body, ast.Pass()]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = ast.get_docstring(node) or ""
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            found |= dict.fromkeys(names, str(after.value.value) if is_text else "")
    return {name: text for name, text in found.items() if text}


def value_docstrings(package: str) -> dict[str, str]:
    """Return the docstrings of the values that the modules of a sub-package define, such as tuples of names."""
    found = {}
    for path in source_folder(package).rglob("*.py"):
        found |= docstrings(ast.parse(path.read_text()).body)
    return found


def member_names(value: type) -> list[str]:
    """Return the public members of a class that have docstrings in the order of the source, inherited ones last."""
    names: dict[str, None] = {}
    for one in value.__mro__:
        if one.__module__.startswith("kalmanssl"):
            (definition,) = ast.parse(dedent(inspect.getsource(one))).body
            names |= dict.fromkeys(docstrings(definition.body))
    return [name for name in names if not re.match(r"_[^_]|__(init|post_init)__", name)]


def full_names() -> dict[str, str]:
    """Map each public name to its full name in the sub-package that documents it."""
    names = {name: f"kalmanssl.{package}.{name}" for package in reversed(DOCUMENTED) for name in defined_names(package)}
    return names | {f"kalmanssl.{package}": f"kalmanssl.{package}" for package in DOCUMENTED}
