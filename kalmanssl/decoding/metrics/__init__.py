"""Scores of decoded behavior, and coverage under conditions."""

from kalmanssl.decoding.metrics._conditional import conditional_coverage as conditional_coverage
from kalmanssl.decoding.metrics._constant_baseline import constant_r2 as constant_r2
from kalmanssl.decoding.metrics._scores import calibration_curve as calibration_curve
from kalmanssl.decoding.metrics._scores import score_decoding as score_decoding
from kalmanssl.decoding.metrics._scoring import ScoreMixin as ScoreMixin
