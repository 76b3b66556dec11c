"""A dot on a figure eight, with a state of more dimensions than the picture has (LDM paper, Fig. A3)."""

from identifiability.experiment import Experiment, Setting, Size, baseline_settings
from identifiability.networks import KalmanNetwork
from identifiability.runner import Plan

KNN, STOPGRAD = (KalmanNetwork(entropy, latent=5, state=10) for entropy in ("knn", "stopgrad"))

# Published: 800 videos, 20 rounds in batches of 8, encoder 1.5625e-4, dynamics times 100, halved twice.
EXPERIMENT = Experiment(
    name="figure8",
    title="Kalman predictor: a dot on a figure eight",
    figure="Fig. A3",
    data={"motion": "figure8"},
    sizes={
        "tiny": Size(32, 16, Plan(40, 8, 1.5625e-4)),
        "quick": Size(800, 64, Plan(2000, 8, 1.5625e-4, last=0.25)),
        "full": Size(800, 200, Plan(2000, 8, 1.5625e-4, last=0.25)),
    },
    settings=(
        Setting("kNN", KNN, published=0.991, goal=0.99),
        Setting("stop-gradient", STOPGRAD, published=0.990, goal=0.99),
        Setting("random weights", KalmanNetwork("knn", latent=5, state=10, trained=False)),
        Setting("kNN, repeated trajectories", KNN, {"repeated": True}, 0.991),
        Setting("stop-gradient, repeated trajectories", STOPGRAD, {"repeated": True}, 0.990),
        *baseline_settings((100,), 1000),
    ),
)
