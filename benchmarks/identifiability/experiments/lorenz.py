"""The Lorenz system with process noise, behind a random network."""

from dataclasses import replace

from identifiability.dynamics_contrast import CONTRASTS
from identifiability.experiment import Setting, baseline_settings
from identifiability.experiments import dimensions
from identifiability.networks import RecurrentNetwork

EXPERIMENT = replace(
    dimensions.EXPERIMENT,
    name="lorenz",
    title="Recurrent predictor: Lorenz system",
    figure="not in the paper",
    data={"motion": "lorenz"},
    settings=(
        Setting("kNN", dimensions.NETWORK),
        Setting("kNN, best of three starts", replace(dimensions.NETWORK, starts=3)),
        Setting("stop-gradient", replace(dimensions.NETWORK, entropy="stopgrad")),
        Setting("random weights", RecurrentNetwork("knn", trained=False)),
        *baseline_settings((200,), more=CONTRASTS),
    ),
)
