"""Two random views of each image of a batch, the pairs of self-supervised learning on images.

    augment = PairAugmentation("euclidean", mean=mean, std=std)
    one, two = augment(images)                       # uint8 (n, 3, 32, 32) in, float32 (n, 3, 32, 32) twice

The settings are a frozen dataclass, `Augmentation`, or two, one for each view; `AUGMENTATIONS` holds those with names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.images._operations import adjust_colors, resample, resampling_matrix, turn_and_shift
from kalmanssl.utils.validation import check_number, check_whole

__all__ = ["AUGMENTATIONS", "Augmentation", "PairAugmentation"]

_TRIES = 10  # shapes of a crop drawn until one fits into the image, as is usual
_RANGES = {"crop_scale", "crop_ratio", "zoom", "blur_sigma"}


@dataclass(frozen=True)
class Augmentation:
    """How strongly one view is changed; the defaults change nothing.

    Attributes
    ----------
    turn : float
        Largest angle by which the image is turned either way, degrees; black comes in from outside.
    zoom : (float, float)
        Range of the factor by which it is enlarged about its center.
    shift : float
        Largest shift either way along each axis, as a fraction of the side.
    crop_scale : (float, float)
        Range of the area that is cut out, as a fraction of the image, and brought back to full size (bicubic).
    crop_ratio : (float, float)
        Range of the cut's width over its height, drawn log-uniformly; taken as (1, 1) where crop_scale is (1, 1).
    flip : float
        Probability of mirroring left and right.
    jitter : float
        Probability that the colors are changed by the next four.
    brightness, contrast, saturation : float
        The factors are uniform from 1 - this (0 or more) to 1 + this.
    hue : float
        Largest rotation of the colors either way, in turns, up to 0.5, see `image_operations.adjust_colors`.
    gray : float
        Probability of taking the colors away.
    blur : float
        Probability of a Gaussian blur.
    blur_sigma : (float, float)
        Range of its standard deviation, pixels.
    solarize : float
        Probability that all values of 0.5 and more are inverted.
    noise : float
        Standard deviation of Gaussian noise on each pixel, before the values are cut to 0 to 1.
    """

    turn: float = 0.0
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
                    raise InputError(f"{name} must be (low, high), got {value!r}")
                for one in value:
                    check_number(name, one)
                if not 0 < value[0] <= value[1] < math.inf:
                    raise InputError(f"{name} must be (low, high) with 0 < low <= high, got {value!r}")
                object.__setattr__(self, name, tuple(value))
                continue
            check_number(name, value)
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be 0 or more, got {value!r}")
        for name in ("flip", "jitter", "gray", "blur", "solarize"):
            if getattr(self, name) > 1:
                raise InputError(f"{name} is a probability, at most 1, got {getattr(self, name)!r}")
        for name, most, what in (("hue", 0.5, "turns"), ("turn", 180, "degrees"), ("shift", 1, "of the side")):
            if getattr(self, name) > most:
                raise InputError(f"{name} must be at most {most} {what}, got {getattr(self, name)!r}")
        if self.crop_scale[1] > 1:
            raise InputError(f"crop_scale is a fraction of the image, at most 1, got {self.crop_scale!r}")

    @property
    def moves(self) -> bool:
        """Whether the image is turned, enlarged or shifted."""
        return self.turn > 0 or self.shift > 0 or self.zoom != (1.0, 1.0)


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

#: "euclidean" and "sphere": the LDM paper's sets for latents there, those of VICReg and of SimCLR for CIFAR;
#: "asymmetric", one set for each view, and "weak": the same for BYOL and for SimSiam, as solo-learn has them;
#: "tiny": small gray pictures of things that must keep their sides, such as digits of 8 x 8 pixels.
AUGMENTATIONS: dict[str, Augmentation | tuple[Augmentation, Augmentation]] = {
    "euclidean": replace(_MILD, crop_scale=(0.2, 1.0), solarize=0.1),
    "sphere": _SPHERE,
    "asymmetric": (_MILD, replace(_MILD, solarize=0.2)),
    "weak": replace(_MILD, saturation=0.4, blur=0.5),
    "tiny": Augmentation(turn=15.0, zoom=(0.85, 1.15), shift=0.1, noise=0.1),
}


class PairAugmentation(nn.Module):
    """Two independently changed copies of each image of a batch.

    Random numbers are drawn on the CPU, wherever the images are, so that a state of the generator gives the same
    views on every device. Blurring needs kornia (``pip install 'kalmanssl[images]'``).

    Parameters
    ----------
    augmentation : str, Augmentation or (Augmentation, Augmentation)
        A name in `AUGMENTATIONS`, or settings of your own: of both views, or of the first and of the second.
    size : int, optional
        Height and width of the views, pixels; by default those of the images.
    mean, std : float or sequence of float, optional
        Of each channel, with pixels from 0 to 1 (`datasets.Images.moments`): views are (x - mean) / std at the end.
        By default 0 and 1, which leaves them in 0 to 1.

    Raises
    ------
    InputError
        If a setting does not fit.
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
        self.augmentations = _of_both_views(augmentation)
        if size is not None:
            check_whole("size", size, 1)
        if any(one.blur > 0 for one in self.augmentations):
            _kornia()
        self.size = size
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, _of_channels(name, value))
        if not bool((self.std > 0).all()):
            raise InputError(f"std must be positive, got {std}: a channel that never changes tells nothing")

    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return two views of each image.

        Parameters
        ----------
        images : Tensor
            (n, channels, height, width) with 1 or 3 channels, uint8 or floats from 0 to 1.
        generator : torch.Generator, optional
            Where random numbers come from, on the CPU; by default torch's own.

        Returns
        -------
        one, two : Tensor
            (n, channels, size, size), float32.

        Raises
        ------
        InputError
            If the images have another shape, type or range.
        """
        pixels = self._floats(images)
        one, two = (self._normalized(self._view(pixels, settings, generator)) for settings in self.augmentations)
        return one, two

    @torch.no_grad()
    def plain(self, images: Tensor) -> Tensor:
        """Return the images themselves, float32, normalized as the views are and of their size: for evaluation."""
        pixels = self._floats(images)
        n, height, width = len(pixels), *pixels.shape[-2:]
        if self.size not in (None, height) or self.size not in (None, width):
            none = torch.zeros(n, device=pixels.device)
            rows = resampling_matrix(none, none + height, height, self.size or height)
            pixels = resample(pixels, rows, resampling_matrix(none, none + width, width, self.size or width))
        return self._normalized(pixels)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        one, two = self.augmentations
        return f"{one if one == two else self.augmentations}, size={self.size}"

    def _floats(self, images: Tensor) -> Tensor:
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
        if not (low >= 0 and high <= 1):  # NaN too
            raise InputError(
                f"floats in images must lie in 0 to 1, got {float(low):g} to {float(high):g}: "
                "divide by 255, fill NaN, and leave the normalization to mean= and std="
            )
        return images.float()

    def _normalized(self, x: Tensor) -> Tensor:
        mean, std = self.mean.to(x.device), self.std.to(x.device)
        return torch.addcmul(-mean / std, x, 1 / std)

    def _view(self, x: Tensor, settings: Augmentation, generator: torch.Generator | None) -> Tensor:
        draw = _Draw(len(x), generator, x.device)
        if settings.moves:
            angle = draw.uniform(-settings.turn, settings.turn) * (math.pi / 180)
            shift = torch.stack([draw.uniform(-settings.shift, settings.shift) for _ in range(2)], dim=-1)
            x = turn_and_shift(x, angle, draw.uniform(*settings.zoom), shift)
        x = self._cropped(x, settings, draw)
        x = _recolored(x, settings, draw)
        if settings.blur > 0:
            x = _blurred(x, draw.happens(settings.blur), draw.uniform(*settings.blur_sigma))
        if settings.solarize > 0:
            rows = draw.happens(settings.solarize).nonzero()[:, 0]
            chosen = x[rows]
            x = x.index_copy(0, rows, torch.where(chosen >= 0.5, 1 - chosen, chosen))
        if settings.noise > 0:
            x = (x + settings.noise * torch.randn(x.shape, generator=generator).to(x.device)).clamp_(0.0, 1.0)
        return x

    def _cropped(self, x: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
        height, width = x.shape[-2:]
        to = (self.size or height, self.size or width)
        if settings.crop_scale == (1.0, 1.0) and settings.flip == 0 and to == (height, width):
            return x
        top, left, high, wide = draw.crop(height, width, settings.crop_scale, settings.crop_ratio)
        rows = resampling_matrix(top, high, height, to[0])
        return resample(x, rows, resampling_matrix(left, wide, width, to[1], draw.happens(settings.flip)))


def _of_both_views(
    augmentation: str | Augmentation | tuple[Augmentation, Augmentation],
) -> tuple[Augmentation, Augmentation]:
    known = AUGMENTATIONS.get(augmentation) if isinstance(augmentation, str) else augmentation
    if isinstance(known, Augmentation):
        return known, known
    if isinstance(known, tuple) and len(known) == 2 and all(isinstance(one, Augmentation) for one in known):
        return known
    raise InputError(
        f"augmentation must be one of {', '.join(AUGMENTATIONS)}, an Augmentation or two, got {augmentation!r}"
    )


def _of_channels(name: str, value: float | Sequence[float]) -> Tensor:
    try:
        found = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be a number, or one for each channel, got {value!r}") from error
    if not bool(found.isfinite().all()):
        raise InputError(f"{name} must be finite, got {value!r}")
    return found


class _Draw:
    """Random settings for `n` images: drawn on the CPU, given on a device."""

    def __init__(self, n: int, generator: torch.Generator | None, device: torch.device) -> None:
        self.n, self.generator, self.device = n, generator, device

    def uniform(self, low: float, high: float) -> Tensor:
        """Draw (n,) between two numbers."""
        return (low + (high - low) * torch.rand(self.n, generator=self.generator)).to(self.device)

    def happens(self, probability: float) -> Tensor:
        """Draw (n,) booleans."""
        return (torch.rand(self.n, generator=self.generator) < probability).to(self.device)

    def crop(
        self, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw top, left, height and width, whole pixels (n,) each; the whole image where no shape tried fits."""
        tries = torch.rand(4, self.n, _TRIES, generator=self.generator)
        area = height * width * (scale[0] + (scale[1] - scale[0]) * tries[0])
        narrow, broad = math.log(ratio[0]), math.log(ratio[1])
        shape = torch.exp(narrow + (broad - narrow) * tries[1])
        high, wide = (area / shape).sqrt().round().clamp(min=1), (area * shape).sqrt().round().clamp(min=1)
        fits = (high <= height) & (wide <= width) & (scale != (1.0, 1.0))
        first = fits.int().argmax(1, keepdim=True)
        none = ~fits.any(1)
        high, wide = high.gather(1, first)[:, 0], wide.gather(1, first)[:, 0]
        high, wide = torch.where(none, float(height), high), torch.where(none, float(width), wide)
        top = (tries[2, :, 0] * (height - high + 1)).floor()
        left = (tries[3, :, 0] * (width - wide + 1)).floor()
        return top.to(self.device), left.to(self.device), high.to(self.device), wide.to(self.device)


def _recolored(x: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
    if settings.jitter == 0 and settings.gray == 0:
        return x
    jittered = draw.happens(settings.jitter)
    strengths = (settings.brightness, settings.contrast, settings.saturation)
    brightness, contrast, saturation = (
        torch.where(jittered, draw.uniform(max(0.0, 1 - s), 1 + s), 1.0) for s in strengths
    )
    hue = torch.where(jittered, draw.uniform(-settings.hue, settings.hue), 0.0)
    saturation = torch.where(draw.happens(settings.gray), 0.0, saturation)
    return adjust_colors(x, brightness, contrast, saturation, hue)


def _blurred(x: Tensor, which: Tensor, sigma: Tensor) -> Tensor:
    """Blur the images drawn, with a kernel of three standard deviations each way, or as much as fits."""
    rows = which.nonzero()[:, 0]
    reach = min(math.ceil(3 * float(sigma.max())), min(x.shape[-2:]) - 1)
    if len(rows) == 0 or reach == 0:
        return x
    kernel = (2 * reach + 1, 2 * reach + 1)
    blurred = _kornia().filters.gaussian_blur2d(x[rows], kernel, sigma[rows, None].expand(-1, 2))
    return x.index_copy(0, rows, blurred.clamp(0.0, 1.0))  # the kernel sums to one only within rounding


def _kornia() -> Any:
    try:
        import kornia
    except ImportError as error:
        raise InputError("blurring images needs kornia: pip install 'kalmanssl[images]', or blur=0") from error
    return kornia
