"""Data sets: generators that need no download."""

from kalmanssl.datasets.dot_videos import DotVideos, dot_videos
from kalmanssl.datasets.place_cells import place_cells

__all__ = ["DotVideos", "dot_videos", "place_cells"]
