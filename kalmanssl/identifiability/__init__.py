"""Whether latents recover the true ones, and whether the assumptions of the identifiability theorem hold on data."""

from kalmanssl.identifiability._assumptions import check_assumptions as check_assumptions
from kalmanssl.identifiability._assumptions import check_latents as check_latents
from kalmanssl.identifiability._injectivity import FoldingEntropy as FoldingEntropy
from kalmanssl.identifiability._injectivity import folding_entropy as folding_entropy
from kalmanssl.identifiability._recovery import Recovery as Recovery
from kalmanssl.identifiability._recovery import recovery as recovery
from kalmanssl.identifiability._report import Assumption as Assumption
from kalmanssl.identifiability._report import AssumptionReport as AssumptionReport
from kalmanssl.identifiability._residual_statistics import Deviation as Deviation
from kalmanssl.identifiability._scores import AffineMap as AffineMap
from kalmanssl.identifiability._scores import PredictiveCalibration as PredictiveCalibration
from kalmanssl.identifiability._scores import affine_r2 as affine_r2
from kalmanssl.identifiability._scores import affine_r2_by_dimension as affine_r2_by_dimension
from kalmanssl.identifiability._scores import consistency as consistency
from kalmanssl.identifiability._scores import match_frequencies as match_frequencies
from kalmanssl.identifiability._scores import mean_correlation as mean_correlation
from kalmanssl.identifiability._scores import mlp_gain as mlp_gain
from kalmanssl.identifiability._scores import predictive_calibration as predictive_calibration
from kalmanssl.identifiability._scores import predictor_r2 as predictor_r2
