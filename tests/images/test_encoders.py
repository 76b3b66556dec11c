from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.images import ResNet18, SmallConvEncoder


def pictures(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_resnet_has_the_published_number_of_parameters() -> None:
    assert n_parameters(ResNet18()) == 11_168_832
    assert n_parameters(ResNet18(stem="standard")) == 11_689_512 - (
        512 * 1000 + 1000
    )  # of ImageNet, less its classifier
    assert n_parameters(ResNet18(channels=1)) == 11_168_832 - 2 * 64 * 9


def test_small_encoder_has_the_counted_number_of_parameters() -> None:
    widths = (3, 32, 64, 128, 256)
    convolutions = sum(9 * a * b for a, b in pairwise(widths))
    assert n_parameters(SmallConvEncoder(3, 32)) == convolutions + 2 * sum(widths[1:])


@pytest.mark.parametrize(
    ("encoder", "shape", "side"),
    [
        (ResNet18(random_state=0), (2, 3, 32, 32), 5),  # 34, 34, 17, 9, 5 pixels
        (ResNet18(1, "standard", random_state=0), (2, 1, 32, 32), 1),  # 16, 8, 8, 4, 2, 1
        (ResNet18(1, "standard", random_state=0), (2, 1, 28, 40), None),
        (SmallConvEncoder(3, 32, random_state=0), (2, 3, 32, 32), 4),
        (SmallConvEncoder(1, 28, random_state=0), (2, 1, 28, 28), 4),
        (SmallConvEncoder(1, 8, 64, random_state=0), (2, 1, 8, 8), 4),
        (SmallConvEncoder(1, 4, 8, random_state=0), (2, 1, 4, 4), 4),
        (SmallConvEncoder(3, 64, random_state=0), (2, 3, 64, 64), 4),
    ],
)
def test_features_have_their_shape_and_all_weights_learn(
    encoder: ResNet18 | SmallConvEncoder, shape: tuple[int, ...], side: int | None
) -> None:
    sides = []
    convolution = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)][-1]
    handle = convolution.register_forward_hook(lambda _module, _inputs, out: sides.append(out.shape[-1]))
    features = encoder(pictures(*shape))
    handle.remove()
    assert features.shape == (shape[0], encoder.n_features)
    assert side is None or sides == [side]
    # Not the squares: after batch normalization these have the same mean whatever the weights.
    features.pow(3).mean().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().max()) > 0, name


def test_the_seed_determines_the_weights_only() -> None:
    for build in (ResNet18, lambda **s: SmallConvEncoder(1, 8, **s)):
        state = torch.get_rng_state()
        first, again, other = (build(random_state=seed).state_dict() for seed in (0, 0, 1))
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(first[name], again[name]) for name in first)
        weight = next(name for name in first if first[name].ndim == 4)
        assert not torch.equal(first[weight], other[weight])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        by_default = SmallConvEncoder(1, 8).state_dict()
    seeded = SmallConvEncoder(1, 8, random_state=0).state_dict()
    assert all(torch.equal(by_default[name], seeded[name]) for name in seeded)


@pytest.mark.parametrize("encoder", [ResNet18(random_state=0), SmallConvEncoder(3, 32, random_state=0)])
def test_initial_weights_have_the_variance_of_he_et_al(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            error = 5 * math.sqrt(2 / module.weight.numel())
            assert float(module.weight.detach().square().mean()) == pytest.approx(2 / fan_out, rel=error)


def test_features_do_not_depend_on_the_batch_in_evaluation_mode() -> None:
    images = pictures(2, 3, 32, 32)
    for encoder in (ResNet18(random_state=0).eval(), SmallConvEncoder(3, 32, random_state=0).eval()):
        with torch.no_grad():
            torch.testing.assert_close(encoder(images)[1:2], encoder(images[1:2]), atol=1e-4, rtol=1e-4)


def test_the_small_encoder_learns_a_plain_task() -> None:
    # Stripes along rows or along columns, under noise as strong as they are.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(128) % 2
    stripes = torch.where(torch.arange(8) % 4 < 2, 1.0, -1.0)
    clean = torch.where(labels[:, None, None] == 0, stripes[:, None].expand(8, 8), stripes.expand(8, 8))
    images = (clean + torch.randn(128, 8, 8, generator=generator))[:, None]
    encoder, head = SmallConvEncoder(1, 8, 32, random_state=0), nn.Linear(32, 2)
    nn.init.zeros_(head.weight)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(encoder(images[:64])), labels[:64]).backward()
        optimizer.step()
    encoder.eval()
    assert float((head(encoder(images[64:])).argmax(1) == labels[64:]).float().mean()) > 0.9


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ResNet18(0), "channels must be a whole number, at least 1; got 0"),
        (lambda: ResNet18(stem="imagenet"), "stem must be one of cifar, standard; got 'imagenet'"),
        (lambda: SmallConvEncoder(3, 3), "size must be a whole number, at least 4; got 3"),
        (lambda: SmallConvEncoder(3, 32.0), "size must be a whole number"),
        (lambda: SmallConvEncoder(3, 32, 100), "features must be a multiple of 8, got 100"),
        (lambda: SmallConvEncoder(True, 32), "channels must be a whole number"),
        (lambda: ResNet18()(pictures(2, 1, 32, 32)), "images (n, 3, height, width), got (2, 1, 32, 32)"),
        (lambda: ResNet18()(pictures(3, 32, 32)), "got (3, 32, 32)"),
        (lambda: SmallConvEncoder(1, 8)(pictures(2, 1, 9, 8)), "images (n, 1, 8, 8), got (2, 1, 9, 8)"),
        (lambda: SmallConvEncoder(1, 8)(pictures(0, 1, 8, 8)), "got (0, 1, 8, 8)"),
        (lambda: SmallConvEncoder(1, 8)(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)), "takes floats, got torch.uint8"),
    ],
)
def test_bad_input_is_rejected(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(InputError, match=re.escape(message)):
        build()
