"""A walk on the sphere with von Mises-Fisher steps, behind a random network (LDM paper, Theorem 2)."""

from dataclasses import replace

from identifiability.experiment import Experiment, Setting, Size, baseline_settings
from identifiability.networks import RecurrentNetwork
from identifiability.runner import Plan
from kalmanssl.entropy import KNNEntropy

KNN = RecurrentNetwork(
    KNNEntropy(sphere_dim=3, max_samples=640),
    distribution="von_mises_fisher",
    variance="constant",
    units=32,
    head=(64, 64),
)

EXPERIMENT = Experiment(
    name="sphere",
    title="Recurrent predictor on the sphere",
    figure="Theorem 2",
    data={"motion": "sphere"},
    sizes={
        "tiny": Size(32, 16, Plan(30, 8, 2e-3, dynamics=3.0)),
        "quick": Size(1000, 64, Plan(2500, 32, 2e-3, dynamics=3.0)),
        "full": Size(4000, 200, Plan(20000, 64, 2e-3, dynamics=3.0, last=0.02)),
    },
    settings=(
        Setting("kNN", KNN),
        Setting("stop-gradient", replace(KNN, entropy="stopgrad")),
        Setting("kNN, Gaussian on the plane", RecurrentNetwork("knn", units=32, head=(64, 64))),
        Setting("random weights", replace(KNN, trained=False)),
        *baseline_settings((200,), 1000),
    ),
)
