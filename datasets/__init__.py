"""Data sets: generators that need no download."""

from kalmanssl.datasets.place_cells import place_cells

__all__ = ["place_cells"]
