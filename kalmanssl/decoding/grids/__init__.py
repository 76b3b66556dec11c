"""Grids over behavior, distributions on them and their scores."""

from kalmanssl.decoding.grids._circular import Periods as Periods
from kalmanssl.decoding.grids._circular import difference as difference
from kalmanssl.decoding.grids._circular import embed_circular as embed_circular
from kalmanssl.decoding.grids._circular import turns_towards as turns_towards
from kalmanssl.decoding.grids._circular import unembed_circular as unembed_circular
from kalmanssl.decoding.grids._circular import wrap as wrap
from kalmanssl.decoding.grids._circular import wrap_to_period as wrap_to_period
from kalmanssl.decoding.grids._crps import quantile_crps as quantile_crps
from kalmanssl.decoding.grids._grid import Axis as Axis
from kalmanssl.decoding.grids._grid import Grid as Grid
from kalmanssl.decoding.grids._grid import group_dimensions as group_dimensions
from kalmanssl.decoding.grids._grid import marginal_predictives as marginal_predictives
from kalmanssl.decoding.grids._likelier_mass import likelier_mass as likelier_mass
from kalmanssl.decoding.grids._likelier_mass import likelier_mass_at as likelier_mass_at
from kalmanssl.decoding.grids._predictive import MIN_SD as MIN_SD
from kalmanssl.decoding.grids._predictive import SD_STEP as SD_STEP
from kalmanssl.decoding.grids._predictive import GridPredictive as GridPredictive
from kalmanssl.decoding.grids._predictive import Predictive as Predictive
from kalmanssl.decoding.grids._predictive import ScalePredictive as ScalePredictive
