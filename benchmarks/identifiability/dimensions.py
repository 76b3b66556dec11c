"""Coupled oscillators in 2 to 10 dimensions behind a random network (LDM paper, Fig. A7)."""

from identifiability.experiment import Experiment, Setting, Size, baseline_settings
from identifiability.networks import RecurrentNetwork
from identifiability.runner import Plan

NETWORK = RecurrentNetwork("knn", units=32, head=(64, 64), samples=640)

# Published: 100000 frames, 20 rounds; system and network are not. Ours are those of `dot_videos("oscillators")`.
EXPERIMENT = Experiment(
    name="dimensions",
    title="Recurrent predictor: 2 to 10 dimensions",
    figure="Fig. A7",
    data={"motion": "oscillators"},
    sizes={
        "tiny": Size(32, 16, Plan(30, 8, 2e-3, dynamics=3.0)),
        "quick": Size(1000, 64, Plan(2500, 32, 2e-3, dynamics=3.0)),
        "full": Size(4000, 200, Plan(20000, 64, 2e-3, dynamics=3.0, last=0.02)),
    },
    settings=(
        *(
            Setting(f"kNN, {dims} dimensions", NETWORK, {"dims": dims}, goal=0.9 if dims == 5 else None)
            for dims in (2, 3, 5, 10)
        ),
        Setting("random weights, 5 dimensions", RecurrentNetwork("knn", trained=False), {"dims": 5}),
        *baseline_settings((200,), 1000, {"dims": 5}),
    ),
)
