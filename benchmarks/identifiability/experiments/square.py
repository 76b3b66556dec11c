"""A dot that moves around a square, which linear dynamics cannot follow exactly (LDM paper, Fig. 4A-D)."""

import numpy as np

from identifiability.experiment import Experiment, Setting, Size, baseline_settings
from identifiability.matcher import Plan
from identifiability.networks import KalmanNetwork

# Batch size, learning rates and number of steps are those of the paper: 800 videos, 20 epochs with batches of 8,
# encoder 6.25e-4, dynamics 100 times as fast, down to a quarter. The weight decay of the paper (1e-6) makes no
# difference and is left out.
EXPERIMENT = Experiment(
    name="square",
    title="Kalman predictor: a dot around a square",
    figure="Fig. 4A-D",
    data={"motion": "square"},
    sizes={
        "tiny": Size(32, 16, Plan(40, 8, 6.25e-4)),
        "quick": Size(800, 64, Plan(2000, 8, 6.25e-4, final_lr_factor=0.25)),
        "full": Size(800, 200, Plan(2000, 8, 6.25e-4, final_lr_factor=0.25)),
    },
    settings=(
        Setting("kNN", KalmanNetwork("knn"), goal=0.97),
        Setting("stop-gradient", KalmanNetwork("stopgrad"), published=0.967, goal=0.97),
        Setting("random weights", KalmanNetwork("knn", trained=False)),
        Setting("kNN, repeated trajectories", KalmanNetwork("knn"), {"repeated": True}),
        Setting("stop-gradient, repeated trajectories", KalmanNetwork("stopgrad"), {"repeated": True}, 0.967),
        *baseline_settings((100,)),
    ),
    angles=(np.pi / 10.0,),
)
