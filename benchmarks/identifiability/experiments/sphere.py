"""A walk on the sphere with von Mises-Fisher steps, behind a random network (LDM paper, Theorem 2)."""

from dataclasses import replace

from identifiability.experiment import Setting, baseline_settings
from identifiability.experiments import dimensions
from identifiability.networks import RecurrentNetwork

KNN = RecurrentNetwork(
    "knn",
    distribution="von_mises_fisher",
    variance="constant",
    units=32,
    head=(64, 64),
)

EXPERIMENT = replace(
    dimensions.EXPERIMENT,
    name="sphere",
    title="Recurrent predictor on the sphere",
    figure="Theorem 2",
    data={"motion": "sphere"},
    settings=(
        Setting("kNN", KNN),
        Setting("stop-gradient", replace(KNN, entropy="stopgrad")),
        Setting("kNN, Gaussian in Euclidean space", RecurrentNetwork("knn", units=32, head=(64, 64))),
        Setting("random weights", replace(KNN, trained=False)),
        *baseline_settings((200,)),
    ),
)
