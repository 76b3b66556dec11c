"""Recordings of activity and behavior, their latents, binning and running, NWB files."""

from kalmanssl.data._alignment import AlignMixin as AlignMixin
from kalmanssl.data._alignment import align_to as align_to
from kalmanssl.data._binning import count_events as count_events
from kalmanssl.data._conversion import as_recording as as_recording
from kalmanssl.data._joining import join_bins as join_bins
from kalmanssl.data._latent_tables import state_names as state_names
from kalmanssl.data._latents import Covariances as Covariances
from kalmanssl.data._latents import Latents as Latents
from kalmanssl.data._latents import infer_latents as infer_latents
from kalmanssl.data._latents import split_trials as split_trials
from kalmanssl.data._pynapple import behavior_at as behavior_at
from kalmanssl.data._pynapple import is_pynapple as is_pynapple
from kalmanssl.data._pynapple import to_tsdframe as to_tsdframe
from kalmanssl.data._recording import Recording as Recording
from kalmanssl.data._running import running_bins as running_bins
from kalmanssl.data._running import running_threshold as running_threshold
from kalmanssl.data._running import speed as speed
from kalmanssl.data._running import traversals as traversals
from kalmanssl.data._trials import Trials as Trials
from kalmanssl.data._validation import as_labels as as_labels
from kalmanssl.data.nwb import NWBObject as NWBObject
from kalmanssl.data.nwb import NWBSummary as NWBSummary
from kalmanssl.data.nwb import summarize_nwb as summarize_nwb
