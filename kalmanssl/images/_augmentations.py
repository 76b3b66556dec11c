"""Random pairs of views of images, for self-supervised learning.

    augment = PairAugmentation("euclidean", mean=mean, std=std)
    one, two = augment(images)                       # from uint8 (n, 3, 32, 32) to two float32 (n, 3, 32, 32)

The settings are one frozen dataclass `Augmentation` for both views, or one for each. `AUGMENTATIONS` holds named
settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.images._operations import adjust_colors, resample, resampling_matrix, rotate_and_shift
from kalmanssl.utils.optional import import_optional
from kalmanssl.utils.validation import check_integer, check_number

__all__ = ["AUGMENTATIONS", "Augmentation", "PairAugmentation"]

_TRIES = 10  # random crop shapes; the first that fits into the image is used, as in torchvision
_RANGES = {"crop_scale", "crop_ratio", "zoom", "blur_sigma"}


@dataclass(frozen=True)
class Augmentation:
    """Strength of the random changes of one view. The defaults change nothing.

    Attributes
    ----------
    rotate : float
        Maximum angle of rotation in either direction, degrees. Pixels from outside the image are black.
    zoom : (float, float)
        Range of the magnification about the image center.
    shift : float
        Maximum shift in either direction along each axis, as a fraction of the side.
    crop_scale : (float, float)
        Range of the area of a random crop, as a fraction of the image. The crop is resized to full size (bicubic).
    crop_ratio : (float, float)
        Range of width / height of the crop, drawn log-uniformly; ignored if `crop_scale` is (1, 1).
    flip : float
        Probability of a horizontal flip.
    jitter : float
        Probability of a color change, with the next four strengths.
    brightness, contrast, saturation : float
        A strength s draws a factor uniformly from max(0, 1 - s) to 1 + s.
    hue : float
        Maximum rotation of the hue in either direction, in turns, at most 0.5.
    gray : float
        Probability of conversion to gray.
    blur : float
        Probability of a Gaussian blur.
    blur_sigma : (float, float)
        Range of the standard deviation of the blur, pixels.
    solarize : float
        Probability of inverting all values of at least 0.5.
    noise : float
        Standard deviation of Gaussian pixel noise, added before values are clipped to [0, 1].
    """

    rotate: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Check every setting."""
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in _RANGES:
                if not (isinstance(value, tuple | list) and len(value) == 2):
                    raise InputError(f"{name} must be (low, high), got {value!r}", parameter=name)
                for one in value:
                    check_number(name, one)
                if not 0 < value[0] <= value[1] < math.inf:
                    raise InputError(f"{name} must be (low, high) with 0 < low <= high, got {value!r}", parameter=name)
                object.__setattr__(self, name, tuple(value))
                continue
            check_number(name, value)
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be 0 or more, got {value!r}", parameter=name)
        for name in ("flip", "jitter", "gray", "blur", "solarize"):
            if getattr(self, name) > 1:
                message = f"{name} is a probability, at most 1, got {getattr(self, name)!r}"
                raise InputError(message, parameter=name)
        for name, most, what in (("hue", 0.5, "turns"), ("rotate", 180, "degrees"), ("shift", 1, "of the side")):
            if getattr(self, name) > most:
                message = f"{name} must be at most {most} {what}, got {getattr(self, name)!r}"
                raise InputError(message, parameter=name)
        if self.crop_scale[1] > 1:
            message = f"crop_scale is a fraction of the image, at most 1, got {self.crop_scale!r}"
            raise InputError(message, parameter="crop_scale")

    @property
    def is_geometric(self) -> bool:
        """Whether the image is rotated, magnified or shifted."""
        return self.rotate > 0 or self.shift > 0 or self.zoom != (1.0, 1.0)


_SPHERE = Augmentation(
    crop_scale=(0.08, 1.0),
    flip=0.5,
    jitter=0.8,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    gray=0.2,
    blur=0.5,
)

_MILD = replace(_SPHERE, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=0.0)

AUGMENTATIONS: dict[str, Augmentation | tuple[Augmentation, Augmentation]] = {
    "euclidean": replace(_MILD, crop_scale=(0.2, 1.0), solarize=0.1),
    "sphere": _SPHERE,
    "asymmetric": (_MILD, replace(_MILD, solarize=0.2)),
    "weak": replace(_MILD, saturation=0.4, blur=0.5),
    "tiny": Augmentation(rotate=15.0, zoom=(0.85, 1.15), shift=0.1, noise=0.1),
}
"""Augmentations by name.

"euclidean" and "sphere" are those of the LDM paper for these latent spaces (VICReg's and SimCLR's for CIFAR).
"asymmetric" (different settings for the two views) and "weak" are solo-learn's for BYOL and SimSiam. "tiny" is for
small gray images that must not be flipped, such as digits of 8 x 8 pixels.
"""


class PairAugmentation(nn.Module):
    """Two independently augmented views of each image of a batch.

    Random numbers are drawn on the CPU, so that the same generator state gives the same views on every device. Blurring
    needs kornia (``pip install 'kalmanssl[images]'``).

    Parameters
    ----------
    augmentation : str, Augmentation or (Augmentation, Augmentation)
        A name in `AUGMENTATIONS`, or settings for both views, or settings for the first and the second view.
    size : int, optional
        Height and width of the views, pixels; by default those of the images.
    mean, std : float or sequence of float, optional
        Mean and standard deviation of each channel for pixel values in [0, 1] (`datasets.Images.moments`). The views
        are normalized to (x - mean) / std. By default they stay in [0, 1].

    Raises
    ------
    InputError
        If a setting is not valid.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        augmentation: str | Augmentation | tuple[Augmentation, Augmentation] = "sphere",
        *,
        size: int | None = None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__()
        self.augmentations = _settings_of_both_views(augmentation)
        if size is not None:
            check_integer("size", size, 1)
        if any(one.blur > 0 for one in self.augmentations):
            _kornia()
        self.size = size
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, _per_channel(name, value))
        if not bool((self.std > 0).all()):
            raise InputError(f"std must be positive, got {std}: remove channels that are constant", parameter="std")

    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return two random views of each image.

        Parameters
        ----------
        images : Tensor
            (n, channels, height, width) with 1 or 3 channels, uint8 or floats from 0 to 1.
        generator : torch.Generator, optional
            Generator on the CPU; by default torch's global one.

        Returns
        -------
        one, two : Tensor
            (n, channels, size, size), float32.

        Raises
        ------
        InputError
            If the shape, type or range of the images is not valid.
        """
        pixels = self._to_float(images)
        one, two = (self._normalized(self._view(pixels, settings, generator)) for settings in self.augmentations)
        return one, two

    @torch.no_grad()
    def eval_transform(self, images: Tensor) -> Tensor:
        """Return the images without augmentation, float32, with the size and normalization of the views."""
        pixels = self._to_float(images)
        n, height, width = len(pixels), *pixels.shape[-2:]
        if self.size not in (None, height) or self.size not in (None, width):
            start = torch.zeros(n, device=pixels.device)
            rows = resampling_matrix(start, start + height, height, self.size or height)
            pixels = resample(pixels, rows, resampling_matrix(start, start + width, width, self.size or width))
        return self._normalized(pixels)

    def extra_repr(self) -> str:
        """Return the settings for printing."""
        one, two = self.augmentations
        return f"{one if one == two else self.augmentations}, size={self.size}"

    def _to_float(self, images: Tensor) -> Tensor:
        """Check images and return them as float32 in [0, 1]."""
        if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
            raise InputError(
                f"images must be (n, channels, height, width) with 1 or 3 channels, got {tuple(images.shape)}"
            )
        if len(self.mean) not in (1, images.shape[1]) or len(self.std) not in (1, images.shape[1]):
            raise InputError(
                f"mean and std are for {max(len(self.mean), len(self.std))} channels, images have {images.shape[1]}"
            )
        if images.dtype == torch.uint8:
            return images.float() / 255
        if not images.is_floating_point():
            raise InputError(
                f"images must be uint8 or floats from 0 to 1, got {images.dtype}: convert them with .byte()"
            )
        low, high = images.aminmax()
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise InputError(
                f"floats in images must be from 0 to 1, got {float(low):g} to {float(high):g}: "
                "divide by 255, fill NaN, and normalize with mean= and std=",
                parameter="images",
            )
        return images.float()

    def _normalized(self, x: Tensor) -> Tensor:
        mean, std = self.mean.to(x.device), self.std.to(x.device)
        return torch.addcmul(-mean / std, x, 1 / std)

    def _view(self, x: Tensor, settings: Augmentation, generator: torch.Generator | None) -> Tensor:
        draw = _Draw(len(x), generator, x.device)
        if settings.is_geometric:
            angle = draw.uniform(-settings.rotate, settings.rotate) * (math.pi / 180)
            shift = torch.stack([draw.uniform(-settings.shift, settings.shift) for _ in range(2)], dim=-1)
            x = rotate_and_shift(x, angle, draw.uniform(*settings.zoom), shift)
        x = self._crop_and_flip(x, settings, draw)
        x = _change_colors(x, settings, draw)
        if settings.blur > 0:
            x = _blur(x, draw.bernoulli(settings.blur), draw.uniform(*settings.blur_sigma))
        if settings.solarize > 0:
            rows = draw.bernoulli(settings.solarize).nonzero()[:, 0]
            chosen = x[rows]
            x = x.index_copy(0, rows, torch.where(chosen >= 0.5, 1 - chosen, chosen))
        if settings.noise > 0:
            x = (x + settings.noise * torch.randn(x.shape, generator=generator).to(x.device)).clamp_(0.0, 1.0)
        return x

    def _crop_and_flip(self, x: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
        height, width = x.shape[-2:]
        target = (self.size or height, self.size or width)
        if settings.crop_scale == (1.0, 1.0) and settings.flip == 0 and target == (height, width):
            return x
        top, left, crop_height, crop_width = draw.crop(height, width, settings.crop_scale, settings.crop_ratio)
        rows = resampling_matrix(top, crop_height, height, target[0])
        columns = resampling_matrix(left, crop_width, width, target[1], draw.bernoulli(settings.flip))
        return resample(x, rows, columns)


def _settings_of_both_views(
    augmentation: str | Augmentation | tuple[Augmentation, Augmentation],
) -> tuple[Augmentation, Augmentation]:
    known = AUGMENTATIONS.get(augmentation) if isinstance(augmentation, str) else augmentation
    if isinstance(known, Augmentation):
        return known, known
    if isinstance(known, tuple) and len(known) == 2 and all(isinstance(one, Augmentation) for one in known):
        return known
    raise InputError(
        f"augmentation must be one of {', '.join(AUGMENTATIONS)}, an Augmentation or two, got {augmentation!r}",
        parameter="augmentation",
    )


def _per_channel(name: str, value: float | Sequence[float]) -> Tensor:
    try:
        found = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be a number, or one for each channel, got {value!r}", parameter=name) from error
    if not bool(found.isfinite().all()):
        raise InputError(f"{name} must be finite, got {value!r}", parameter=name)
    return found


class _Draw:
    """Random settings for `n` images, drawn on the CPU and moved to a device."""

    def __init__(self, n: int, generator: torch.Generator | None, device: torch.device) -> None:
        self.n, self.generator, self.device = n, generator, device

    def uniform(self, low: float, high: float) -> Tensor:
        """Draw (n,) uniform numbers."""
        return (low + (high - low) * torch.rand(self.n, generator=self.generator)).to(self.device)

    def bernoulli(self, probability: float) -> Tensor:
        """Draw (n,) booleans that are True with this probability."""
        return (torch.rand(self.n, generator=self.generator) < probability).to(self.device)

    def crop(
        self, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw top, left, height and width of crops, (n,) each, in pixels; the whole image if no drawn shape fits."""
        tries = torch.rand(4, self.n, _TRIES, generator=self.generator)
        area = height * width * (scale[0] + (scale[1] - scale[0]) * tries[0])
        low, high = math.log(ratio[0]), math.log(ratio[1])
        shape = torch.exp(low + (high - low) * tries[1])
        heights, widths = (area / shape).sqrt().round().clamp(min=1), (area * shape).sqrt().round().clamp(min=1)
        fits = (heights <= height) & (widths <= width) & (scale != (1.0, 1.0))
        first = fits.int().argmax(1, keepdim=True)
        whole = ~fits.any(1)
        crop_height = torch.where(whole, float(height), heights.gather(1, first)[:, 0])
        crop_width = torch.where(whole, float(width), widths.gather(1, first)[:, 0])
        top = (tries[2, :, 0] * (height - crop_height + 1)).floor()
        left = (tries[3, :, 0] * (width - crop_width + 1)).floor()
        return top.to(self.device), left.to(self.device), crop_height.to(self.device), crop_width.to(self.device)


def _change_colors(x: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
    if settings.jitter == 0 and settings.gray == 0:
        return x
    jittered = draw.bernoulli(settings.jitter)
    strengths = (settings.brightness, settings.contrast, settings.saturation)
    brightness, contrast, saturation = (
        torch.where(jittered, draw.uniform(max(0.0, 1 - s), 1 + s), 1.0) for s in strengths
    )
    hue = torch.where(jittered, draw.uniform(-settings.hue, settings.hue), 0.0)
    saturation = torch.where(draw.bernoulli(settings.gray), 0.0, saturation)
    return adjust_colors(x, brightness, contrast, saturation, hue)


def _blur(x: Tensor, selected: Tensor, sigma: Tensor) -> Tensor:
    """Blur the selected images with a kernel of up to three standard deviations in each direction."""
    rows = selected.nonzero()[:, 0]
    radius = min(math.ceil(3 * float(sigma.max())), min(x.shape[-2:]) - 1)
    if len(rows) == 0 or radius == 0:
        return x
    kernel = (2 * radius + 1, 2 * radius + 1)
    blurred = _kornia().filters.gaussian_blur2d(x[rows], kernel, sigma[rows, None].expand(-1, 2))
    return x.index_copy(0, rows, blurred.clamp(0.0, 1.0))  # the kernel sums to one only up to rounding


def _kornia() -> Any:
    return import_optional("kornia", "blurring images", "images", otherwise="blur=0")
