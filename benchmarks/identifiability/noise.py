"""A dot on a circle, in frames of very different noise that the model has to notice (LDM paper, Fig. A4)."""

import numpy as np
import torch

from identifiability.experiment import Experiment, Fitted, Row, Setting, Size, baseline_settings
from identifiability.networks import KalmanNetwork
from identifiability.runner import Matcher, Plan


def noise_level(fitted: Fitted) -> Row:
    """Correlation of the inferred variance of the latents with the true variance of the pixels, over test frames."""
    assert isinstance(fitted.model, Matcher)
    head = fitted.model.model.predictor.observation_noise
    if head.needs != "input":
        return {}
    with torch.no_grad():
        inferred = head(torch.from_numpy(fitted.test.videos)).mean(-1).numpy().ravel()
    true = fitted.test.noise_variance.ravel()
    shown = slice(None, None, max(1, len(true) // 1000))
    pairs = np.stack([true, inferred], -1)[shown].round(5).tolist()
    return {"noise_correlation": float(np.corrcoef(inferred, true)[0, 1]), "noise_levels": pairs}


SEEN = {entropy: KalmanNetwork(entropy, seen_noise=True, samples=1600) for entropy in ("stopgrad", "knn")}

# Published: stop-gradient, 3200 videos, 20 rounds in batches of 32, encoder 1.25e-3, dynamics times 100, the network
# that sees the noise times 0.03; ours moves twice as fast as the encoder.
EXPERIMENT = Experiment(
    name="noise",
    title="Kalman predictor: noise that depends on the frame",
    figure="Fig. A4",
    data={"motion": "circular", "noise": "random_gaussian"},
    sizes={
        "tiny": Size(32, 16, Plan(40, 8, 1.25e-3)),
        "quick": Size(2000, 64, Plan(2500, 32, 1.25e-3, noise=2.0)),
        "full": Size(3200, 200, Plan(6000, 32, 1.25e-3, noise=2.0, last=0.02)),
    },
    settings=(
        Setting("stop-gradient", SEEN["stopgrad"], published=0.959, goal=0.95),
        Setting("kNN", SEEN["knn"]),
        Setting("stop-gradient, constant noise", KalmanNetwork("stopgrad")),
        Setting("random weights", KalmanNetwork("stopgrad", trained=False)),
        Setting("stop-gradient, repeated trajectories", SEEN["stopgrad"], {"repeated": True}, 0.959),
        *baseline_settings((100,), 1000),
    ),
    measure=noise_level,
)
