"""Encoders of images: ResNet-18, and a small convolutional network that trains on a CPU.

Both map normalized float images (n, channels, height, width) to features (n, n_features). The projector of the pair
model follows them. Weights are initialized as in He et al. (2015, arXiv 1502.01852, section 2.2).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.torch_ops import seeded
from kalmanssl.utils.validation import check_choice, check_integer

__all__ = ["ResNet18", "SmallConvEncoder"]

_STEMS = ("cifar", "standard")
_WIDTHS = (64, 128, 256, 512)
_MIN_MAP_SIZE = 4  # the small encoder does not reduce its feature maps below this side, pixels


class ResNet18(nn.Module):
    """ResNet-18 without the classifier: 512 features.

    Source: He et al. (2016), arXiv 1512.03385, table 1, with projections where the width changes (option B), as in the
    image experiments of the LDM paper.

    Parameters
    ----------
    channels : int
        Number of image channels.
    stem : {"cifar", "standard"}
        "cifar": a 3 x 3 convolution with stride 1 and padding 2 (as in the paper's code) and no pooling, for images of
        about 32 pixels. "standard": a 7 x 7 convolution with stride 2 and pooling by 2, for larger images and for MNIST
        in the paper's categorical experiment.
    random_state : int, optional
        Seed of the initial weights; by default torch's global generator is used.

    Attributes
    ----------
    n_features : int
        512.

    Raises
    ------
    InputError
        If `channels` or `stem` is not valid.
    """

    n_features = _WIDTHS[-1]

    def __init__(self, channels: int = 3, stem: str = "cifar", *, random_state: int | None = None) -> None:
        super().__init__()
        check_integer("channels", channels, 1)
        check_choice("stem", stem, _STEMS)
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
            _initialize_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, 512) of images (n, channels, height, width).

        Raises
        ------
        InputError
            If the shape or type of the images is not valid.
        """
        _check_images(images, self.channels)
        return self.blocks(self.stem(images)).mean((2, 3))


class SmallConvEncoder(nn.Module):
    """Four 3 x 3 convolutions with batch normalization, followed by the mean over the remaining positions.

    It is designed to train on one CPU core. Layers with stride 2 come first, as long as the feature maps stay at least
    4 pixels wide; the number of channels doubles from layer to layer up to `features`; the memory format is
    channels-last.

    Parameters
    ----------
    channels : int
        Number of image channels.
    size : int
        Height and width of the images, pixels, at least 4.
    features : int
        Number of channels of the last layer, a multiple of 8.
    random_state : int, optional
        Seed of the initial weights; by default torch's global generator is used.

    Attributes
    ----------
    n_features : int
        Equal to `features`.

    Raises
    ------
    InputError
        If a setting is not valid.
    """

    def __init__(self, channels: int, size: int, features: int = 256, *, random_state: int | None = None) -> None:
        super().__init__()
        for name, value, least in (("channels", channels, 1), ("size", size, _MIN_MAP_SIZE), ("features", features, 8)):
            check_integer(name, value, least)
        if features % 8:
            raise InputError(f"features must be a multiple of 8, got {features}", parameter="features")
        self.channels, self.size, self.n_features = channels, size, features
        widths = (channels, features // 8, features // 4, features // 2, features)
        layers: list[nn.Module] = []
        side = size
        with seeded(random_state):
            for fan_in, fan_out in pairwise(widths):
                stride = 2 if (side + 1) // 2 >= _MIN_MAP_SIZE else 1
                side = (side + 1) // 2 if stride == 2 else side
                layers += [nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)]
            self.layers = nn.Sequential(*layers)
            _initialize_weights(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, n_features) of images (n, channels, size, size).

        Raises
        ------
        InputError
            If the shape or type of the images is not valid.
        """
        _check_images(images, self.channels, self.size)
        return self.layers(images.contiguous(memory_format=torch.channels_last)).mean((2, 3))


class _Residual(nn.Module):
    """Two 3 x 3 convolutions with a skip connection."""

    def __init__(self, fan_in: int, fan_out: int, stride: int = 1) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
        )
        self.skip = (
            nn.Identity()
            if fan_in == fan_out and stride == 1
            else nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False), nn.BatchNorm2d(fan_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.convolutions(x) + self.skip(x)).relu()


def _initialize_weights(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _check_images(images: Tensor, channels: int, size: int | None = None) -> None:
    fits = images.ndim == 4 and images.shape[1] == channels and len(images) > 0
    if not fits or (size is not None and images.shape[2:] != (size, size)):
        side = ("height", "width") if size is None else (size, size)
        raise InputError(
            f"the encoder takes images (n, {channels}, {side[0]}, {side[1]}), got {tuple(images.shape)}: "
            "resize them, or build an encoder for their shape",
            parameter="images",
        )
    if not images.is_floating_point():
        raise InputError(
            f"the encoder takes floats, got {images.dtype}: normalize first, see PairAugmentation.eval_transform",
            parameter="images",
        )
