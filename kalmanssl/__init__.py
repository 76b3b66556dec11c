"""Latent dynamics from neural recordings without labels, and behavior decoded from them with calibrated intervals.

Public names are declared in ``__init__.pyi`` and imported on first use, so that ``import kalmanssl`` is fast.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("kalmanssl")
