"""What others would do with the same videos: each is an object with fit(videos) and transform(videos).

All of them see flattened frames; the networks have the encoder of ours (one hidden layer) and are trained with the same
optimizer. They are plain forms of the methods, to tell which principle identifies what, not tuned implementations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor, nn
from torch.nn import functional

from identifiability.runner import Model, Plan, encode, optimize
from kalmanssl.kalman import kalman_filter
from kalmanssl.networks import MLPEncoder

__all__ = ["BASELINES", "CPC", "JEPA", "PCA", "CebraTime", "KalmanPCA", "SlowFeatures", "VICReg", "missing"]


class PCA:
    """Principal components of the frames, each of variance one."""

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

    Source: Wiskott & Sejnowski 2002, Neural Computation 14. The directions of smallest variance, which hold noise
    alone or nothing, are left out first.
    """

    kept, smallest = 20, 1e-6

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def fit(self, videos: np.ndarray) -> Self:
        """Solve the generalized eigenvalue problem of differences against values."""
        self.whitened = PCA(self.kept).fit(videos)
        variance = self.whitened.variance
        self.whitened.dims = min(self.kept, int((variance > self.smallest * variance[0]).sum()))
        white = self.whitened.transform(videos)
        change = np.diff(white, axis=1).reshape(-1, white.shape[-1])
        self.basis = eigh(np.cov(change.T))[1][:, : self.dims]
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the slowest features."""
        return self.whitened.transform(videos) @ self.basis


class KalmanPCA:
    """Linear dynamical system on principal components, read out by its Kalman filter.

    The state is the first components; the transition is their autocovariance at two steps by that at one, which noise
    that is new in each frame does not bias; the noise of the components is what the autocovariance at one step leaves
    unexplained of their variance, and the process noise follows from the stationary covariance of the state.
    """

    smallest = 1e-3  # variance, beside components of variance one

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
        # What the transition loses of the stationary variance, the process noise gives back.
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


class _Trained:
    """A network of frames, trained with a loss of videos."""

    def __init__(self, dims: int, hidden: tuple[int, ...], plan: Plan, seed: int) -> None:
        self.dims, self.hidden, self.plan, self.seed = dims, hidden, plan, seed

    def loss(self, latent: Tensor) -> Tensor:
        """Loss of latents (videos, frames, dims)."""
        raise NotImplementedError

    def head(self) -> nn.Module:
        """Further parameters, those that predict."""
        return nn.Identity()

    def fit(self, videos: np.ndarray) -> Self:
        """Train on videos."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.predict = self.head()
        self.network = MLPEncoder(videos.shape[-1], self.dims, self.hidden, random_state=self.seed)
        groups = {"encoder": list(self.network.parameters()), "dynamics": list(self.predict.parameters())}
        optimize(groups, lambda batch: self.loss(self.network(batch)), videos, self.plan, self.seed)
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the latents of the network."""
        return encode(self.network, videos)


class _Ahead(nn.Module):
    """Prediction of each latent but the first from those before it."""

    def __init__(self, dims: int, units: int = 32) -> None:
        super().__init__()
        self.recurrent, self.linear = nn.GRU(dims, units, batch_first=True), nn.Linear(units, dims)

    def forward(self, latent: Tensor) -> Tensor:
        """Predict (videos, frames - 1, dims) from latents (videos, frames, dims)."""
        return self.linear(self.recurrent(latent)[0][:, :-1])


class CPC(_Trained):
    """Contrastive predictive coding: which frame of the batch comes next, told by the distance to a prediction.

    Source: van den Oord et al. 2018, arXiv 1807.03748, with a recurrent context and a Gaussian score of unit variance.
    """

    candidates = 256

    def head(self) -> nn.Module:
        """What predicts the next latent."""
        return _Ahead(self.dims)

    def loss(self, latent: Tensor) -> Tensor:
        """Cross-entropy of the true next frame among candidates from the whole batch."""
        expected, ahead = self.predict(latent).flatten(0, 1), latent[:, 1:].flatten(0, 1)
        step = max(1, len(ahead) // self.candidates)
        expected, ahead = expected[::step], ahead[::step]
        return functional.cross_entropy(-0.5 * torch.cdist(expected, ahead).square(), torch.arange(len(ahead)))


class JEPA(_Trained):
    """Joint-embedding prediction with a stop-gradient: the next latent, held fixed, predicted from the past ones.

    Source: Grill et al. 2020 (arXiv 2006.07733) and Assran et al. 2023 (arXiv 2301.08243), over time and without a
    slow copy of the encoder. Latents are standardized over the batch, without which they shrink to a point.
    """

    def head(self) -> nn.Module:
        """What predicts the next latent."""
        return _Ahead(self.dims)

    def loss(self, latent: Tensor) -> Tensor:
        """Squared error of the prediction."""
        centered = latent - latent.mean((0, 1))
        standard = centered / centered.square().mean((0, 1)).add(1e-6).sqrt()
        return (self.predict(standard) - standard[:, 1:].detach()).square().mean()


class VICReg(_Trained):
    """Neighboring frames alike, variances at one, no covariances; weights 25, 25, 1.

    Source: Bardes et al. 2022, arXiv 2105.04906.
    """

    def loss(self, latent: Tensor) -> Tensor:
        """Invariance, variance and covariance terms."""
        flat = latent.flatten(0, 1)
        cov = torch.cov(flat.T).reshape(self.dims, self.dims)
        spread = functional.relu(1.0 - (cov.diagonal() + 1e-4).sqrt()).mean()
        off = (cov - torch.diag(cov.diagonal())).square().sum() / self.dims
        return 25.0 * (latent[:, 1:] - latent[:, :-1]).square().mean() + 25.0 * spread + off


class CebraTime:
    """CEBRA-Time of the cebra package: contrastive, positives are frames that are near in time."""

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


BASELINES: dict[str, Callable[[int, tuple[int, ...], Plan, int], Model]] = {
    "PCA": lambda dims, hidden, plan, seed: PCA(dims),
    "slow features": lambda dims, hidden, plan, seed: SlowFeatures(dims),
    "PCA + Kalman": lambda dims, hidden, plan, seed: KalmanPCA(dims),
    "CPC": CPC,
    "JEPA": JEPA,
    "VICReg": VICReg,
    "CEBRA-Time": lambda dims, hidden, plan, seed: CebraTime(dims, plan, seed),
}
"""Baselines by name, made from latent dimensions, widths of hidden layers, a plan and a seed."""


def missing(name: str) -> str | None:
    """Why a baseline cannot run here, or None."""
    from importlib.util import find_spec

    if name == "CEBRA-Time" and find_spec("cebra") is None:
        return "the cebra package is missing: pip install -e '.[benchmarks]'"
    return None
