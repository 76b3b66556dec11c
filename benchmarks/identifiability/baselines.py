"""Other methods on the same videos. Each has fit(videos) and transform(videos); to add one, add it to `BASELINES`.

All of them work on flattened frames. The networks have the same encoder as our model (one hidden layer) and are trained
in the same way. They are simple, untuned forms of the methods: they show which principle identifies the latents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor, nn
from torch.nn import functional

from identifiability.matcher import Model, Plan, encode, fit_network
from kalmanssl.kalman import kalman_filter
from kalmanssl.models import Terms, Trainable
from kalmanssl.networks import MLPEncoder

__all__ = [
    "BASELINES", "CPC", "JEPA", "LINEAR", "PCA", "CebraTime", "KalmanPCA", "MakeBaseline", "SlowFeatures", "VICReg",
    "why_missing",
]  # fmt: skip


class PCA:
    """Principal components of the frames, each with variance one."""

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def fit(self, videos: np.ndarray) -> Self:
        """Find the directions of largest variance."""
        frames = videos.reshape(-1, videos.shape[-1]).astype(float)
        self.center = frames.mean(0)
        variance, directions = np.linalg.eigh(np.cov(frames.T))
        self.variance = np.maximum(variance[::-1], 1e-12)
        self.basis = directions[:, ::-1] / np.sqrt(self.variance)
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the first components."""
        return (videos - self.center) @ self.basis[:, : self.dims]


class SlowFeatures:
    """Linear slow feature analysis: directions of unit variance that change least from frame to frame.

    Directions of small variance, which contain only noise, are removed first.

    Source: Wiskott & Sejnowski 2002, Neural Computation 14.
    """

    n_components, smallest = 20, 1e-6

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def fit(self, videos: np.ndarray) -> Self:
        """Solve the generalized eigenvalue problem of differences against values."""
        self.whitened = PCA(self.n_components).fit(videos)
        variance = self.whitened.variance
        self.whitened.dims = min(self.n_components, int((variance > self.smallest * variance[0]).sum()))
        white = self.whitened.transform(videos)
        change = np.diff(white, axis=1).reshape(-1, white.shape[-1])
        self.basis = eigh(np.cov(change.T))[1][:, : self.dims]
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the slowest features."""
        return self.whitened.transform(videos) @ self.basis


class KalmanPCA:
    """Linear dynamical system on principal components; `transform` returns the filtered state.

    The transition is the ratio of the autocovariances of the components at lags two and one, which white observation
    noise does not bias. The variance of the components that the autocovariance at lag one does not explain is
    observation noise. The process noise follows from the stationary covariance of the state.
    """

    smallest = 1e-3  # smallest variance; the components have variance one

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def fit(self, videos: np.ndarray) -> Self:
        """Find the components and, by their autocovariances, transition and noise."""
        self.components = PCA(self.dims).fit(videos)
        z = self.components.transform(videos)

        def lagged(lag: int) -> np.ndarray:
            ahead, behind = (x.reshape(-1, self.dims) for x in (z[:, lag:], z[:, : z.shape[1] - lag]))
            return ahead.T @ behind / len(ahead)

        A = np.linalg.lstsq(lagged(1).T, lagged(2).T, rcond=1e-2)[0].T
        A *= min(1.0, 0.999 / max(np.abs(np.linalg.eigvals(A)).max(), 1e-12))
        signal = np.linalg.lstsq(A, lagged(1), rcond=1e-2)[0]
        variance = np.clip(np.diag(signal), self.smallest, 1.0 - self.smallest)
        # The process noise replaces what the transition removes from the stationary variance.
        lost = variance - np.diag(A @ np.diag(variance) @ A.T)
        self.parameters = {"A": A, "Q": np.maximum(lost, self.smallest), "R": 1.0 - variance, "P0": variance}
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the filtered state."""
        y = torch.from_numpy(self.components.transform(videos))
        eye, zero = torch.eye(self.dims, dtype=y.dtype), torch.zeros(self.dims, dtype=y.dtype)
        parameters: dict[str, Any] = {
            name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in self.parameters.items()
        }
        return kalman_filter(y, C=eye, b=zero, m0=zero, **parameters).filtered_mean.numpy()


class _Network(Trainable):
    """An encoder of frames and what predicts from its latents, with a loss on the latents of videos."""

    def __init__(self, encoder: nn.Module, predictor: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.predictor, self.loss = encoder, predictor, loss

    def terms(self, batch: Tensor) -> Terms:
        """Evaluate the loss."""
        loss = self.loss(self.predictor, self.encoder(batch))
        return Terms(alignment=-loss, entropy=torch.zeros_like(loss))

    def diagnostics(self, batch: Tensor) -> dict[str, float]:
        """Return constants, so that training does not stop when the latents collapse: the score shows it."""
        return {"latent_scale": 1.0, "effective_dimension": 1.0}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the encoder and of the predictor."""
        return {"encoder": list(self.encoder.parameters()), "dynamics": list(self.predictor.parameters())}


class _TrainedBaseline:
    """A baseline that trains a network."""

    def __init__(self, dims: int, hidden: tuple[int, ...], plan: Plan, seed: int) -> None:
        self.dims, self.hidden, self.plan, self.seed = dims, hidden, plan, seed

    def predictor(self) -> nn.Module:
        """Return a new predictor; by default there is none."""
        return nn.Identity()

    def loss(self, predictor: nn.Module, latent: Tensor) -> Tensor:
        """Return the loss of latents (videos, frames, dims)."""
        raise NotImplementedError

    def fit(self, videos: np.ndarray) -> Self:
        """Train on videos."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            predictor = self.predictor()
        self.encoder = MLPEncoder(videos.shape[-1], self.dims, self.hidden, random_state=self.seed)
        fit_network(_Network(self.encoder, predictor, self.loss), videos, self.plan, self.seed)
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the latents of the encoder."""
        return encode(self.encoder, videos)


class _RecurrentPredictor(nn.Module):
    """Predicts each latent except the first from those before it."""

    n_units = 32

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.recurrent, self.linear = nn.GRU(dims, self.n_units, batch_first=True), nn.Linear(self.n_units, dims)

    def forward(self, latent: Tensor) -> Tensor:
        """Predict (videos, frames - 1, dims) from latents (videos, frames, dims)."""
        return self.linear(self.recurrent(latent)[0][:, :-1])


class CPC(_TrainedBaseline):
    """Contrastive predictive coding: a classifier of the next frame by its distance from a prediction.

    Source: van den Oord et al. 2018, arXiv 1807.03748, with a recurrent context and a Gaussian score of unit variance.
    """

    candidates = 256

    def predictor(self) -> nn.Module:
        """Return a recurrent network."""
        return _RecurrentPredictor(self.dims)

    def loss(self, predictor: nn.Module, latent: Tensor) -> Tensor:
        """Return the cross-entropy of the true next frame among candidates from the whole batch."""
        predicted, target = predictor(latent).flatten(0, 1), latent[:, 1:].flatten(0, 1)
        step = max(1, len(target) // self.candidates)
        predicted, target = predicted[::step], target[::step]
        return functional.cross_entropy(-0.5 * torch.cdist(predicted, target).square(), torch.arange(len(target)))


class JEPA(_TrainedBaseline):
    """Joint-embedding prediction: the next latent, with a stop-gradient, is predicted from the past ones.

    Latents are standardized over the batch, since otherwise they collapse; there is no momentum encoder.

    Source: Grill et al. 2020 (arXiv 2006.07733) and Assran et al. 2023 (arXiv 2301.08243), applied over time.
    """

    def predictor(self) -> nn.Module:
        """Return a recurrent network."""
        return _RecurrentPredictor(self.dims)

    def loss(self, predictor: nn.Module, latent: Tensor) -> Tensor:
        """Return the squared error of the prediction."""
        centered = latent - latent.mean((0, 1))
        standard = centered / centered.square().mean((0, 1)).add(1e-6).sqrt()
        return (predictor(standard) - standard[:, 1:].detach()).square().mean()


class VICReg(_TrainedBaseline):
    """Similar latents of neighboring frames, variances of one, no covariances; coefficients 25, 25, 1.

    Source: Bardes et al. 2022, arXiv 2105.04906.
    """

    def loss(self, predictor: nn.Module, latent: Tensor) -> Tensor:
        """Return the sum of the invariance, variance and covariance terms."""
        flat = latent.flatten(0, 1)
        cov = torch.cov(flat.T).reshape(self.dims, self.dims)
        hinge = functional.relu(1.0 - (cov.diagonal() + 1e-4).sqrt()).mean()
        off = (cov - torch.diag(cov.diagonal())).square().sum() / self.dims
        return 25.0 * (latent[:, 1:] - latent[:, :-1]).square().mean() + 25.0 * hinge + off


class CebraTime:
    """CEBRA-Time of the cebra package: contrastive learning with neighboring frames as positive pairs."""

    def __init__(self, dims: int, plan: Plan, seed: int) -> None:
        self.dims, self.plan, self.seed = dims, plan, seed

    def fit(self, videos: np.ndarray) -> Self:
        """Train on all videos, one after the other."""
        import cebra

        torch.manual_seed(self.seed)
        self.network = cebra.CEBRA(
            model_architecture="offset1-model",
            output_dimension=self.dims,
            max_iterations=self.plan.steps,
            batch_size=512,
            time_offsets=1,
            distance="euclidean",
            device="cpu",
            verbose=False,
        )
        self.network.fit(videos.reshape(-1, videos.shape[-1]))
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the embedding."""
        return self.network.transform(videos.reshape(-1, videos.shape[-1])).reshape(*videos.shape[:2], -1)


MakeBaseline = Callable[[int, tuple[int, ...], Plan, int], Model]
"""Makes a baseline from the latent dimensions, the widths of hidden layers, a plan and a seed."""

BASELINES: dict[str, MakeBaseline] = {
    "PCA": lambda dims, hidden, plan, seed: PCA(dims),
    "slow features": lambda dims, hidden, plan, seed: SlowFeatures(dims),
    "PCA + Kalman": lambda dims, hidden, plan, seed: KalmanPCA(dims),
    "CPC": CPC,
    "JEPA": JEPA,
    "VICReg": VICReg,
    "CEBRA-Time": lambda dims, hidden, plan, seed: CebraTime(dims, plan, seed),
}
"""Baselines by name."""

LINEAR = ("PCA", "slow features", "PCA + Kalman")
"""Names of the linear ones."""


def why_missing(name: str) -> str | None:
    """Return why a baseline cannot run here, or None."""
    from importlib.util import find_spec

    if name == "CEBRA-Time" and find_spec("cebra") is None:
        return "the cebra package is missing: pip install -e '.[benchmarks]'"
    return None
