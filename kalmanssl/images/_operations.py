"""Operations on batches of images (n, channels, height, width), with different settings for each image.

Cropping, resizing and flipping act on rows and columns separately: two small matrix products per image. Brightness,
contrast, saturation, hue and gray are affine in the colors: one 3 x 3 matrix and an offset per image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["adjust_colors", "resample", "resampling_matrix", "rotate_and_shift"]

# Weights of red, green and blue in brightness (ITU-R BT.601), and the two color axes of the YIQ space (NTSC).
_LUMA = (0.299, 0.587, 0.114)
_YIQ = (_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def resampling_matrix(start: Tensor, length: Tensor, n_in: int, n_out: int, flip: Tensor | None = None) -> Tensor:
    """Return matrices that crop lines of pixels and resize the crop by bicubic interpolation.

    The weights are those of pillow: cubic convolution with a = -1/2, a wider kernel for downsampling, and weights that
    are renormalized at the ends of the crop. Source: Keys (1981), IEEE Trans. ASSP 29, 1153-1160, Eq. 15.

    Parameters
    ----------
    start, length : Tensor
        First pixel and number of pixels of the crop, (n,).
    n_in, n_out : int
        Number of pixels of a line before and after.
    flip : Tensor, optional
        True where the result is flipped, (n,).

    Returns
    -------
    Tensor
        (n, n_out, n_in); rows sum to one.
    """
    start, length = start[:, None].float(), length[:, None].float()
    step = length / n_out
    position = (torch.arange(n_out, device=start.device) + 0.5).expand(len(start), -1)
    if flip is not None:
        position = torch.where(flip[:, None], n_out - position, position)
    center = start + position * step
    pixel = torch.arange(n_in, device=start.device) + 0.5
    distance = ((pixel - center[..., None]) / step.clamp(min=1.0)[..., None]).abs()
    near = 1 + distance.square() * (1.5 * distance - 2.5)
    far = 2 + distance * (-4 + distance * (2.5 - 0.5 * distance))
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights = weights * ((pixel > start) & (pixel < start + length))[:, None]
    return weights / weights.sum(-1, keepdim=True)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return `rows` @ image @ `columns`ᵀ for each image, clipped to [0, 1] since bicubic weights overshoot."""
    n, channels, height, width = images.shape
    wide = torch.bmm(images.reshape(n, channels * height, width), columns.mT).view(n, channels, height, -1)
    return (rows[:, None] @ wide).clamp_(0.0, 1.0)


def adjust_colors(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor | None = None
) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image.

    Brightness multiplies the values. Contrast scales the distance from the mean gray of the image, saturation the
    distance from the gray of the pixel (0 gives a gray image). Hue rotates the two color axes of the YIQ space, which
    preserves the brightness of each pixel (the usual rotation in HSV space preserves its largest channel instead). The
    four operations commute except for clipping; values are clipped once, at the end. Saturation and hue do not affect
    gray images.

    Parameters
    ----------
    images : Tensor
        (n, 1 or 3, height, width), values in [0, 1].
    brightness, contrast, saturation : Tensor
        Factors, (n,); 1 changes nothing.
    hue : Tensor, optional
        Rotation in turns, (n,); 0 changes nothing.
    """
    n, channels = images.shape[:2]
    flat = images.reshape(n, channels, -1)
    if channels == 1:
        matrix, gray = torch.ones(n, 1, 1, device=images.device), flat.mean(-1, keepdim=True)
    else:
        to_yiq = images.new_tensor(_YIQ)
        angle = 2 * math.pi * (torch.zeros_like(saturation) if hue is None else hue)
        along, across = saturation * angle.cos(), saturation * angle.sin()
        rotation = torch.zeros(n, 3, 3, device=images.device, dtype=images.dtype)
        rotation[:, 0, 0] = 1.0
        rotation[:, 1, 1], rotation[:, 1, 2], rotation[:, 2, 1], rotation[:, 2, 2] = along, across, -across, along
        matrix = torch.linalg.inv(to_yiq) @ rotation @ to_yiq
        gray = (flat.mean(-1) @ to_yiq[0])[:, None, None]
    offset = (brightness * (1 - contrast))[:, None, None] * gray
    matrix = (brightness * contrast)[:, None, None] * matrix
    return torch.baddbmm(offset.expand(-1, channels, 1), matrix, flat).clamp_(0.0, 1.0).view(images.shape)


def rotate_and_shift(images: Tensor, angle: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Rotate and magnify each image about its center and shift it (bilinear). Pixels from outside the image are black.

    Parameters
    ----------
    images : Tensor
        (n, channels, height, width).
    angle : Tensor
        Counter-clockwise, radians, (n,).
    zoom : Tensor
        Magnification, (n,).
    shift : Tensor
        Shift to the right and down, as a fraction of width and height, (n, 2).
    """
    height, width = images.shape[-2:]
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    # Map from output to input positions. In torch's coordinates the image extends from -1 to 1 on both axes.
    inverse = torch.stack([cos, -sin * height / width, sin * width / height, cos], dim=-1).view(-1, 2, 2)
    grid = torch.cat([inverse, -inverse @ (2 * shift[..., None])], dim=-1)
    positions = functional.affine_grid(grid, list(images.shape), align_corners=False)
    return functional.grid_sample(images, positions, mode="bilinear", padding_mode="zeros", align_corners=False)
