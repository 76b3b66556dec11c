"""Input validation: every public function checks its arguments here; internal functions assume valid ones."""

from __future__ import annotations

import torch
from torch import Tensor

from kalmanssl.errors import NotFiniteError
from kalmanssl.kalman._covariance_checks import check_covariance, check_variances
from kalmanssl.kalman._model import Model, Observations
from kalmanssl.kalman._tensor_checks import (
    all_finite,
    check_layout,
    check_memory,
    check_tensor,
    name_shapes,
    read_array,
    wrong_shape,
    wrong_value,
)
from kalmanssl.kalman.backends import is_quickly_finite, quick_model

__all__ = [
    "check_emission",
    "check_generator",
    "check_mask",
    "check_model",
    "check_noise",
    "check_observation",
    "check_observations",
    "check_sizes",
    "check_state",
    "check_state_size",
    "check_transition",
    "with_axes",
]


def check_observations(y: Tensor, mask: Tensor | None) -> Observations:
    """Check y (batch, time, obs) and its mask; replace missing values by zeros."""
    quick = mask is None and isinstance(y, Tensor) and is_quickly_finite(y)
    if not quick:
        y = check_tensor("y", y, None)
    if y.ndim != 3 or 0 in y.shape:
        raise wrong_value(
            "y",
            f"expected (batch, time, obs) with at least one of each, got {tuple(y.shape)}; "
            "for a single sequence (time, obs) pass y[None]",
        )
    if quick:
        return Observations(y, None)
    check_memory("y", y.numel() * y.element_size())
    if mask is not None:
        mask = check_mask(mask, y)
    filled = y if mask is None else torch.where(mask, y, y.new_zeros(()))
    if not is_quickly_finite(filled) and not all_finite(filled):
        batch, time, channel = (int(i) for i in (~torch.isfinite(filled)).nonzero()[0])
        raise NotFiniteError(
            f"y: {float(y.detach()[batch, time, channel])} at batch {batch}, time {time}, channel {channel}; "
            "pass mask=torch.isfinite(y) if it marks a missing value",
            parameter="y",
        )
    # Sequences with the same missing values can share one covariance recursion.
    if mask is not None and torch.equal(mask, mask[:1].expand_as(mask)):
        mask = mask[:1]
    return Observations(filled, mask)


def check_observation(y: Tensor, mask: Tensor | None, *, batch: int) -> Observations:
    """Check one observation y (batch, obs) of each sequence and its mask; the result has a time axis of 1."""
    if isinstance(y, Tensor):
        y = check_tensor("y", y, None)
    if not isinstance(y, Tensor) or y.ndim != 2 or len(y) != batch:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise wrong_value("y", f"expected a tensor (batch, obs) with batch = {batch} from mean, got {got}")
    if isinstance(mask, Tensor):
        check_layout("mask", mask)
        if mask.shape not in (y.shape, y.shape[:1]):
            raise wrong_value("mask", f"expected {tuple(y.shape)} as y or ({len(y)},), got {tuple(mask.shape)}")
        mask = mask[:, None]
    return check_observations(y[:, None], mask)


def check_mask(mask: Tensor, y: Tensor, name: str = "y") -> Tensor:
    """Check the mask of observations y (batch, time, obs), called `name` in messages; expand it to their shape."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise wrong_value("mask", f"expected a torch.Tensor of bool, True where observed, got {got}; use mask.bool()")
    check_layout("mask", mask)
    read_array("mask", mask)
    if mask.shape == y.shape:
        full = mask
    elif mask.shape == y.shape[:2]:
        full = mask[..., None].expand_as(y)
    else:
        each, whole = tuple(y.shape), tuple(y.shape[:2])
        raise wrong_value("mask", f"expected {each} as {name} or {whole} for whole steps, got {tuple(mask.shape)}")
    return full.to(y.device)


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
    """Check the parameters against the number of sequences and steps, and the data type and device of `like`.

    `obs` is the number of channels in the data; without data it is taken from C.
    """
    quick = quick_model(like, batch, time, A=A, Q=Q, C=C, R=R, b=b, m0=m0, P0=P0, obs=obs)
    if quick is not None:
        return quick
    with name_shapes(y=None if obs is None else like, A=A, Q=Q, C=C, R=R, b=b, m0=m0, P0=P0):
        A, b, Q = check_transition(like, batch, time, A=A, Q=Q, b=b)
        state = A.shape[-1]
        C, R = check_emission(like, batch, time, C=C, R=R, state=state, obs=obs)
        if obs is not None:
            check_memory("y", like.element_size() * batch * time * (state + obs))
        if m0 is None:
            m0 = like.new_zeros(1, state)
        else:
            m0 = check_tensor("m0", m0, like)
            m0 = _check_m0(m0, state, batch)
        if P0 is None:
            P0 = torch.eye(state, dtype=like.dtype, device=like.device)[None]
        else:
            P0 = check_tensor("P0", P0, like)
            P0 = _check_p0(P0, state, batch)
    return Model(A=A, b=b, Q=Q, C=C, R=R, m0=m0, P0=P0)


def check_sizes(model: Model, y: Tensor) -> None:
    """Check that a model whose parameters were checked before fits observations y (batch, time, obs)."""
    batch, time, obs = y.shape
    for name, value in model.tensors().items():
        if value.dtype != y.dtype or value.device != y.device:
            raise wrong_value(
                "y", f"expected {value.dtype} on {value.device} as {name} of the model, got {y.dtype} on {y.device}"
            )
        steps = 1 if name in ("m0", "P0") else value.shape[1]
        if value.shape[0] not in (1, batch) or steps not in (1, time):
            raise wrong_value(
                "y",
                f"has {batch} sequences of {time} steps, but {name} of the model has the shape {tuple(value.shape)}",
            )
    if model.C.shape[-2] != obs:
        raise wrong_value("y", f"expected {model.C.shape[-2]} channels, one for each row of C, got {tuple(y.shape)}")


def check_transition(
    like: Tensor, batch: int, time: int, *, A: Tensor, Q: Tensor, b: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Check A, Q and b; return A, b and Q with batch and time axes."""
    A = check_tensor("A", A, like)
    Q = check_tensor("Q", Q, like)
    if A.ndim not in (2, 4) or A.shape[-1] != A.shape[-2] or A.shape[-1] == 0:
        raise wrong_shape(
            "A", f"expected (state, state) or (batch or 1, time or 1, state, state), got {tuple(A.shape)}"
        )
    state = A.shape[-1]
    if b is None:
        b = like.new_zeros(1, 1, state)
    else:
        b = check_tensor("b", b, like)
        b = with_axes("b", b, (state,), batch, time)
    A = with_axes("A", A, (state, state), batch, time)
    return A, b, check_noise("Q", Q, "state", state, batch, time)


def check_emission(
    like: Tensor, batch: int, time: int, *, C: Tensor, R: Tensor, state: int, obs: int | None
) -> tuple[Tensor, Tensor]:
    """Check C and R against the size of the state and the number of channels; return them with batch and time axes."""
    C = check_tensor("C", C, like)
    R = check_tensor("R", R, like)
    if C.ndim not in (2, 4) or C.shape[-1] != state or C.shape[-2] == 0:
        raise wrong_shape(
            "C",
            f"expected (obs, state) or (batch or 1, time or 1, obs, state) with state = {state} from A, "
            f"got {tuple(C.shape)}",
        )
    if obs is not None and C.shape[-2] != obs:
        raise wrong_shape(
            "C",
            f"expected {obs} rows, one for each channel of y, got {tuple(C.shape)}; "
            "C maps the state to the observation: pass C.mT if it is transposed",
        )
    obs = C.shape[-2]
    return with_axes("C", C, (obs, state), batch, time), check_noise("R", R, "obs", obs, batch, time)


def check_state(mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Check the moments of a state, mean (batch, state) and cov (batch, state, state), and return them."""
    mean = check_tensor("mean", mean, None)
    mean, cov = check_tensor("mean", mean, mean), check_tensor("cov", cov, mean)
    if mean.ndim != 2 or 0 in mean.shape:
        raise wrong_value("mean", f"expected (batch, state), got {tuple(mean.shape)}; for one sequence pass mean[None]")
    batch, state = mean.shape
    if cov.shape != (batch, state, state):
        raise wrong_value(
            "cov",
            f"expected ({batch}, {state}, {state}) to go with mean, got {tuple(cov.shape)}; "
            "use expand for one covariance shared by the batch, diag_embed for a diagonal",
        )
    check_covariance("cov", cov, computed=True)
    return mean, cov


def check_state_size(mean: Tensor, state: int) -> None:
    """Check that the mean (batch, state) of a state has the size of A."""
    if mean.shape[1] != state:
        raise wrong_value("mean", f"expected (batch, {state}) with the state of A, got {tuple(mean.shape)}")


def check_generator(generator: torch.Generator | None, like: Tensor | None = None) -> None:
    """Check that `generator` is a generator of torch, on the device of `like`, or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise wrong_value(
            "generator",
            f"expected a torch.Generator or None, got {type(generator).__name__}; "
            "for a seed pass torch.Generator().manual_seed(seed)",
        )
    if generator is not None and like is not None and generator.device.type != like.device.type:
        raise wrong_value(
            "generator", f"is on {generator.device} and the data on {like.device}; make one on that device"
        )


def with_axes(name: str, value: Tensor, tail: tuple[int, ...], batch: int, time: int) -> Tensor:
    """Add batch and time axes to a parameter; `tail` is its shape without them."""
    if value.shape == tail:
        return value[None, None]
    if value.ndim == len(tail) + 2 and value.shape[2:] == tail:
        if value.shape[0] in (1, batch) and value.shape[1] in (1, time):
            return value
        fits = f"({_one_or(batch)}, {_one_or(time)}, {', '.join(map(str, tail))})"
        raise wrong_shape(name, f"expected {fits} for {batch} sequences of {time} steps, got {tuple(value.shape)}")
    numbers = ", ".join(map(str, tail))
    raise wrong_shape(
        name,
        f"expected ({numbers}{',' if len(tail) == 1 else ''}) or (batch or 1, time or 1, {numbers}), "
        f"got {tuple(value.shape)}; write out both axes, with 1 where it does not vary",
    )


def _one_or(size: int) -> str:
    return "1" if size == 1 else f"1 or {size}"


def check_noise(name: str, noise: Tensor, axis: str, dim: int, batch: int, time: int) -> Tensor:
    """Check the variances or covariances of a noise and add batch and time axes; `axis` names its size in messages."""
    if noise.ndim in (1, 3) and noise.shape[-1] == dim:
        diagonal = with_axes(name, noise, (dim,), batch, time)
        check_variances(name, noise, "; pass variances, through exp or softplus if they are learned")
        return diagonal
    if noise.ndim in (2, 4) and noise.shape[-2:] == (dim, dim):
        full = with_axes(name, noise, (dim, dim), batch, time)
        check_covariance(name, full)
        return full
    raise wrong_shape(
        name,
        f"expected ({dim},) or (batch or 1, time or 1, {dim}) if diagonal, ({dim}, {dim}) or "
        f"(batch or 1, time or 1, {dim}, {dim}) if full, with {axis} = {dim}, got {tuple(noise.shape)}",
    )


def _check_m0(m0: Tensor, state: int, batch: int) -> Tensor:
    if m0.shape == (state,):
        return m0[None]
    if m0.shape == (batch, state):
        return m0
    raise wrong_shape("m0", f"expected ({state},) or ({batch}, {state}) as (batch, state), got {tuple(m0.shape)}")


def _check_p0(P0: Tensor, state: int, batch: int) -> Tensor:
    if P0.shape == (state,):
        check_variances("P0", P0)
        return torch.diag_embed(P0)[None]
    if P0.shape == (state, state):
        full = P0[None]
    elif P0.shape == (batch, state, state):
        full = P0
    else:
        raise wrong_shape(
            "P0",
            f"expected ({state},) if diagonal, ({state}, {state}) or ({batch}, {state}, {state}) if full, "
            f"got {tuple(P0.shape)}; for diagonals that differ between sequences pass P0.diag_embed()",
        )
    check_covariance("P0", full, computed=True)
    return full
