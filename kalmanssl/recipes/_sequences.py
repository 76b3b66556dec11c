"""Recipes of published methods on sequences."""

from __future__ import annotations

from typing import Any

from kalmanssl.entropy import KNNEntropy

__all__ = ["hippocampus"]


def hippocampus(*, noise: str = "input") -> dict[str, Any]:
    """Return the settings of `kalmanssl.KalmanSSL` for the hippocampal recording of the LDM paper (Fig. 4E to G).

        >>> from kalmanssl import KalmanSSL, recipes
        >>> model = KalmanSSL(**recipes.hippocampus(), random_state=0)

    Published are: spike counts in bins of 25 ms, one filter step per bin; one hidden layer of 100 ReLU units in the
    encoder; 8 latents and 16 states; windows of 10 s, drawn uniformly; entropy from nearest neighbors; noise that
    depends on the input; 16 epochs. The batches of 8 windows and the learning rates are those of the paper's code for
    its other experiments. Ours are: which noise depends on the input; the linear path of the encoder, the normalization
    of the counts, and the start at predictable components, without which a minute of running gives a ring only with
    some initial weights; and 25 steps per epoch (the paper has 100000 windows).

    Fit it on the running bins, ``kalmanssl.data.join_bins(recording, running)``: laps are then rotations of the state.
    With the rest between them, laps differ in duration, and the fitted dynamics do not rotate.

    Parameters
    ----------
    noise : {"constant", "activity", "input", "state", "errors"}
        What the observation noise depends on.
    """
    return {
        "latent_dim": 8,
        "state_dim": 16,
        "hidden": (100,),
        "normalize": "cosine",
        "unit_dropout": 0.0,
        "noise": noise,
        "noise_epochs": 0,
        "entropy": KNNEntropy(),
        "bins_per_step": 1,
        "window": 400,
        "batch_size": 8,
        "activity_sampling_power": 0.0,
        "epochs": 16,
        "steps_per_epoch": 25,
        "learning_rate": 1.25e-3,
        "dynamics_lr_factor": 100.0,
        "noise_lr_factor": 0.03,
        "patience": 16,
    }
