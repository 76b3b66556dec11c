"""Established methods for decoding position from spike counts, reimplemented for the comparison.

A peer is a class with `fit(train, running)` and `predict(test)`. A prediction is a distribution for each bin, see
`hc11.peers.predictive.Prediction`. Positions have the unit of the recording.
"""

from hc11.peers.embeddings import CebraTime, PCAEmbedding, Smoothed
from hc11.peers.grid import GridStateSpace, PlaceFieldBayes
from hc11.peers.neighbors import NeighborDecoder
from hc11.peers.predictive import GridPrediction, SamplePrediction
from hc11.peers.selection import Selection, choose

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
