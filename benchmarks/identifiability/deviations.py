"""The wobbly oscillator with process noise that is not Gaussian, which the theorem asks for (LDM paper, Fig. A6)."""

from identifiability.experiment import Experiment, Setting, Size
from identifiability.networks import RecurrentNetwork
from identifiability.runner import Plan
from kalmanssl.datasets.process_noise import PROCESS_NOISES

# The paper does not say which deviations it tried; these all have the variance of the Gaussian.
EXPERIMENT = Experiment(
    name="deviations",
    title="Recurrent predictor: process noise that is not Gaussian",
    figure="Fig. A6",
    data={"motion": "wobbly", "view": 6.0},
    sizes={
        "tiny": Size(32, 16, Plan(30, 8, 2e-3, dynamics=3.0)),
        "quick": Size(2000, 64, Plan(2000, 32, 2e-3, dynamics=3.0)),
        "full": Size(10000, 200, Plan(20000, 128, 2e-3, dynamics=3.0, last=0.02)),
    },
    settings=tuple(
        Setting(f"kNN, {name.replace('_', ' ')} noise", RecurrentNetwork("knn", samples=320), {"process_noise": name})
        for name in PROCESS_NOISES
    ),
    score="r2_inside",
    inside=2.4,
)
