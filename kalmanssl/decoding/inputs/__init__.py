"""What a decoder receives: latents, behavior and sessions, with their checks."""

from kalmanssl.decoding.inputs._decoder_input import DecoderInput as DecoderInput
from kalmanssl.decoding.inputs._inputs import LARGEST_POSITION as LARGEST_POSITION
from kalmanssl.decoding.inputs._inputs import MIN_BINS as MIN_BINS
from kalmanssl.decoding.inputs._inputs import check_behavior as check_behavior
from kalmanssl.decoding.inputs._inputs import check_latents as check_latents
from kalmanssl.decoding.inputs._inputs import check_mask as check_mask
from kalmanssl.decoding.inputs._inputs import check_same_bins as check_same_bins
from kalmanssl.decoding.inputs._inputs import check_smoothed as check_smoothed
from kalmanssl.decoding.inputs._inputs import is_list_of_latents as is_list_of_latents
from kalmanssl.decoding.inputs._inputs import join_trials as join_trials
from kalmanssl.decoding.inputs._inputs import usable_bins as usable_bins
from kalmanssl.decoding.inputs._inputs import warn_if_circle as warn_if_circle
from kalmanssl.decoding.inputs._sessions import Sessions as Sessions
from kalmanssl.decoding.inputs._sessions import by_session as by_session
from kalmanssl.decoding.inputs._sessions import end_of_fit as end_of_fit
