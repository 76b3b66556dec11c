"""Settings of short fits, and parts of recordings."""

from typing import Any

from kalmanssl import Recording

TINY: dict[str, Any] = {
    "latent_dim": 2, "state_dim": 3, "hidden": (8,), "window": 8, "bins_per_step": 2, "batch_size": 16,
    "epochs": 2, "steps_per_epoch": 3, "validation_fraction": 0, "progress": False, "random_state": 0,
    "device": "cpu",
}  # fmt: skip
TINY_WITH_HELD_OUT = {name: value for name, value in TINY.items() if name != "validation_fraction"}
ONE_EPOCH = TINY | {"epochs": 1, "steps_per_epoch": 2}


def segment_of(recording: Recording, start: int, stop: int) -> Recording:
    return recording.restrict(recording.time[start] - 0.01, recording.time[stop - 1] + 0.01)
