"""Held-out fits: folds, and choices by the decoding of held-out bins."""

from kalmanssl.decoding.held_out._cross_fitting import HeldOutFit as HeldOutFit
from kalmanssl.decoding.held_out._cross_fitting import cross_fit as cross_fit
from kalmanssl.decoding.held_out._cross_fitting import rehearse as rehearse
from kalmanssl.decoding.held_out._drift import Drift as Drift
from kalmanssl.decoding.held_out._drift import DriftSettings as DriftSettings
from kalmanssl.decoding.held_out._drift import TrackedBins as TrackedBins
from kalmanssl.decoding.held_out._drift import TrainTestBlock as TrainTestBlock
from kalmanssl.decoding.held_out._drift import improves_held_out as improves_held_out
from kalmanssl.decoding.held_out._folds import Fold as Fold
from kalmanssl.decoding.held_out._folds import Samples as Samples
from kalmanssl.decoding.held_out._folds import fold_weights as fold_weights
from kalmanssl.decoding.held_out._folds import held_out_folds as held_out_folds
from kalmanssl.decoding.held_out._folds import rolling_folds as rolling_folds
from kalmanssl.decoding.held_out._folds import scored_sessions as scored_sessions
from kalmanssl.decoding.held_out._folds import warn_if_few_blocks as warn_if_few_blocks
from kalmanssl.decoding.held_out._mass import HeldOutMass as HeldOutMass
from kalmanssl.decoding.held_out._mass import mean_by_block as mean_by_block
from kalmanssl.decoding.held_out._measure_movement import measure_movement as measure_movement
from kalmanssl.decoding.held_out._movement_choice import MovementChoice as MovementChoice
from kalmanssl.decoding.held_out._movement_choice import MovementSettings as MovementSettings
from kalmanssl.decoding.held_out._movement_choice import choose_movement as choose_movement
from kalmanssl.decoding.held_out._paired_comparison import is_lower as is_lower
from kalmanssl.decoding.held_out._search import closest as closest
from kalmanssl.decoding.held_out._search import vary_one_at_a_time as vary_one_at_a_time
from kalmanssl.decoding.held_out._thinning import thin_bins as thin_bins
