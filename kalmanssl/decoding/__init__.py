"""Decoding of behavior from latents, with calibrated intervals.

`PositionDecoder` combines a readout (`EnsembleReadout`, `MLPReadout`, `LinearReadout` or `SklearnReadout`), a movement
prior, a `Drift` and a `Calibration` per dimension; `score_decoding` scores its predictions.
"""

from kalmanssl.decoding._decoder import PositionDecoder as PositionDecoder
from kalmanssl.decoding.calibration import Calibration as Calibration
from kalmanssl.decoding.calibration import CalibrationSettings as CalibrationSettings
from kalmanssl.decoding.calibration import HeldOutErrors as HeldOutErrors
from kalmanssl.decoding.grids import GridPredictive as GridPredictive
from kalmanssl.decoding.grids import Predictive as Predictive
from kalmanssl.decoding.grids import ScalePredictive as ScalePredictive
from kalmanssl.decoding.grids import quantile_crps as quantile_crps
from kalmanssl.decoding.held_out import Drift as Drift
from kalmanssl.decoding.held_out import DriftSettings as DriftSettings
from kalmanssl.decoding.held_out import HeldOutFit as HeldOutFit
from kalmanssl.decoding.held_out import MovementSettings as MovementSettings
from kalmanssl.decoding.held_out import TrackedBins as TrackedBins
from kalmanssl.decoding.held_out import TrainTestBlock as TrainTestBlock
from kalmanssl.decoding.held_out import cross_fit as cross_fit
from kalmanssl.decoding.held_out import improves_held_out as improves_held_out
from kalmanssl.decoding.held_out import rehearse as rehearse
from kalmanssl.decoding.labels import DecodedCategory as DecodedCategory
from kalmanssl.decoding.labels import LabelSets as LabelSets
from kalmanssl.decoding.metrics import calibration_curve as calibration_curve
from kalmanssl.decoding.metrics import conditional_coverage as conditional_coverage
from kalmanssl.decoding.metrics import constant_r2 as constant_r2
from kalmanssl.decoding.metrics import score_decoding as score_decoding
from kalmanssl.decoding.online import LatentStream as LatentStream
from kalmanssl.decoding.online import OnlineCategory as OnlineCategory
from kalmanssl.decoding.online import OnlineDecoder as OnlineDecoder
from kalmanssl.decoding.online import OnlinePosition as OnlinePosition
from kalmanssl.decoding.readouts import EnsembleReadout as EnsembleReadout
from kalmanssl.decoding.readouts import EnsembleReadoutSettings as EnsembleReadoutSettings
from kalmanssl.decoding.readouts import FittedBins as FittedBins
from kalmanssl.decoding.readouts import LinearReadout as LinearReadout
from kalmanssl.decoding.readouts import LinearReadoutSettings as LinearReadoutSettings
from kalmanssl.decoding.readouts import MLPReadout as MLPReadout
from kalmanssl.decoding.readouts import MLPReadoutSettings as MLPReadoutSettings
from kalmanssl.decoding.readouts import NeighborReadout as NeighborReadout
from kalmanssl.decoding.readouts import NeighborReadoutSettings as NeighborReadoutSettings
from kalmanssl.decoding.readouts import Readout as Readout
from kalmanssl.decoding.readouts import SklearnReadout as SklearnReadout
from kalmanssl.decoding.readouts import SklearnReadoutSettings as SklearnReadoutSettings
from kalmanssl.decoding.results import DecodedPosition as DecodedPosition
from kalmanssl.decoding.results import Region as Region
from kalmanssl.utils.blocks import blocks_of_time as blocks_of_time
from kalmanssl.utils.blocks import rolling_origins as rolling_origins
