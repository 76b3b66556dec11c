"""CEBRA-Time: an embedding that is trained without labels (Schneider, Lee and Mathis 2023, Nature 617:360)."""

from __future__ import annotations

from typing import Any

import numpy as np

from decoding.baselines.features import smooth
from decoding.baselines.neighbors import Features
from decoding.tasks import Data, Task

__all__ = ["cebra_features"]

RECEPTIVE_FIELD = 10  # bins; five of them are later than the decoded bin
DIMENSIONS = 8


def cebra_features(task: Task, seed: int, iterations: int, smoothed: bool) -> Features:
    """Return the embedding of CEBRA-Time, trained on the bins of the task; optionally smoothed (centered, 250 ms)."""
    mask, fitted_on = task.fit_mask, task.fitted_on

    def embedding(data: Data, part: str) -> np.ndarray:
        model = data.cache.get(
            ("cebra", seed, iterations, fitted_on), lambda: _train(data.train.activity[mask], seed, iterations)
        )
        rec = data.part(part)
        return np.concatenate([_transform(model, rec.activity[segment]) for segment in rec.segments()])

    def make(data: Data, part: str) -> np.ndarray:
        def compute() -> np.ndarray:
            values = embedding(data, part)
            return smooth(values, data, part, "centered") if smoothed else values

        return data.cache.get(("cebra features", seed, iterations, fitted_on, part, smoothed), compute)

    return Features(f"cebra {seed} {iterations} {fitted_on} {smoothed}", make)


def _train(activity: np.ndarray, seed: int, iterations: int) -> Any:
    """Train on the bins in order."""
    import cebra
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cebra.CEBRA(
            model_architecture="offset10-model",
            batch_size=512,
            learning_rate=3e-4,
            temperature=1.0,
            output_dimension=DIMENSIONS,
            max_iterations=iterations,
            time_offsets=10,
            distance="cosine",
            conditional="time",
            device="cpu",
            verbose=False,
        ).fit(np.asarray(activity, dtype=np.float32))


def _transform(model: Any, activity: np.ndarray) -> np.ndarray:
    """Return the embedding of one segment; a short one is padded with copies of its last bin."""
    activity = np.asarray(activity, dtype=np.float32)
    missing = max(RECEPTIVE_FIELD + 1 - len(activity), 0)
    padded = np.concatenate([activity, np.repeat(activity[-1:], missing, axis=0)])
    return model.transform(padded)[: len(activity)]
