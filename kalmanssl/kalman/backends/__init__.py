"""Implementations of the filter, and of the recursions over time that filter, smoother and samplers share."""

from kalmanssl.kalman.backends._affine_recursions import AffineScan as AffineScan
from kalmanssl.kalman.backends._affine_recursions import CovarianceRecursion as CovarianceRecursion
from kalmanssl.kalman.backends._affine_recursions import affine_scan as affine_scan
from kalmanssl.kalman.backends._affine_recursions import covariance_recursion as covariance_recursion
from kalmanssl.kalman.backends._affine_recursions import has_converged as has_converged
from kalmanssl.kalman.backends._compiled_step import compiled_array_step as compiled_array_step
from kalmanssl.kalman.backends._compiled_step import compiled_step as compiled_step
from kalmanssl.kalman.backends._covariance_recursion import steps_to_forget as steps_to_forget
from kalmanssl.kalman.backends._covariance_search import next_invalid_covariance as next_invalid_covariance
from kalmanssl.kalman.backends._dispatch import BACKENDS as BACKENDS
from kalmanssl.kalman.backends._dispatch import MIN_STEPS_OF_SCAN as MIN_STEPS_OF_SCAN
from kalmanssl.kalman.backends._dispatch import MOST_NUMBERS_OF_SCAN as MOST_NUMBERS_OF_SCAN
from kalmanssl.kalman.backends._dispatch import filter_auto as filter_auto
from kalmanssl.kalman.backends._dispatch import prefers_scan as prefers_scan
from kalmanssl.kalman.backends._dispatch import uses_scan as uses_scan
from kalmanssl.kalman.backends._quick_model import is_quickly_finite as is_quickly_finite
from kalmanssl.kalman.backends._quick_model import quick_model as quick_model
from kalmanssl.kalman.backends._reference import LOG_2PI as LOG_2PI
from kalmanssl.kalman.backends._reference import number_observed as number_observed
from kalmanssl.kalman.backends._reference import predict as predict
from kalmanssl.kalman.backends._reference import update as update
from kalmanssl.kalman.backends._smoother_gains import smoother_gains as smoother_gains
