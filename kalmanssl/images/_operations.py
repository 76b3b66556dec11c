"""Operations on batches of images (n, channels, height, width), with settings of their own for each image.

Cropping, resizing and mirroring go along rows and columns separately, so that they are two small matrix products for
each image. Brightness, contrast, saturation, hue and gray are affine in the colors: one 3 x 3 matrix and an offset.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["adjust_colors", "resample", "resampling_matrix", "turn_and_shift"]

# Television's weights of red, green and blue in brightness, and its two axes of color (ITU-R BT.601; NTSC).
_LUMA = (0.299, 0.587, 0.114)
_YIQ = (_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def resampling_matrix(start: Tensor, length: Tensor, n_in: int, n_out: int, flip: Tensor | None = None) -> Tensor:
    """Return matrices that cut a stretch out of lines of pixels and bring it to another length, bicubic.

    The same numbers as pillow's: cubic convolution with a = -1/2, to_float32 to shrink, and renormalized at the ends of
    the stretch, beyond which nothing is seen. Source: Keys (1981), IEEE Trans. ASSP 29, 1153-1160, Eq. 15.

    Parameters
    ----------
    start, length : Tensor
        First pixel of the stretch and number of its pixels, (n,).
    n_in, n_out : int
        Pixels of a line before and after.
    flip : Tensor, optional
        True where the result is mirrored, (n,).

    Returns
    -------
    Tensor
        (n, n_out, n_in); rows sum to one.
    """
    start, length = start[:, None].float(), length[:, None].float()
    step = length / n_out
    place = (torch.arange(n_out, device=start.device) + 0.5).expand(len(start), -1)
    if flip is not None:
        place = torch.where(flip[:, None], n_out - place, place)
    center = start + place * step
    pixel = torch.arange(n_in, device=start.device) + 0.5
    distance = ((pixel - center[..., None]) / step.clamp(min=1.0)[..., None]).abs()
    near = 1 + distance.square() * (1.5 * distance - 2.5)
    far = 2 + distance * (-4 + distance * (2.5 - 0.5 * distance))
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights = weights * ((pixel > start) & (pixel < start + length))[:, None]
    return weights / weights.sum(-1, keepdim=True)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return `rows` @ image @ `columns`ᵀ for each image, cut to 0 to 1, where bicubic weights overshoot."""
    n, channels, height, width = images.shape
    wide = torch.bmm(images.reshape(n, channels * height, width), columns.mT).view(n, channels, height, -1)
    return (rows[:, None] @ wide).clamp_(0.0, 1.0)


def adjust_colors(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor | None = None
) -> Tensor:
    """Change the colors of each image (n, 1 or 3, height, width) by factors of its own, (n,) each; 1 changes nothing.

    Brightness multiplies; contrast goes away from the image's mean gray; saturation goes away from each pixel's gray
    (0 is a gray image); `hue`, in turns (0 changes nothing), rotates the two axes of color of the YIQ space, which
    keeps the brightness of a pixel, where the common rotation in HSV keeps its largest channel. All four are linear
    but for the contrast's offset and commute, so that their order, often drawn at random, matters only through the
    values that are cut off at 0 and 1; here they are cut once, at the end. Gray images take no saturation and hue.
    """
    n, channels = images.shape[:2]
    flat = images.reshape(n, channels, -1)
    if channels == 1:
        matrix, gray = torch.ones(n, 1, 1, device=images.device), flat.mean(-1, keepdim=True)
    else:
        to_yiq = images.new_tensor(_YIQ)
        angle = 2 * math.pi * (torch.zeros_like(saturation) if hue is None else hue)
        along, across = saturation * angle.cos(), saturation * angle.sin()
        turned = torch.zeros(n, 3, 3, device=images.device, dtype=images.dtype)
        turned[:, 0, 0] = 1.0
        turned[:, 1, 1], turned[:, 1, 2], turned[:, 2, 1], turned[:, 2, 2] = along, across, -across, along
        matrix = torch.linalg.inv(to_yiq) @ turned @ to_yiq
        gray = (flat.mean(-1) @ to_yiq[0])[:, None, None]
    offset = (brightness * (1 - contrast))[:, None, None] * gray
    matrix = (brightness * contrast)[:, None, None] * matrix
    return torch.baddbmm(offset.expand(-1, channels, 1), matrix, flat).clamp_(0.0, 1.0).view(images.shape)


def turn_and_shift(images: Tensor, angle: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Turn, enlarge and shift each image about its center, bilinear; black comes in from outside.

    Parameters
    ----------
    images : Tensor
        (n, channels, height, width).
    angle : Tensor
        Counter-clockwise, radians, (n,).
    zoom : Tensor
        Factor of size, (n,); above 1 enlarges.
    shift : Tensor
        To the right and down, as a fraction of width and height, (n, 2).
    """
    height, width = images.shape[-2:]
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    # From where each pixel comes; in torch's coordinates the image reaches from -1 to 1 on both axes.
    back = torch.stack([cos, -sin * height / width, sin * width / height, cos], dim=-1).view(-1, 2, 2)
    grid = torch.cat([back, -back @ (2 * shift[..., None])], dim=-1)
    places = functional.affine_grid(grid, list(images.shape), align_corners=False)
    return functional.grid_sample(images, places, mode="bilinear", padding_mode="zeros", align_corners=False)
