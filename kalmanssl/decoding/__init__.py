"""Decoding of behavior from latents, with calibrated intervals.

`PositionDecoder` combines a readout (`EnsembleReadout`, `MLPReadout`, `LinearReadout` or `SklearnReadout`), a movement
prior, a `Drift` and a `Calibration` per dimension; `score_decoding` scores its predictions.
"""

from kalmanssl.decoding._calibration import Calibration as Calibration
from kalmanssl.decoding._calibration import CalibrationSettings as CalibrationSettings
from kalmanssl.decoding._calibration import HeldOutErrors as HeldOutErrors
from kalmanssl.decoding._categories import DecodedCategory as DecodedCategory
from kalmanssl.decoding._categories import LabelSets as LabelSets
from kalmanssl.decoding._conditional import conditional_coverage as conditional_coverage
from kalmanssl.decoding._constant_baseline import constant_r2 as constant_r2
from kalmanssl.decoding._cross_fitting import HeldOutFit as HeldOutFit
from kalmanssl.decoding._cross_fitting import cross_fit as cross_fit
from kalmanssl.decoding._cross_fitting import rehearse as rehearse
from kalmanssl.decoding._crps import quantile_crps as quantile_crps
from kalmanssl.decoding._decoder import PositionDecoder as PositionDecoder
from kalmanssl.decoding._drift import Drift as Drift
from kalmanssl.decoding._drift import DriftSettings as DriftSettings
from kalmanssl.decoding._drift import TrainTestBlock as TrainTestBlock
from kalmanssl.decoding._drift import improves_held_out as improves_held_out
from kalmanssl.decoding._ensemble_readout import EnsembleReadout as EnsembleReadout
from kalmanssl.decoding._ensemble_readout import EnsembleReadoutSettings as EnsembleReadoutSettings
from kalmanssl.decoding._linear_readout import LinearReadout as LinearReadout
from kalmanssl.decoding._linear_readout import LinearReadoutSettings as LinearReadoutSettings
from kalmanssl.decoding._metrics import calibration_curve as calibration_curve
from kalmanssl.decoding._metrics import score_decoding as score_decoding
from kalmanssl.decoding._mlp_readout import MLPReadout as MLPReadout
from kalmanssl.decoding._mlp_settings import MLPReadoutSettings as MLPReadoutSettings
from kalmanssl.decoding._neighbor_readout import NeighborReadout as NeighborReadout
from kalmanssl.decoding._neighbor_readout import NeighborReadoutSettings as NeighborReadoutSettings
from kalmanssl.decoding._online import LatentStream as LatentStream
from kalmanssl.decoding._online import OnlineCategory as OnlineCategory
from kalmanssl.decoding._online import OnlineDecoder as OnlineDecoder
from kalmanssl.decoding._online import OnlinePosition as OnlinePosition
from kalmanssl.decoding._posterior import Region as Region
from kalmanssl.decoding._predictive import GridPredictive as GridPredictive
from kalmanssl.decoding._predictive import Predictive as Predictive
from kalmanssl.decoding._predictive import ScalePredictive as ScalePredictive
from kalmanssl.decoding._readout import Readout as Readout
from kalmanssl.decoding._results import DecodedPosition as DecodedPosition
from kalmanssl.decoding._selection import MovementSettings as MovementSettings
from kalmanssl.decoding._sklearn_readout import SklearnReadout as SklearnReadout
from kalmanssl.decoding._sklearn_readout import SklearnReadoutSettings as SklearnReadoutSettings
from kalmanssl.utils.blocks import blocks_of_time as blocks_of_time
from kalmanssl.utils.blocks import rolling_origins as rolling_origins
