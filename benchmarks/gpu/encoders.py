"""Images per second of ResNet-18, forward and backward, in the precisions that the library supports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from results_store import Row

from gpu.timing import Clock, time_calls
from kalmanssl import recipes
from kalmanssl.images import PairAugmentation, ResNet18

__all__ = ["WORKS", "run_encoder", "works_of"]

SIDE = 32
BUDGET_S = 4.0
PRECISIONS = ("float32", "TF32", "bfloat16")
ENCODER, STEP = "ResNet-18", "ResNet-18, views and objective"
WORKS = tuple((work, precision) for work in (ENCODER, STEP) for precision in PRECISIONS)


def works_of(device: torch.device) -> tuple[tuple[str, str], ...]:
    """Return what is timed, with its precision; TF32 exists on GPUs alone, and CPUs are slow with bfloat16."""
    return WORKS if device.type == "cuda" else tuple(one for one in WORKS if one[1] == "float32")


def run_encoder(work: str, precision: str, device: torch.device, clock: Clock, *, quick: bool) -> Row:
    """Time the encoder alone, or a whole training step: views of images, encoder, SimCLR's objective and optimizer.

    Returns
    -------
    dict
        Times and memory as by `time_calls`, and `images_per_s`: images that pass forward and backward, both views.
    """
    images = 2 if quick else 256 if device.type == "cuda" else 16
    with _products_in(precision):
        call = (_encoder if work == ENCODER else _training_step)(images, precision, device)
        row = time_calls(call, device, clock.budget(BUDGET_S))
    return row | {"images": 2 * images, "images_per_s": 2 * images / row["wall_s"]}


@contextmanager
def _products_in(precision: str) -> Iterator[None]:
    """Allow TF32 in products of matrices and in convolutions, or not."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _autocast(precision: str, device: torch.device) -> Any:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _encoder(images: int, precision: str, device: torch.device) -> Callable[[], Any]:
    network = ResNet18(3, random_state=0).to(device)
    pixels = torch.randn(2 * images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    weights = list(network.parameters())

    def work() -> Any:
        with _autocast(precision, device):
            loss = network(pixels).float().square().mean()
        return torch.autograd.grad(loss, weights)

    return work


def _training_step(images: int, precision: str, device: torch.device) -> Callable[[], Any]:
    backbone = ResNet18(3, random_state=0)
    model = recipes.simclr().build(backbone, backbone.n_features, random_state=0).to(device)
    augment = PairAugmentation("euclidean", mean=(0.5,) * 3, std=(0.25,) * 3).to(device)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def work() -> None:
        pair = augment(pixels)
        with _autocast(precision, device):
            loss = model.terms(pair).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return work
