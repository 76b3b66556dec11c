"""Measures of what a representation holds.

Linear and nearest-neighbor probes, prediction of spikes, dimension, categories, rings.
"""

from kalmanssl.probes._bits_per_spike import BitsPerSpike as BitsPerSpike
from kalmanssl.probes._bits_per_spike import bits_per_spike as bits_per_spike
from kalmanssl.probes._classifiers import knn_probe as knn_probe
from kalmanssl.probes._classifiers import linear_probe as linear_probe
from kalmanssl.probes._co_smoothing import co_smoothing as co_smoothing
from kalmanssl.probes._gradients import gradient_cosine as gradient_cosine
from kalmanssl.probes._representation import CategoryMatching as CategoryMatching
from kalmanssl.probes._representation import EffectiveDimension as EffectiveDimension
from kalmanssl.probes._representation import effective_dimension as effective_dimension
from kalmanssl.probes._representation import entropy_bits as entropy_bits
from kalmanssl.probes._representation import match_categories as match_categories
from kalmanssl.probes._ring import RingScores as RingScores
from kalmanssl.probes._ring import Rotation as Rotation
from kalmanssl.probes._ring import coherent_rotations as coherent_rotations
from kalmanssl.probes._ring import ring_scores as ring_scores
