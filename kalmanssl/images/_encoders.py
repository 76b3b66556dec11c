"""Networks from images to features: ResNet-18, and a small convolutional one that trains on a CPU.

Both take float images (n, channels, height, width), normalized, and return features (n, n_features); a projector of
the pair model comes behind them. Weights are drawn as He et al. (2015, arXiv 1502.01852, section 2.2) propose.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.torch_ops import seeded
from kalmanssl.utils.validation import check_known, check_whole

__all__ = ["ResNet18", "SmallConvEncoder"]

_STEMS = ("cifar", "standard")
_WIDTHS = (64, 128, 256, 512)
_SMALLEST_MAP = 4  # side of the feature map of the small encoder, below which strides stop


class ResNet18(nn.Module):
    """Residual network of 18 layers without its classifier: 512 features.

    Source: He et al. (2016), arXiv 1512.03385, table 1, with projections where the width changes (option B), as in
    the image experiments of the LDM paper.

    Parameters
    ----------
    channels : int
        Of the images.
    stem : {"cifar", "standard"}
        "cifar": a 3 x 3 convolution of stride 1 and padding 2 (as the paper's code has it) and no pooling, for images
        of 32 pixels or so. "standard": 7 x 7 of stride 2 and pooling by 2, for larger ones, and for MNIST in the
        paper's categorical experiment.
    random_state : int, optional
        Seed of the initial weights; without one they come from torch's generator.

    Attributes
    ----------
    n_features : int
        512.

    Raises
    ------
    InputError
        If `channels` or `stem` is none of these.
    """

    n_features = _WIDTHS[-1]

    def __init__(self, channels: int = 3, stem: str = "cifar", *, random_state: int | None = None) -> None:
        super().__init__()
        check_whole("channels", channels, 1)
        check_known("stem", stem, _STEMS)
        self.channels = channels
        with seeded(random_state):
            first = (
                nn.Conv2d(channels, _WIDTHS[0], 3, padding=2, bias=False)
                if stem == "cifar"
                else nn.Conv2d(channels, _WIDTHS[0], 7, stride=2, padding=3, bias=False)
            )
            pool = [nn.MaxPool2d(3, stride=2, padding=1)] if stem == "standard" else []
            self.stem = nn.Sequential(first, nn.BatchNorm2d(_WIDTHS[0]), nn.ReLU(inplace=True), *pool)
            blocks = [_Residual(_WIDTHS[0], _WIDTHS[0]), _Residual(_WIDTHS[0], _WIDTHS[0])]
            for narrow, wide in pairwise(_WIDTHS):
                blocks += [_Residual(narrow, wide, stride=2), _Residual(wide, wide)]
            self.blocks = nn.Sequential(*blocks)
            _he(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, 512) of images (n, channels, height, width).

        Raises
        ------
        InputError
            If the images have another shape or type.
        """
        _check_images(images, self.channels)
        return self.blocks(self.stem(images)).mean((2, 3))


class SmallConvEncoder(nn.Module):
    """Four 3 x 3 convolutions with batch normalization, and the mean over what is left of the picture.

    Made to train on one core of a CPU: strides of 2 shrink the picture as soon as possible, but not below 4 pixels a
    side, while the width doubles up to `features`; memory is laid out with the channels last.

    Parameters
    ----------
    channels : int
        Of the images.
    size : int
        Height and width of the images, pixels, at least 4.
    features : int
        Width of the last layer, a multiple of 8.
    random_state : int, optional
        Seed of the initial weights; without one they come from torch's generator.

    Attributes
    ----------
    n_features : int
        The same as `features`.

    Raises
    ------
    InputError
        If a setting does not fit.
    """

    def __init__(self, channels: int, size: int, features: int = 256, *, random_state: int | None = None) -> None:
        super().__init__()
        for name, value, least in (("channels", channels, 1), ("size", size, _SMALLEST_MAP), ("features", features, 8)):
            check_whole(name, value, least)
        if features % 8:
            raise InputError(f"features must be a multiple of 8, got {features}")
        self.channels, self.size, self.n_features = channels, size, features
        widths = (channels, features // 8, features // 4, features // 2, features)
        layers: list[nn.Module] = []
        side = size
        with seeded(random_state):
            for fan_in, fan_out in pairwise(widths):
                stride = 2 if (side + 1) // 2 >= _SMALLEST_MAP else 1
                side = (side + 1) // 2 if stride == 2 else side
                layers += [nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)]
            self.layers = nn.Sequential(*layers)
            _he(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, n_features) of images (n, channels, size, size).

        Raises
        ------
        InputError
            If the images have another shape or type.
        """
        _check_images(images, self.channels, self.size)
        return self.layers(images.contiguous(memory_format=torch.channels_last)).mean((2, 3))


class _Residual(nn.Module):
    """Two 3 x 3 convolutions and a way around them."""

    def __init__(self, fan_in: int, fan_out: int, stride: int = 1) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
        )
        self.around = (
            nn.Identity()
            if fan_in == fan_out and stride == 1
            else nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False), nn.BatchNorm2d(fan_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.path(x) + self.around(x)).relu()


def _he(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _check_images(images: Tensor, channels: int, size: int | None = None) -> None:
    fits = images.ndim == 4 and images.shape[1] == channels and len(images) > 0
    if not fits or (size is not None and images.shape[2:] != (size, size)):
        side = ("height", "width") if size is None else (size, size)
        raise InputError(
            f"the encoder takes images (n, {channels}, {side[0]}, {side[1]}), got {tuple(images.shape)}: "
            "resize them, or build it for them"
        )
    if not images.is_floating_point():
        raise InputError(f"the encoder takes floats, got {images.dtype}: normalize first, see PairAugmentation.plain")
