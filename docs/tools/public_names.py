"""The public names of the package, read from its source without importing it."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

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


def constant_docstrings(package: str) -> dict[str, str]:
    """Return the docstrings below the assignments to the names of a sub-package that are no classes or functions."""
    found = {}
    for path in source_folder(package).rglob("*.py"):
        body = ast.parse(path.read_text()).body
        for node, after in pairwise(body):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(node, ast.Assign | ast.AnnAssign) and is_text:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {target.id: str(after.value.value) for target in targets if isinstance(target, ast.Name)}
    return found


def full_names() -> dict[str, str]:
    """Map each public name to its full name in the sub-package that documents it."""
    names = {name: f"kalmanssl.{package}.{name}" for package in reversed(DOCUMENTED) for name in defined_names(package)}
    return names | {f"kalmanssl.{package}": f"kalmanssl.{package}" for package in DOCUMENTED}
