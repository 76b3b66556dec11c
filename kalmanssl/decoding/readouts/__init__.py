"""Readouts: distributions of the behavior from the latents of a bin and their temporal context."""

from kalmanssl.decoding.readouts._base import BinMasses as BinMasses
from kalmanssl.decoding.readouts._base import FittedBins as FittedBins
from kalmanssl.decoding.readouts._base import OneBinMasses as OneBinMasses
from kalmanssl.decoding.readouts._base import Readout as Readout
from kalmanssl.decoding.readouts._classifier import ClassifierReadout as ClassifierReadout
from kalmanssl.decoding.readouts._context import TemporalContext as TemporalContext
from kalmanssl.decoding.readouts._ensemble import EnsembleReadout as EnsembleReadout
from kalmanssl.decoding.readouts._ensemble import EnsembleReadoutSettings as EnsembleReadoutSettings
from kalmanssl.decoding.readouts._ensemble import NeighborVariant as NeighborVariant
from kalmanssl.decoding.readouts._ensemble import network_settings as network_settings
from kalmanssl.decoding.readouts._linear import LinearReadout as LinearReadout
from kalmanssl.decoding.readouts._linear import LinearReadoutSettings as LinearReadoutSettings
from kalmanssl.decoding.readouts._masses import predict_masses as predict_masses
from kalmanssl.decoding.readouts._mlp import MLPReadout as MLPReadout
from kalmanssl.decoding.readouts._mlp_settings import MLPReadoutSettings as MLPReadoutSettings
from kalmanssl.decoding.readouts._nearest import with_remaining_norm as with_remaining_norm
from kalmanssl.decoding.readouts._neighbors import NeighborReadout as NeighborReadout
from kalmanssl.decoding.readouts._neighbors import NeighborReadoutSettings as NeighborReadoutSettings
from kalmanssl.decoding.readouts._regressors import ReadoutSettings as ReadoutSettings
from kalmanssl.decoding.readouts._regressors import make_label_readout as make_label_readout
from kalmanssl.decoding.readouts._regressors import make_readout as make_readout
from kalmanssl.decoding.readouts._regressors import settings_class as settings_class
from kalmanssl.decoding.readouts._sklearn import SklearnReadout as SklearnReadout
from kalmanssl.decoding.readouts._sklearn import SklearnReadoutSettings as SklearnReadoutSettings
