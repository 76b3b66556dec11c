"""Alignment of the latents of sessions with different units, without labels, by a Markov chain over hidden states."""

from kalmanssl.alignment._distances import sliced_wasserstein as sliced_wasserstein
from kalmanssl.alignment._maps import LatentMap as LatentMap
from kalmanssl.alignment._maps import fit_map as fit_map
from kalmanssl.alignment._matching import MatchCandidate as MatchCandidate
from kalmanssl.alignment._matching import MatchSettings as MatchSettings
from kalmanssl.alignment._matching import SessionMatch as SessionMatch
from kalmanssl.alignment._matching import match_session as match_session
from kalmanssl.alignment._reference import ReferenceStates as ReferenceStates
from kalmanssl.alignment._sequences import SessionLatents as SessionLatents
