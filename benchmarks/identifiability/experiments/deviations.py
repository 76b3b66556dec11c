"""The wobbly oscillator with process noise that is not Gaussian, against the theorem (LDM paper, Fig. A6)."""

from dataclasses import replace

from identifiability.experiment import Setting
from identifiability.experiments import wobbly
from kalmanssl.datasets import PROCESS_NOISES

# The paper does not say which distributions it used; these all have the variance of the Gaussian.
EXPERIMENT = replace(
    wobbly.EXPERIMENT,
    name="deviations",
    title="Recurrent predictor: process noise that is not Gaussian",
    figure="Fig. A6",
    settings=tuple(
        Setting(f"kNN, {name.replace('_', ' ')} noise", wobbly.NETWORK, {"process_noise": name})
        for name in PROCESS_NOISES
    ),
    measure=None,
)
