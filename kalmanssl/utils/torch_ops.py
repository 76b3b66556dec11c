"""Operations on tensors and modules that torch does not have, or that have a slower gradient in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from kalmanssl.utils.validation import check_integer

__all__ = [
    "evaluating",
    "fast_products",
    "gram",
    "one_thread",
    "one_thread_everywhere",
    "rows_not_finite",
    "seeded",
    "seeded_by",
    "threads_for",
    "unit_vectors",
]

_MIN_OPERATIONS = 1e9  # with fewer, a second thread gains little, and on a busy machine each one waits for the others


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return v @ v.T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        # Adding grad.T without a copy can be as slow as the product. The copy transposes in blocks and is faster.
        return grad.T.clone(memory_format=torch.contiguous_format).add_(grad) @ v


def gram(v: Tensor) -> Tensor:
    """Compute the inner products (samples, samples) of the rows of `v` (samples, D); differentiable to any order."""
    return _Gram.apply(v)


_SHORTEST = 1e-12  # lower limit of the length that vectors are divided by, so that a zero vector stays finite


class _UnitVectors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        z = u / _length(u)
        ctx.save_for_backward(u, z)
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        u, z = ctx.saved_tensors
        # The component of the gradient along z has no effect, because it would change only the length.
        return torch.addcmul(grad, z, (grad * z).sum(-1, keepdim=True), value=-1) / _length(u)


def _length(u: Tensor) -> Tensor:
    return torch.linalg.vector_norm(u, dim=-1, keepdim=True).clamp_min(_SHORTEST)


def unit_vectors(u: Tensor) -> Tensor:
    """Compute u / |u| along the last axis of `u` (..., dim); differentiable to any order."""
    return _UnitVectors.apply(u)


def rows_not_finite(v: Tensor) -> int:
    """Count the rows of `v` (samples, D) with NaN or infinite entries."""
    if v.detach().sum().isfinite():  # one fast pass; a sum with NaN or infinity is never finite
        return 0
    return int((~v.isfinite()).any(1).sum())


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode in a `with` block; afterwards, restore the mode of each submodule."""
    modes = {submodule: submodule.training for submodule in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for submodule, mode in modes.items():
            submodule.training = mode


@contextmanager
def seeded(random_state: int | None) -> Iterator[None]:
    """Seed the random generator of the CPU in a `with` block; afterwards, restore its state. None does nothing."""
    if random_state is None:
        yield
        return
    check_integer("random_state", random_state, 0)
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also reset the generators of GPUs.
        torch.default_generator.manual_seed(random_state)
        yield


@contextmanager
def seeded_by(generator: torch.Generator | None) -> Iterator[None]:
    """Let layers draw their weights as given by a generator in a `with` block, or by the global one of torch if None.

    Layers draw from the global generator only; its state is restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, for products that gain nothing from a second one and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def threads_for(module: nn.Module, rows: float) -> Iterator[None]:
    """Let torch and numpy use one thread if a forward pass has few multiplications, and else leave their threads.

    Parameters
    ----------
    module : nn.Module
        Each of its weights is taken to be used once for each row.
    rows : float
        Rows of the input: samples, or time steps of all sequences.
    """
    operations = rows * sum(parameter.numel() for parameter in module.parameters())
    with one_thread_everywhere() if operations < _MIN_OPERATIONS else nullcontext():
        yield


@contextmanager
def one_thread_everywhere() -> Iterator[None]:
    """Let torch and the linear algebra of numpy use one thread; entering takes milliseconds, unlike `one_thread`."""
    with one_thread(), threadpool_limits(1):
        yield


@contextmanager
def fast_products() -> Iterator[None]:
    """Let torch multiply matrices of float32 with oneDNN in a `with` block, where that is as accurate as usual.

    MKL, which torch uses otherwise, takes twice as long on processors of AMD, since it does not use AVX-512 there.
    """
    settings = getattr(torch.backends.mkldnn, "matmul", None)
    if settings is None or not _onednn_is_accurate():
        yield
        return
    before = settings.fp32_precision
    settings.fp32_precision = _PERMITS_ONEDNN
    try:
        yield
    finally:
        settings.fp32_precision = before


_PERMITS_ONEDNN = "bf16"  # permits also products of bfloat16, which oneDNN uses on processors that have tiles for them


@cache
def _onednn_is_accurate() -> bool:
    """Return whether oneDNN multiplies in float32, although the setting permits lower precision, too."""
    settings = getattr(torch.backends.mkldnn, "matmul", None)
    if settings is None or not torch.backends.mkldnn.is_available():
        return False
    entries = torch.arange(1.0, 256 * 128 + 1).sqrt().frac()
    left, right = entries.view(256, 128), entries.view(128, 256)
    before = settings.fp32_precision
    settings.fp32_precision = _PERMITS_ONEDNN
    try:
        product = left @ right
    finally:
        settings.fp32_precision = before
    exact = left.double() @ right.double()
    return bool((product - exact).abs().max() < 1e-5 * exact.abs().max())
