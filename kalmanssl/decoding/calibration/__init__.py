"""Calibration of intervals and regions, its adaptation to new labels, and the judgment of single bins."""

from kalmanssl.decoding.calibration._adaptive import AdaptiveLevels as AdaptiveLevels
from kalmanssl.decoding.calibration._calibration import Calibration as Calibration
from kalmanssl.decoding.calibration._conformal_map import NOMINAL_LEVELS as NOMINAL_LEVELS
from kalmanssl.decoding.calibration._errors import HeldOutErrors as HeldOutErrors
from kalmanssl.decoding.calibration._regions import RegionCalibration as RegionCalibration
from kalmanssl.decoding.calibration._settings import CalibrationSettings as CalibrationSettings
from kalmanssl.decoding.calibration._trust import REASONS as REASONS
from kalmanssl.decoding.calibration._trust import Trust as Trust
from kalmanssl.decoding.calibration._trust import TrustJudgment as TrustJudgment
from kalmanssl.decoding.calibration._trust import agreement_of as agreement_of
