"""Data sets: simulations with known latents, images from folders, zip files and arrays, and recordings from DANDI.

Public names are declared in ``__init__.pyi`` and imported on first use, since some of them need slow imports.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
