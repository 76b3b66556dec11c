"""Training of sequence and pair models: sources of batches, and the training loop with checkpoints."""

from kalmanssl.training._batches import HeldOut as HeldOut
from kalmanssl.training._batches import PairBatches as PairBatches
from kalmanssl.training._batches import SessionBatches as SessionBatches
from kalmanssl.training._batches import TrainingData as TrainingData
from kalmanssl.training._batches import WindowBatches as WindowBatches
from kalmanssl.training._batches import WindowSettings as WindowSettings
from kalmanssl.training._checkpoints import delete_checkpoints as delete_checkpoints
from kalmanssl.training._checkpoints import has_checkpoint as has_checkpoint
from kalmanssl.training._devices import choose_device as choose_device
from kalmanssl.training._filter_steps import interleave as interleave
from kalmanssl.training._filter_steps import join_steps as join_steps
from kalmanssl.training._filter_steps import sum_bins as sum_bins
from kalmanssl.training._held_out_blocks import hold_out_blocks as hold_out_blocks
from kalmanssl.training._loop import train as train
from kalmanssl.training._phases import Phase as Phase
from kalmanssl.training._phases import Phases as Phases
from kalmanssl.training._settings import TrainingSettings as TrainingSettings
from kalmanssl.training._windows import RandomWindows as RandomWindows
from kalmanssl.training._windows import choose_window as choose_window
