"""What others use to decode position from spike counts, written anew for the comparison.

Every peer is a small class with ``fit(train, running)`` and ``predict(test)``; a prediction is a distribution
per bin with ``mean``, ``median``, ``interval(level)`` and ``crps(truth)``. Positions keep the recording's unit.
"""

from peers.embeddings import CebraTime, PCAEmbedding, Smoothed
from peers.grid import GridStateSpace, PlaceFieldBayes
from peers.neighbors import NeighborDecoder
from peers.predictive import GridPrediction, SamplePrediction
from peers.selection import Selection, choose

__all__ = [
    "CebraTime",
    "GridPrediction",
    "GridStateSpace",
    "NeighborDecoder",
    "PCAEmbedding",
    "PlaceFieldBayes",
    "SamplePrediction",
    "Selection",
    "Smoothed",
    "choose",
]
