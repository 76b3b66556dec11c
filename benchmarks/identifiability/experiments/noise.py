"""A dot on a circle, in frames with different amounts of noise that the model has to infer (LDM paper, Fig. A4)."""

from typing import Any, Self

import numpy as np
import torch
from results_store import Row
from scipy.spatial.distance import cdist

from identifiability.experiment import Experiment, Setting, Size, baseline_settings
from identifiability.matcher import Plan
from identifiability.measures import Fitted
from identifiability.networks import KalmanNetwork
from kalmanssl.datasets import dot_videos
from kalmanssl.networks import NoiseContext, VarianceNetwork

DATA: dict[str, Any] = {"motion": "circular", "noise": "random_gaussian"}


class ExactFilter:
    """Upper bound: Bayes' rule on a grid of angles, with the true system but without labels.

    The noise variance of a frame is estimated by the residual variance at its best angle.
    """

    angles, draws = 400, 1_000_000

    def __init__(self, dims: int, plan: Plan, seed: int) -> None:
        self.system = dot_videos(n_videos=1, random_state=seed, **DATA)

    def fit(self, videos: np.ndarray) -> Self:
        """Tabulate the distribution of the angle's steps and the image at each angle."""
        motion = self.system.motion
        grid = 2.0 * np.pi * np.arange(self.angles) / self.angles
        self.points = np.stack([np.cos(grid), np.sin(grid)], -1)
        self.images = self.system.render(self.points).astype(float)
        shift = np.sqrt(motion.process_variance) * np.random.default_rng(0).standard_normal((self.draws, 2))
        step = 2.0 * np.pi * motion.dt / motion.period + np.arctan2(shift[:, 1], 1.0 + shift[:, 0])
        counts = np.bincount(
            np.round(step * self.angles / (2.0 * np.pi)).astype(int) % self.angles, minlength=self.angles
        )
        self.step = np.fft.rfft(counts / self.draws)
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the posterior mean of the position given the frames so far."""
        belief = np.full((len(videos), self.angles), 1.0 / self.angles)
        mean = np.empty((*videos.shape[:2], 2))
        for t in range(videos.shape[1]):
            if t > 0:
                belief = np.fft.irfft(np.fft.rfft(belief) * self.step, self.angles)
            squares = cdist(videos[:, t], self.images, "sqeuclidean")
            best = squares.min(1, keepdims=True)
            belief = np.maximum(belief, 1e-300) * np.exp(-0.5 * videos.shape[-1] * (squares - best) / best)
            belief /= belief.sum(1, keepdims=True)
            mean[:, t] = belief @ self.points
        return mean


def noise_level(fitted: Fitted) -> Row:
    """Return the correlation of the inferred variance of the latents with the true variance of the pixels."""
    head = fitted.model.model.predictor.observation_noise
    if not isinstance(head, VarianceNetwork):
        return {}
    with torch.no_grad():
        inferred = head(NoiseContext(torch.from_numpy(fitted.test.videos))).mean(-1).numpy().ravel()
    true = fitted.test.noise_variance.ravel()
    shown = slice(None, None, max(1, len(true) // 1000))
    pairs = np.stack([true, inferred], -1)[shown].round(5).tolist()
    return {"noise_correlation": float(np.corrcoef(inferred, true)[0, 1]), "noise_levels": pairs}


INPUT_NOISE = {entropy: KalmanNetwork(entropy, input_noise=True, samples=1600) for entropy in ("stopgrad", "knn")}

# In the paper: stop-gradient, 3200 videos, 20 epochs with batches of 32, encoder 1.25e-3, dynamics 100 times as fast,
# noise network 0.03 times; here the noise network is twice as fast as the encoder. `full` has more videos, since a
# longer training on 3200 reaches only 0.957.
EXPERIMENT = Experiment(
    name="noise",
    title="Kalman predictor: noise that depends on the frame",
    figure="Fig. A4",
    data=DATA,
    sizes={
        "tiny": Size(32, 16, Plan(40, 8, 1.25e-3)),
        "quick": Size(2000, 64, Plan(2500, 32, 1.25e-3, noise_lr_factor=2.0)),
        "full": Size(20000, 200, Plan(12000, 32, 1.25e-3, noise_lr_factor=2.0, final_lr_factor=0.02)),
    },
    settings=(
        Setting("stop-gradient", INPUT_NOISE["stopgrad"], published=0.959, goal=0.95),
        Setting("kNN", INPUT_NOISE["knn"]),
        Setting("stop-gradient, constant noise", KalmanNetwork("stopgrad")),
        Setting("exact filter, knows the system", ExactFilter),
        Setting("random weights", KalmanNetwork("stopgrad", trained=False)),
        Setting("stop-gradient, repeated trajectories", INPUT_NOISE["stopgrad"], {"repeated": True}, 0.959),
        *baseline_settings((100,)),
    ),
    angles=(np.pi / 10.0,),
    measure=noise_level,
)
