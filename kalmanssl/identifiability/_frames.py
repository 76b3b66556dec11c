"""Sequences of latents, predictions and data as arrays of frames, with input validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_integer

__all__ = ["Frames", "as_segments", "as_sequences", "check_same_frames", "covariance_sequences", "flatten"]

MIN_FRAMES = 200
FRAMES_PER_LATENT = 20


@dataclass(frozen=True)
class Frames:
    """Frames of all sequences, concatenated, without the first `burn_in` steps of each sequence.

    Attributes
    ----------
    latents, means : (frames, dims)
        Latents and their predicted means.
    step : (frames,)
        Time step of each frame within its sequence.
    covs : (distinct, dims, dims), optional
        Distinct predicted covariances.
    cov_index : (frames,)
        Index of the predicted covariance of each frame.
    data : (frames, features), optional
    true : (frames, dims), optional
    """

    latents: np.ndarray
    means: np.ndarray
    step: np.ndarray
    covs: np.ndarray | None
    cov_index: np.ndarray
    data: np.ndarray | None
    true: np.ndarray | None


def flatten(
    latents: Sequence[np.ndarray],
    means: Sequence[np.ndarray],
    covs: Sequence[np.ndarray] | None,
    data: Sequence[np.ndarray] | None,
    true: Sequence[np.ndarray] | None,
    burn_in: int,
) -> Frames:
    """Concatenate sequences into `Frames` and check that there are enough frames.

    Covariances of a Kalman filter converge, so only those before convergence are stored individually.
    """

    def concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([part[burn_in:] for part in parts])

    check_integer("burn_in", burn_in, 0)
    z = concatenate(latents)
    if len(z) < max(MIN_FRAMES, FRAMES_PER_LATENT * z.shape[1]):
        raise InputError(
            _too_few(len(z), z.shape[1], sum(map(len, latents)), len(latents), burn_in), parameter="burn_in"
        )
    step = np.concatenate([np.arange(len(part))[burn_in:] for part in latents])
    covs_of, index = _distinct_covariances(latents, covs, burn_in)
    return Frames(
        latents=z,
        means=concatenate(means),
        step=step,
        covs=covs_of,
        cov_index=np.zeros(len(z), dtype=int) if index is None else index,
        data=None if data is None else concatenate(data),
        true=None if true is None else concatenate(true),
    )


def _too_few(count: int, dims: int, total: int, n_segments: int, burn_in: int) -> str:
    """Say how many steps of latents remain of all steps, how many are needed, and what can be changed."""
    least = max(MIN_FRAMES, FRAMES_PER_LATENT * dims)
    where = "one segment" if n_segments == 1 else f"{n_segments} segments"
    longer = f"a part about {least / count:.2g} times as long" if count else "longer segments"
    fewer = f", or a model with at most {count // FRAMES_PER_LATENT} latents" if count >= MIN_FRAMES else ""
    return (
        f"{least} steps are needed for {dims} latents, and {count} remain of {total} in {where} without the first "
        f"{burn_in} of each, where the filter converges: use {longer}{fewer}"
    )


def _distinct_covariances(
    latents: Sequence[np.ndarray], covs: Sequence[np.ndarray] | None, burn_in: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the distinct covariances (distinct, dims, dims) and the index (frames,) of each frame into them."""
    if covs is None:
        return None, None
    table, index, known, size = [], [], {}, 0
    for part, cov in zip(latents, covs, strict=True):
        if id(cov) not in known:
            used = cov[burn_in:] if len(cov) > 1 else cov
            last = used[-1:]
            changing = np.flatnonzero(np.abs(used - last).max((1, 2), initial=0) > 1e-9 * np.abs(last).max(initial=0))
            distinct = used[: changing[-1] + 2] if len(changing) else used[:1]
            known[id(cov)] = (size, len(distinct))
            table.append(distinct)
            size += len(distinct)
        first, count = known[id(cov)]
        index.append(first + np.minimum(np.arange(max(len(part) - burn_in, 0)), count - 1))
    return np.concatenate(table), np.concatenate(index)


def as_segments(data: Any) -> Any:
    """Return a recording as a list of contiguous segments, a matrix as one sequence, and other data unchanged."""
    if isinstance(data, Recording):
        return [data.activity[segment] for segment in data.segments()]
    if isinstance(data, Tensor):
        data = data.detach().cpu().numpy()
    return data[None] if isinstance(data, np.ndarray) and data.ndim == 2 else data


def as_sequences(name: str, values: Any) -> list[np.ndarray]:
    """Check (batch, time, dim) or a list of (time, dim), and return a list of (time, dim) in float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.ndim != 3:
        raise InputError(
            f"{name} must be (batch, time, dim) or a list of (time, dim), got shape {values.shape}", parameter=name
        )
    parts = [np.asarray(part, dtype=float) for part in values]
    if not parts or any(part.ndim != 2 or 0 in part.shape for part in parts):
        raise InputError(
            f"{name} must be (batch, time, dim) or a list of (time, dim), got shapes {[p.shape for p in parts[:3]]}",
            parameter=name,
        )
    if len({part.shape[1] for part in parts}) > 1:
        dims = sorted({part.shape[1] for part in parts})
        raise InputError(f"{name} has sequences of different dimensions, {dims}", parameter=name)
    for i, part in enumerate(parts):
        if not np.isfinite(part).all():
            raise InputError(
                f"{name} has NaN or infinite values in sequence {i}: leave those frames out", parameter=name
            )
    return parts


def check_same_frames(
    name: str, parts: Sequence[np.ndarray], other_name: str, others: Sequence[np.ndarray], dims_too: bool = False
) -> None:
    """Raise InputError unless two lists of sequences have the same lengths (and dimensions, with `dims_too`)."""
    shapes = [[p.shape if dims_too else p.shape[:1] for p in group] for group in (parts, others)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{other_name} must have the shape of {name}: {len(parts)} sequences, the first {shapes[0][0]}; "
            f"got {len(others)}, the first {shapes[1][0]}",
            parameter=other_name,
        )


def covariance_sequences(cov: Any, latents: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Check predicted covariances and return them as (1 or time, dim, dim) for each sequence."""
    dim = latents[0].shape[1]
    cov = cov.detach().cpu().numpy() if isinstance(cov, Tensor) else cov
    if isinstance(cov, np.ndarray) and cov.shape == (dim, dim):
        parts = [np.asarray(cov, dtype=float)[None]] * len(latents)
    else:
        parts = [np.asarray(part, dtype=float) for part in cov]
        if [part.shape for part in parts] != [(len(z), dim, dim) for z in latents]:
            raise InputError(
                f"predicted_cov must be ({dim}, {dim}), or (time, {dim}, {dim}) for each sequence, "
                f"got {getattr(cov, 'shape', [p.shape for p in parts[:3]])}",
                parameter="predicted_cov",
            )
    if not all(np.isfinite(part).all() for part in parts):
        raise InputError("predicted_cov has NaN or infinite values", parameter="predicted_cov")
    return parts
