"""Decoding of labels: input, Markov chain, decoder and decoded categories."""

from kalmanssl.decoding.labels._categories import DecodedCategory as DecodedCategory
from kalmanssl.decoding.labels._categories import LabelSets as LabelSets
from kalmanssl.decoding.labels._chain import LabelChain as LabelChain
from kalmanssl.decoding.labels._decoder import LabelDecoder as LabelDecoder
from kalmanssl.decoding.labels._labels import encode_labels as encode_labels
from kalmanssl.decoding.labels._labels import find_labels as find_labels
from kalmanssl.decoding.labels._labels import is_discrete as is_discrete
from kalmanssl.decoding.labels._labels import present_labels as present_labels
from kalmanssl.decoding.labels._metrics import score_categories as score_categories
