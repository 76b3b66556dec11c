"""Movement priors, and the state-space model on a grid that combines them with readouts."""

from kalmanssl.decoding.movement._familiarity import Familiarity as Familiarity
from kalmanssl.decoding.movement._familiarity import temper as temper
from kalmanssl.decoding.movement._mixture import MovementComponent as MovementComponent
from kalmanssl.decoding.movement._mixture import MovementMixture as MovementMixture
from kalmanssl.decoding.movement._movement import Movement as Movement
from kalmanssl.decoding.movement._movement import MovementStatistics as MovementStatistics
from kalmanssl.decoding.movement._movement import coarsen_mass as coarsen_mass
from kalmanssl.decoding.movement._posterior_mass import filtered_mass as filtered_mass
from kalmanssl.decoding.movement._posterior_mass import posterior_marginals as posterior_marginals
from kalmanssl.decoding.movement._posterior_mass import posterior_mass as posterior_mass
from kalmanssl.decoding.movement._readout_mass import COMBINATIONS as COMBINATIONS
from kalmanssl.decoding.movement._readout_mass import ReadoutMass as ReadoutMass
from kalmanssl.decoding.movement._readout_mass import select_combination as select_combination
from kalmanssl.decoding.movement._state_space import ForwardStep as ForwardStep
from kalmanssl.decoding.movement._state_space import Transition as Transition
from kalmanssl.decoding.movement._state_space import compile_function as compile_function
