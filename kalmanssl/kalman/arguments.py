"""The door: arguments are checked here once and brought into one form; what lies behind trusts them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = [
    "Model",
    "Observations",
    "check_count",
    "check_generator",
    "check_model",
    "check_observations",
    "check_state",
    "full_noise",
    "in_double",
    "visible_model",
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
    _check_tensor("y", y, None)
    if y.ndim != 3 or 0 in y.shape:
        raise ValueError(
            f"y: expected (batch, time, obs) with at least one of each, got {tuple(y.shape)}; "
            "for a single sequence (time, obs) pass y[None]"
        )
    if mask is not None:
        mask = _check_mask(mask, y)
    wrong = ~torch.isfinite(y.detach())
    if mask is not None:
        wrong = wrong & mask
    if bool(wrong.any()):
        batch, time, channel = (int(i) for i in wrong.nonzero()[0])
        raise ValueError(
            f"y: {float(y.detach()[batch, time, channel])} at batch {batch}, time {time}, channel {channel}; "
            "pass mask=torch.isfinite(y) if it marks a missing value"
        )
    if mask is None:
        return Observations(y, None)
    # One recursion serves all sequences that miss the same values, so that it matters to notice them.
    if bool((mask == mask[:1]).all()):
        mask = mask[:1]
    return Observations(torch.where(mask, y, torch.zeros_like(y)), mask)


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
    for name, value in {"A": A, "Q": Q, "C": C, "R": R, "b": b, "m0": m0, "P0": P0}.items():
        if value is not None:
            _check_tensor(name, value, like)
    if A.ndim not in (2, 4) or A.shape[-1] != A.shape[-2]:
        raise ValueError(f"A: expected (state, state) or (batch or 1, time or 1, state, state), got {tuple(A.shape)}")
    state = A.shape[-1]
    if C.ndim not in (2, 4) or C.shape[-1] != state:
        raise ValueError(
            f"C: expected (obs, state) or (batch or 1, time or 1, obs, state) with state = {state} from A, "
            f"got {tuple(C.shape)}"
        )
    if obs is not None and C.shape[-2] != obs:
        raise ValueError(
            f"C: expected {obs} rows, one for each channel of y, got {tuple(C.shape)}; "
            "C maps the state to the observation: pass C.mT if it is the wrong way round"
        )
    obs = C.shape[-2]
    return Model(
        A=_with_axes("A", A, (state, state), batch, time),
        b=like.new_zeros(1, 1, state) if b is None else _with_axes("b", b, (state,), batch, time),
        Q=_check_noise("Q", Q, "state", state, batch, time),
        C=_with_axes("C", C, (obs, state), batch, time),
        R=_check_noise("R", R, "obs", obs, batch, time),
        m0=like.new_zeros(1, state) if m0 is None else _check_m0(m0, state, batch),
        P0=torch.eye(state, dtype=like.dtype, device=like.device)[None] if P0 is None else _check_p0(P0, state, batch),
    )


def check_state(mean: Tensor, cov: Tensor) -> None:
    """Check the moments of a state, mean (batch, state) and cov (batch, state, state)."""
    _check_tensor("mean", mean, None)
    _check_tensor("cov", cov, mean)
    if mean.ndim != 2 or 0 in mean.shape:
        raise ValueError(f"mean: expected (batch, state), got {tuple(mean.shape)}; for one sequence pass mean[None]")
    batch, state = mean.shape
    if cov.shape != (batch, state, state):
        raise ValueError(
            f"cov: expected ({batch}, {state}, {state}) to go with mean, got {tuple(cov.shape)}; "
            "use expand for one covariance shared by the batch, diag_embed for a diagonal"
        )
    _check_covariance("cov", cov)


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


def full_noise(noise: Tensor) -> Tensor:
    """Covariance (batch|1, time|1, dim, dim) from the form in which `Model` holds Q or R."""
    return torch.diag_embed(noise) if noise.ndim == 3 else noise


def in_double(model: Model, observations: Observations) -> tuple[Model, Observations]:
    """The same in float64, where the device has it; for what is asked for once and should be right."""
    if observations.y.device.type == "mps":
        return model, observations
    model = Model(**{name: value.double() for name, value in vars(model).items()})
    return model, replace(observations, y=observations.y.double())


def visible_model(model: Model, mask: Tensor | None) -> Model:
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


def _check_tensor(name: str, value: Tensor, like: Tensor | None) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a torch.Tensor, got {type(value).__name__}; wrap it in torch.as_tensor")
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: expected float32 or float64, got {value.dtype}; convert it with .to(torch.float32)")
    if like is None:
        return
    if value.dtype != like.dtype or value.device != like.device:
        raise ValueError(
            f"{name}: expected {like.dtype} on {like.device} as the data, got {value.dtype} on {value.device}; "
            f"convert it with .to(dtype={like.dtype}, device={str(like.device)!r})"
        )
    if not bool(torch.isfinite(value.detach()).all()):
        raise ValueError(f"{name}: holds NaN or infinity; check the step that made it")


def _check_mask(mask: Tensor, y: Tensor) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask: expected a torch.Tensor of bool, True where observed, got {got}; use mask.bool()")
    if mask.shape == y.shape:
        full = mask
    elif mask.shape == y.shape[:2]:
        full = mask[..., None].expand_as(y)
    else:
        raise ValueError(
            f"mask: expected {tuple(y.shape)} as y or {tuple(y.shape[:2])} for whole steps, got {tuple(mask.shape)}"
        )
    return full.to(y.device)


def _with_axes(name: str, value: Tensor, tail: tuple[int, ...], batch: int, time: int) -> Tensor:
    """Give a parameter its batch and time axes; `tail` is the shape that it has without them."""
    if value.shape == tail:
        return value[None, None]
    if value.ndim == len(tail) + 2 and value.shape[2:] == tail:
        if value.shape[0] in (1, batch) and value.shape[1] in (1, time):
            return value
        fits = f"({_one_or(batch)}, {_one_or(time)}, {', '.join(map(str, tail))})"
        raise ValueError(f"{name}: expected {fits} for {batch} sequences of {time} steps, got {tuple(value.shape)}")
    numbers = ", ".join(map(str, tail))
    raise ValueError(
        f"{name}: expected ({numbers}{',' if len(tail) == 1 else ''}) or (batch or 1, time or 1, {numbers}), "
        f"got {tuple(value.shape)}; write out both axes, with 1 where it does not vary"
    )


def _one_or(size: int) -> str:
    return "1" if size == 1 else f"1 or {size}"


def _check_noise(name: str, noise: Tensor, axis: str, dim: int, batch: int, time: int) -> Tensor:
    if noise.ndim in (1, 3) and noise.shape[-1] == dim:
        diagonal = _with_axes(name, noise, (dim,), batch, time)
        if bool((diagonal.detach() < 0).any()):
            raise ValueError(
                f"{name}: a variance is negative (smallest {float(diagonal.detach().min()):.3g}); "
                "pass variances, through exp or softplus if they are learned"
            )
        return diagonal
    if noise.ndim in (2, 4) and noise.shape[-2:] == (dim, dim):
        full = _with_axes(name, noise, (dim, dim), batch, time)
        _check_covariance(name, full)
        return full
    raise ValueError(
        f"{name}: expected ({dim},) or (batch or 1, time or 1, {dim}) if diagonal, ({dim}, {dim}) or "
        f"(batch or 1, time or 1, {dim}, {dim}) if full, with {axis} = {dim}, got {tuple(noise.shape)}"
    )


def _check_covariance(name: str, cov: Tensor) -> None:
    cov = cov.detach()
    size = cov.diagonal(dim1=-2, dim2=-1).abs().amax()
    skew = (cov - cov.mT).abs().amax()
    if bool(skew > 1e3 * torch.finfo(cov.dtype).eps * size):
        raise ValueError(
            f"{name}: a covariance is not symmetric (differs from its transpose by {float(skew):.3g}); "
            "pass 0.5 * (M + M.mT), or M @ M.mT of a factor M"
        )
    smallest = cov.diagonal(dim1=-2, dim2=-1).amin()
    if bool(smallest < 0):
        raise ValueError(f"{name}: a variance on the diagonal is negative (smallest {float(smallest):.3g})")


def _check_m0(m0: Tensor, state: int, batch: int) -> Tensor:
    if m0.shape == (state,):
        return m0[None]
    if m0.shape == (batch, state):
        return m0
    raise ValueError(f"m0: expected ({state},) or ({batch}, {state}) as (batch, state), got {tuple(m0.shape)}")


def _check_p0(P0: Tensor, state: int, batch: int) -> Tensor:
    if P0.shape == (state,):
        if bool((P0.detach() < 0).any()):
            raise ValueError(f"P0: a variance is negative (smallest {float(P0.detach().min()):.3g})")
        return torch.diag_embed(P0)[None]
    if P0.shape == (state, state):
        full = P0[None]
    elif P0.shape == (batch, state, state):
        full = P0
    else:
        raise ValueError(
            f"P0: expected ({state},) if diagonal, ({state}, {state}) or ({batch}, {state}, {state}) if full, "
            f"got {tuple(P0.shape)}; for diagonals that differ between sequences pass P0.diag_embed()"
        )
    _check_covariance("P0", full)
    return full
