"""Coupled oscillators in 2 to 10 dimensions behind a random network (LDM paper, Fig. A7)."""

from dataclasses import replace

from identifiability.experiment import Experiment, Setting, Size, baseline_settings, whitened_settings
from identifiability.matcher import Plan
from identifiability.networks import RecurrentNetwork

NETWORK = RecurrentNetwork("knn", units=32, head=(64, 64), samples=640)
WHITENED = replace(NETWORK, whiten=True, starts=3, start_steps=0.2)
FASTER = {  # on whitened frames
    "tiny": Plan(30, 8, 4e-3, dynamics_lr_factor=3.0),
    "quick": Plan(2500, 32, 4e-3, dynamics_lr_factor=3.0),
    "full": Plan(20000, 64, 4e-3, dynamics_lr_factor=3.0, final_lr_factor=0.02),
}

# In the paper: 100000 frames, 20 epochs. It describes neither the system nor the network; here see
# `dot_videos("oscillators")`.
EXPERIMENT = Experiment(
    name="dimensions",
    title="Recurrent predictor: 2 to 10 dimensions",
    figure="Fig. A7",
    data={"motion": "oscillators"},
    sizes={
        "tiny": Size(32, 16, Plan(30, 8, 2e-3, dynamics_lr_factor=3.0)),
        "quick": Size(1000, 64, Plan(2500, 32, 2e-3, dynamics_lr_factor=3.0)),
        "full": Size(4000, 200, Plan(20000, 64, 2e-3, dynamics_lr_factor=3.0, final_lr_factor=0.02)),
    },
    settings=(
        *(
            Setting(f"kNN, {dims} dimensions", NETWORK, {"dims": dims}, goal=0.9 if dims == 5 else None)
            for dims in (2, 3, 5, 10)
        ),
        *(
            Setting(f"kNN, {latent} latents of 5 dimensions", replace(NETWORK, latent=latent), {"dims": 5})
            for latent in (3, 4, 6, 8)
        ),
        *(
            Setting(
                f"kNN, whitened, {dims} dimensions",
                WHITENED,
                {"dims": dims},
                goal=0.9 if dims == 5 else None,
                plans=FASTER,
            )
            for dims in (2, 3, 5, 10)
        ),
        Setting("random weights, 5 dimensions", RecurrentNetwork("knn", trained=False), {"dims": 5}),
        *baseline_settings((200,), {"dims": 5}),
        *whitened_settings((200,), FASTER, {"dims": 5}),
    ),
)
