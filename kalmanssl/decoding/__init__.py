"""Decoding of behavior from latents, with calibrated intervals."""

from kalmanssl.decoding._calibration import Calibration as Calibration
from kalmanssl.decoding._calibration import HeldOutErrors as HeldOutErrors
from kalmanssl.decoding._calibration import blocks_of_time as blocks_of_time
from kalmanssl.decoding._calibration import calibration_curve as calibration_curve
from kalmanssl.decoding._calibration import rolling_origins as rolling_origins
from kalmanssl.decoding._cross_fitting import cross_fit as cross_fit
from kalmanssl.decoding._decoder import HeldOutFit as HeldOutFit
from kalmanssl.decoding._decoder import PositionDecoder as PositionDecoder
from kalmanssl.decoding._drift import Drift as Drift
from kalmanssl.decoding._drift import TrainTestBlock as TrainTestBlock
from kalmanssl.decoding._metrics import score_decoding as score_decoding
from kalmanssl.decoding._mlp_readout import MLPReadout as MLPReadout
from kalmanssl.decoding._predictive import GridPredictive as GridPredictive
from kalmanssl.decoding._predictive import Predictive as Predictive
from kalmanssl.decoding._predictive import ScalePredictive as ScalePredictive
from kalmanssl.decoding._predictive import quantile_crps as quantile_crps
from kalmanssl.decoding._readouts import Covariances as Covariances
from kalmanssl.decoding._readouts import LinearReadout as LinearReadout
from kalmanssl.decoding._readouts import Readout as Readout
from kalmanssl.decoding._readouts import SklearnReadout as SklearnReadout
from kalmanssl.decoding._results import DecodedPosition as DecodedPosition
