"""Alignment of the latents of sessions with different units.

Without behavior they are matched by a Markov chain over hidden states. Labels decide between such matches, and other
behavior determines the match alone.
"""

from kalmanssl.alignment._behavior_targets import behavior_agreement as behavior_agreement
from kalmanssl.alignment._behavior_targets import behavior_targets as behavior_targets
from kalmanssl.alignment._distances import sliced_wasserstein as sliced_wasserstein
from kalmanssl.alignment._maps import LatentMap as LatentMap
from kalmanssl.alignment._maps import fit_map as fit_map
from kalmanssl.alignment._matching import MatchCandidate as MatchCandidate
from kalmanssl.alignment._matching import MatchSettings as MatchSettings
from kalmanssl.alignment._matching import SessionMatch as SessionMatch
from kalmanssl.alignment._matching import match_session as match_session
from kalmanssl.alignment._reference import ReferenceStates as ReferenceStates
from kalmanssl.alignment._sequences import SessionLatents as SessionLatents
from kalmanssl.alignment._transition_distances import transition_distances as transition_distances
