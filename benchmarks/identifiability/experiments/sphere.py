"""A walk on the sphere with von Mises-Fisher steps, behind a random network (LDM paper, Theorem 2)."""

from dataclasses import replace

from identifiability.experiment import Setting, baseline_settings
from identifiability.experiments import dimensions
from identifiability.matcher import Plan
from identifiability.networks import RecurrentNetwork

KNN = RecurrentNetwork(
    "knn",
    distribution="von_mises_fisher",
    variance="constant",
    units=32,
    head=(64, 64),
)

# With the prediction itself as density the gradient of the stop-gradient is zero at every encoder that is injective: it
# stays near the random weights or collapses. A density of its own must be close to its optimum from the first step on,
# since the encoder moves away from its errors: it has further steps, little momentum, and no clipping of the gradient,
# which that of the encoder dominates.
FAST = Plan(1000, 16, 5e-4, dynamics_lr_factor=12.0, warm_up=0.1, gradient_clip=1e6, density_steps=2, momentum=0.5)
DENSITY = {"tiny": replace(FAST, steps=20), "quick": FAST, "full": replace(FAST, steps=20_000, batch=32)}

EXPERIMENT = replace(
    dimensions.EXPERIMENT,
    name="sphere",
    title="Recurrent predictor on the sphere",
    figure="Theorem 2",
    data={"motion": "sphere"},
    settings=(
        Setting("kNN", KNN),
        Setting("stop-gradient", replace(KNN, entropy="stopgrad")),
        Setting(
            "stop-gradient, separate density", replace(KNN, entropy="stopgrad", density=True), goal=0.97, plans=DENSITY
        ),
        Setting("kNN, Gaussian in Euclidean space", RecurrentNetwork("knn", units=32, head=(64, 64))),
        Setting("random weights", replace(KNN, trained=False)),
        *baseline_settings((200,)),
    ),
)
