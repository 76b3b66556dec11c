"""The door: arguments are checked here once and brought into one form; what lies behind trusts them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Model",
    "Observations",
    "ShapeError",
    "as_covariance",
    "check_count",
    "check_covariance",
    "check_emission",
    "check_generator",
    "check_mask",
    "check_model",
    "check_noise",
    "check_observation",
    "check_observations",
    "check_state",
    "check_tensor",
    "check_transition",
    "in_precision",
    "mask_observations",
    "name_shapes",
    "to_float64",
]


@dataclass(frozen=True)
class Model:
    """Parameters with all axes written out; `|` marks an axis that is 1 where nothing varies along it.

    A : (batch|1, time|1, state, state);   b : (batch|1, time|1, state)
    C : (batch|1, time|1, obs, state);     m0 : (batch|1, state);   P0 : (batch|1, state, state)
    Q, R : (batch|1, time|1, dim) if diagonal, (batch|1, time|1, dim, dim) if full
    """

    A: Tensor
    b: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor
    m0: Tensor
    P0: Tensor


@dataclass(frozen=True)
class Observations:
    """Observations (batch, time, obs) with zeros where missing; mask (batch|1, time, obs), None if all is seen."""

    y: Tensor
    mask: Tensor | None


def check_observations(y: Tensor, mask: Tensor | None) -> Observations:
    """Check y (batch, time, obs) and its mask; fill what is missing with zeros."""
    check_tensor("y", y, None)
    if y.ndim != 3 or 0 in y.shape:
        raise ValueError(
            f"y: expected (batch, time, obs) with at least one of each, got {tuple(y.shape)}; "
            "for a single sequence (time, obs) pass y[None]"
        )
    if mask is not None:
        mask = check_mask(mask, y)
    filled = y if mask is None else torch.where(mask, y, y.new_zeros(()))
    if not _all_finite(filled):
        batch, time, channel = (int(i) for i in (~torch.isfinite(filled)).nonzero()[0])
        raise ValueError(
            f"y: {float(y.detach()[batch, time, channel])} at batch {batch}, time {time}, channel {channel}; "
            "pass mask=torch.isfinite(y) if it marks a missing value"
        )
    # One recursion serves all sequences that miss the same values, so that it matters to notice them.
    if mask is not None and torch.equal(mask, mask[:1].expand_as(mask)):
        mask = mask[:1]
    return Observations(filled, mask)


def check_observation(y: Tensor, mask: Tensor | None, *, batch: int) -> Observations:
    """Check one observation y (batch, obs) of each sequence, with its mask; the result has a time axis of 1."""
    if not isinstance(y, Tensor) or y.ndim != 2 or len(y) != batch:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"y: expected a tensor (batch, obs) with batch = {batch} from mean, got {got}")
    if isinstance(mask, Tensor):
        if mask.shape not in (y.shape, y.shape[:1]):
            raise ValueError(f"mask: expected {tuple(y.shape)} as y or ({len(y)},), got {tuple(mask.shape)}")
        mask = mask[:, None]
    return check_observations(y[:, None], mask)


def check_model(
    like: Tensor,
    batch: int,
    time: int,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None,
    m0: Tensor | None = None,
    P0: Tensor | None = None,
    obs: int | None = None,
) -> Model:
    """Check the parameters against the number of sequences and steps, the data type and device of `like`.

    `obs` is the number of channels in the data; without data it is taken from C.
    """
    with name_shapes(y=None if obs is None else like, A=A, Q=Q, C=C, R=R, b=b, m0=m0, P0=P0):
        A, b, Q = check_transition(like, batch, time, A=A, Q=Q, b=b)
        state = A.shape[-1]
        C, R = check_emission(like, batch, time, C=C, R=R, state=state, obs=obs)
        if m0 is None:
            m0 = like.new_zeros(1, state)
        else:
            check_tensor("m0", m0, like)
            m0 = _check_m0(m0, state, batch)
        if P0 is None:
            P0 = torch.eye(state, dtype=like.dtype, device=like.device)[None]
        else:
            check_tensor("P0", P0, like)
            P0 = _check_p0(P0, state, batch)
    return Model(A=A, b=b, Q=Q, C=C, R=R, m0=m0, P0=P0)


def check_transition(
    like: Tensor, batch: int, time: int, *, A: Tensor, Q: Tensor, b: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Check A, Q and b; give A, b and Q with all axes written out."""
    check_tensor("A", A, like)
    check_tensor("Q", Q, like)
    if A.ndim not in (2, 4) or A.shape[-1] != A.shape[-2] or A.shape[-1] == 0:
        raise ShapeError(f"A: expected (state, state) or (batch or 1, time or 1, state, state), got {tuple(A.shape)}")
    state = A.shape[-1]
    if b is None:
        b = like.new_zeros(1, 1, state)
    else:
        check_tensor("b", b, like)
        b = _with_axes("b", b, (state,), batch, time)
    A = _with_axes("A", A, (state, state), batch, time)
    return A, b, check_noise("Q", Q, "state", state, batch, time)


def check_emission(
    like: Tensor, batch: int, time: int, *, C: Tensor, R: Tensor, state: int, obs: int | None
) -> tuple[Tensor, Tensor]:
    """Check C and R against the number of states, and of channels where there is data; write out all axes."""
    check_tensor("C", C, like)
    check_tensor("R", R, like)
    if C.ndim not in (2, 4) or C.shape[-1] != state or C.shape[-2] == 0:
        raise ShapeError(
            f"C: expected (obs, state) or (batch or 1, time or 1, obs, state) with state = {state} from A, "
            f"got {tuple(C.shape)}"
        )
    if obs is not None and C.shape[-2] != obs:
        raise ShapeError(
            f"C: expected {obs} rows, one for each channel of y, got {tuple(C.shape)}; "
            "C maps the state to the observation: pass C.mT if it is the wrong way round"
        )
    obs = C.shape[-2]
    return _with_axes("C", C, (obs, state), batch, time), check_noise("R", R, "obs", obs, batch, time)


def check_state(mean: Tensor, cov: Tensor) -> None:
    """Check the moments of a state, mean (batch, state) and cov (batch, state, state)."""
    check_tensor("mean", mean, None)
    check_tensor("cov", cov, mean)
    if mean.ndim != 2 or 0 in mean.shape:
        raise ValueError(f"mean: expected (batch, state), got {tuple(mean.shape)}; for one sequence pass mean[None]")
    batch, state = mean.shape
    if cov.shape != (batch, state, state):
        raise ValueError(
            f"cov: expected ({batch}, {state}, {state}) to go with mean, got {tuple(cov.shape)}; "
            "use expand for one covariance shared by the batch, diag_embed for a diagonal"
        )
    check_covariance("cov", cov)


def check_generator(generator: torch.Generator | None) -> None:
    """Check that randomness comes from a generator of torch or is left to torch's own."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(
            f"generator: expected a torch.Generator or None, got {type(generator).__name__}; "
            "for a seed pass torch.Generator().manual_seed(seed)"
        )


def check_count(name: str, count: int) -> None:
    """Check a number of things to be made."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {count!r}")


def as_covariance(noise: Tensor) -> Tensor:
    """Covariance (batch|1, time|1, dim, dim) from the form in which `Model` holds Q or R."""
    return torch.diag_embed(noise) if noise.ndim == 3 else noise


def to_float64(model: Model, observations: Observations) -> tuple[Model, Observations]:
    """The same in float64, where the device has it; for what is asked for once and should be right."""
    if observations.y.device.type == "mps":
        return model, observations
    return in_precision(model, observations, torch.float64)


def in_precision(model: Model, observations: Observations, precision: torch.dtype) -> tuple[Model, Observations]:
    """The same in another data type."""
    model = Model(**{name: value.to(precision) for name, value in vars(model).items()})
    return model, replace(observations, y=observations.y.to(precision))


def mask_observations(model: Model, mask: Tensor | None) -> Model:
    """The model with missing channels made silent, which gives the exact update from what was observed.

    A missing channel gets a row of zeros in C and unit variance of its own: with an innovation of zero it adds
    nothing to the update, to the quadratic form or to the log-determinant.
    """
    if mask is None:
        return model
    C = model.C * mask[..., None].to(model.C.dtype)
    if model.R.ndim == 3:
        R = torch.where(mask, model.R, torch.ones_like(model.R))
    else:
        eye = torch.eye(model.R.shape[-1], dtype=model.R.dtype, device=model.R.device)
        R = torch.where(mask[..., None] & mask[..., None, :], model.R, eye)
    return replace(model, C=C, R=R)


class ShapeError(ValueError):
    """Shapes do not fit together."""


@contextmanager
def name_shapes(**tensors: Tensor | None) -> Iterator[None]:
    """Where shapes do not fit together, say what all of them are; a plain ValueError comes out."""
    try:
        yield
    except ShapeError as error:
        given = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items() if isinstance(t, Tensor))
        raise ValueError(f"{error}; given: {given}") from None


def check_tensor(name: str, value: Tensor, like: Tensor | None) -> None:
    """Check the type of a tensor and, against `like`, its data type, its device and that it is finite."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a torch.Tensor, got {type(value).__name__}; wrap it in torch.as_tensor")
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: expected float32 or float64, got {value.dtype}; convert it with .to(torch.float32)")
    if value.layout != torch.strided:
        raise ValueError(f"{name}: expected a dense tensor, got {value.layout}; convert it with .to_dense()")
    if value.device.type == "meta":
        raise ValueError(f"{name}: expected a tensor with values, got one on the device meta; make it on cpu or cuda")
    if like is None:
        return
    if value.dtype != like.dtype or value.device != like.device:
        raise ValueError(
            f"{name}: expected {like.dtype} on {like.device} as the data, got {value.dtype} on {value.device}; "
            f"convert it with .to(dtype={like.dtype}, device={str(like.device)!r})"
        )
    if not _all_finite(value):
        raise ValueError(f"{name}: holds NaN or infinity; check the step that made it")


def _all_finite(value: Tensor) -> bool:
    """Whether all is finite; the sum is, but for an overflow, and takes far less time than to look at each value."""
    value = value.detach()
    if value.device.type == "cpu":
        with np.errstate(all="ignore"):
            total = value.numpy().sum()
    else:
        total = value.sum().item()
    return math.isfinite(total) or bool(torch.isfinite(value).all())


def _smallest(value: Tensor) -> float:
    """The smallest number; on a CPU by numpy, since threads of torch that wait for more work hold up those to come."""
    value = value.detach()
    return float(value.numpy().min() if value.device.type == "cpu" else value.amin())


def check_mask(mask: Tensor, y: Tensor, name: str = "y") -> Tensor:
    """Check the mask of observations y (batch, time, obs), in messages called `name`; give it their shape."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask: expected a torch.Tensor of bool, True where observed, got {got}; use mask.bool()")
    if mask.shape == y.shape:
        full = mask
    elif mask.shape == y.shape[:2]:
        full = mask[..., None].expand_as(y)
    else:
        each, whole = tuple(y.shape), tuple(y.shape[:2])
        raise ValueError(f"mask: expected {each} as {name} or {whole} for whole steps, got {tuple(mask.shape)}")
    return full.to(y.device)


def _with_axes(name: str, value: Tensor, tail: tuple[int, ...], batch: int, time: int) -> Tensor:
    """Give a parameter its batch and time axes; `tail` is the shape that it has without them."""
    if value.shape == tail:
        return value[None, None]
    if value.ndim == len(tail) + 2 and value.shape[2:] == tail:
        if value.shape[0] in (1, batch) and value.shape[1] in (1, time):
            return value
        fits = f"({_one_or(batch)}, {_one_or(time)}, {', '.join(map(str, tail))})"
        raise ShapeError(f"{name}: expected {fits} for {batch} sequences of {time} steps, got {tuple(value.shape)}")
    numbers = ", ".join(map(str, tail))
    raise ShapeError(
        f"{name}: expected ({numbers}{',' if len(tail) == 1 else ''}) or (batch or 1, time or 1, {numbers}), "
        f"got {tuple(value.shape)}; write out both axes, with 1 where it does not vary"
    )


def _one_or(size: int) -> str:
    return "1" if size == 1 else f"1 or {size}"


def check_noise(name: str, noise: Tensor, axis: str, dim: int, batch: int, time: int) -> Tensor:
    """Check variances or covariances of a noise whose size is named `axis`; write out its batch and time axes."""
    if noise.ndim in (1, 3) and noise.shape[-1] == dim:
        diagonal = _with_axes(name, noise, (dim,), batch, time)
        smallest = _smallest(noise)
        if smallest < 0:
            raise ValueError(
                f"{name}: a variance is negative (smallest {smallest:.3g}); "
                "pass variances, through exp or softplus if they are learned"
            )
        return diagonal
    if noise.ndim in (2, 4) and noise.shape[-2:] == (dim, dim):
        full = _with_axes(name, noise, (dim, dim), batch, time)
        check_covariance(name, full)
        return full
    raise ShapeError(
        f"{name}: expected ({dim},) or (batch or 1, time or 1, {dim}) if diagonal, ({dim}, {dim}) or "
        f"(batch or 1, time or 1, {dim}, {dim}) if full, with {axis} = {dim}, got {tuple(noise.shape)}"
    )


def check_covariance(name: str, cov: Tensor) -> None:
    """Check that covariances (..., n, n) are symmetric and their variances not negative; of a single one, all of it.

    The eigenvalues of many would take longer than the filter does, and it finds out by itself.
    """
    cov = cov.detach()
    n = cov.shape[-1]
    single = cov.numel() == n * n
    if single and torch.equal(cov, cov.mT) and int(torch.linalg.cholesky_ex(cov)[1]) == 0:
        return
    smallest, largest = (extreme.item() for extreme in cov.diagonal(dim1=-2, dim2=-1).aminmax())
    tolerance = 1e3 * torch.finfo(cov.dtype).eps * max(abs(smallest), abs(largest))
    below, above = _off_diagonal(n, cov.device)
    if len(below):
        rows = cov.reshape(-1, n * n)
        skew = (rows.index_select(1, below) - rows.index_select(1, above)).abs().amax().item()
        if skew > tolerance:
            raise ValueError(
                f"{name}: a covariance is not symmetric (differs from its transpose by {skew:.3g}); "
                "pass 0.5 * (M + M.mT), or M @ M.mT of a factor M"
            )
    if smallest < 0:
        raise ValueError(f"{name}: a variance on the diagonal is negative (smallest {smallest:.3g})")
    if single:
        lowest = torch.linalg.eigvalsh(cov).min().item()
        if lowest < -tolerance:
            raise ValueError(
                f"{name}: a covariance is not positive (smallest eigenvalue {lowest:.3g}); "
                "pass M @ M.mT of a factor M if it is learned"
            )


@cache
def _off_diagonal(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the entries below the diagonal of a flattened (n, n) matrix are, and where their mirror images are."""
    row, column = torch.tril_indices(n, n, -1, device=device)
    return row * n + column, column * n + row


def _check_m0(m0: Tensor, state: int, batch: int) -> Tensor:
    if m0.shape == (state,):
        return m0[None]
    if m0.shape == (batch, state):
        return m0
    raise ShapeError(f"m0: expected ({state},) or ({batch}, {state}) as (batch, state), got {tuple(m0.shape)}")


def _check_p0(P0: Tensor, state: int, batch: int) -> Tensor:
    if P0.shape == (state,):
        smallest = _smallest(P0)
        if smallest < 0:
            raise ValueError(f"P0: a variance is negative (smallest {smallest:.3g})")
        return torch.diag_embed(P0)[None]
    if P0.shape == (state, state):
        full = P0[None]
    elif P0.shape == (batch, state, state):
        full = P0
    else:
        raise ShapeError(
            f"P0: expected ({state},) if diagonal, ({state}, {state}) or ({batch}, {state}, {state}) if full, "
            f"got {tuple(P0.shape)}; for diagonals that differ between sequences pass P0.diag_embed()"
        )
    check_covariance("P0", full)
    return full
