"""Decoded behavior: posteriors, intervals, regions, samples and tables."""

from kalmanssl.decoding.results._base import DecodedBehavior as DecodedBehavior
from kalmanssl.decoding.results._decoded_position import DecodedPosition as DecodedPosition
from kalmanssl.decoding.results._decoded_position import around_points as around_points
from kalmanssl.decoding.results._levels import LEVELS as LEVELS
from kalmanssl.decoding.results._levels import QUANTILE_LEVELS as QUANTILE_LEVELS
from kalmanssl.decoding.results._levels import by_level as by_level
from kalmanssl.decoding.results._levels import check_level as check_level
from kalmanssl.decoding.results._levels import quantile_weights as quantile_weights
from kalmanssl.decoding.results._posterior import GridPosterior as GridPosterior
from kalmanssl.decoding.results._posterior import Region as Region
