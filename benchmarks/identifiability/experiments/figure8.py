"""A dot on a figure eight, for which the state needs more dimensions than the position has (LDM paper, Fig. A3)."""

from dataclasses import replace

import numpy as np

from identifiability.experiment import Setting, baseline_settings
from identifiability.experiments import square
from identifiability.networks import KalmanNetwork

KNN, STOPGRAD = (KalmanNetwork(entropy, latent=5, state=10) for entropy in ("knn", "stopgrad"))
LEARNING_RATE = 1.5625e-4  # a quarter of that of the square, as in the paper

EXPERIMENT = replace(
    square.EXPERIMENT,
    name="figure8",
    title="Kalman predictor: a dot on a figure eight",
    figure="Fig. A3",
    data={"motion": "figure8"},
    sizes={
        preset: replace(size, plan=replace(size.plan, learning_rate=LEARNING_RATE))
        for preset, size in square.EXPERIMENT.sizes.items()
    },
    settings=(
        Setting("kNN", KNN, published=0.991, goal=0.99),
        Setting("stop-gradient", STOPGRAD, published=0.990, goal=0.99),
        Setting("random weights", KalmanNetwork("knn", latent=5, state=10, trained=False)),
        Setting("kNN, repeated trajectories", KNN, {"repeated": True}, 0.991),
        Setting("stop-gradient, repeated trajectories", STOPGRAD, {"repeated": True}, 0.990),
        *baseline_settings((100,)),
    ),
    angles=(np.pi / 10.0, np.pi / 5.0),  # the second coordinate has twice the frequency of the first
)
