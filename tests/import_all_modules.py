"""Import every module of the installed package, render a page and use one data set.

Run in an environment with nothing else in it.
"""

import importlib
import pkgutil

import kalmanssl
import kalmanssl.datasets
import kalmanssl.runs

# Modules that need an optional dependency (the extra "images") import it on use, so all of them must be importable.
packages = (kalmanssl, kalmanssl.datasets)
names = [m.name for p in packages for m in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
for name in names:
    importlib.import_module(name)
for name in kalmanssl.__all__:
    getattr(kalmanssl, name)
kalmanssl.runs.render_page("base.html.jinja", {"title": "Templates are installed"})
print(f"{len(set(names))} modules imported; {kalmanssl.datasets.place_cells(duration=60.0)}")
