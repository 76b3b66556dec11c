"""A dot on a circle, in frames of very different noise that the model has to notice (LDM paper, Fig. A4)."""

from typing import Any, Self

import numpy as np
import torch
from kept import Row
from scipy.spatial.distance import cdist

from identifiability.experiment import Experiment, Setting, Size, baseline_settings
from identifiability.measures import Fitted
from identifiability.networks import KalmanNetwork
from identifiability.runner import Plan
from kalmanssl.datasets import dot_videos

DATA: dict[str, Any] = {"motion": "circular", "noise": "random_gaussian"}


class ExactFilter:
    """What can be known at best: Bayes' rule on a grid of angles, with the true system but the labels of no video.

    The variance of a frame's pixels is taken to be what its best angle leaves over.
    """

    angles, draws = 400, 1_000_000

    def __init__(self, dims: int, plan: Plan, seed: int) -> None:
        self.system = dot_videos(n_videos=1, random_state=seed, **DATA)

    def fit(self, videos: np.ndarray) -> Self:
        """Tabulate the steps of the angle and the picture at each."""
        motion = self.system.motion
        grid = 2.0 * np.pi * np.arange(self.angles) / self.angles
        self.points = np.stack([np.cos(grid), np.sin(grid)], -1)
        self.pictures = self.system.render(self.points).astype(float)
        shift = np.sqrt(motion.process_variance) * np.random.default_rng(0).standard_normal((self.draws, 2))
        step = 2.0 * np.pi * motion.dt / motion.period + np.arctan2(shift[:, 1], 1.0 + shift[:, 0])
        counts = np.bincount(
            np.round(step * self.angles / (2.0 * np.pi)).astype(int) % self.angles, minlength=self.angles
        )
        self.step = np.fft.rfft(counts / self.draws)
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the mean of the position given the frames so far."""
        belief = np.full((len(videos), self.angles), 1.0 / self.angles)
        found = np.empty((*videos.shape[:2], 2))
        for t in range(videos.shape[1]):
            if t > 0:
                belief = np.fft.irfft(np.fft.rfft(belief) * self.step, self.angles)
            missed = cdist(videos[:, t], self.pictures, "sqeuclidean")
            best = missed.min(1, keepdims=True)
            belief = np.maximum(belief, 1e-300) * np.exp(-0.5 * videos.shape[-1] * (missed - best) / best)
            belief /= belief.sum(1, keepdims=True)
            found[:, t] = belief @ self.points
        return found


def noise_level(fitted: Fitted) -> Row:
    """Correlation of the inferred variance of the latents with the true variance of the pixels, over test frames."""
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
# that sees the noise times 0.03; ours moves twice as fast as the encoder. With 3200 videos a longer run ends at 0.957:
# it has more of them.
EXPERIMENT = Experiment(
    name="noise",
    title="Kalman predictor: noise that depends on the frame",
    figure="Fig. A4",
    data=DATA,
    sizes={
        "tiny": Size(32, 16, Plan(40, 8, 1.25e-3)),
        "quick": Size(2000, 64, Plan(2500, 32, 1.25e-3, noise=2.0)),
        "full": Size(20000, 200, Plan(12000, 32, 1.25e-3, noise=2.0, last=0.02)),
    },
    settings=(
        Setting("stop-gradient", SEEN["stopgrad"], published=0.959, goal=0.95),
        Setting("kNN", SEEN["knn"]),
        Setting("stop-gradient, constant noise", KalmanNetwork("stopgrad")),
        Setting("exact filter, knows the system", ExactFilter),
        Setting("random weights", KalmanNetwork("stopgrad", trained=False)),
        Setting("stop-gradient, repeated trajectories", SEEN["stopgrad"], {"repeated": True}, 0.959),
        *baseline_settings((100,), 1000),
    ),
    angles=(np.pi / 10.0,),
    measure=noise_level,
)
