"""From positions to pixels: a Gaussian dot, a swirl of the picture, or a random network.

Each is a deterministic function g of the position, without noise. `DotImage` is injective wherever the dot is
inside the field of view, but not where the dot is clamped at the border; `RandomNetwork` is injective everywhere,
in practice with a slope that is not too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

__all__ = ["DotImage", "Mixing", "RandomNetwork", "swirl_matrix"]

_PUBLISHED_VIEW = 3.0
_STRENGTH = 10.0
_RADIUS = 20.0  # of the swirl, in image sides: 200 pixels of a picture of 10
_CHUNK = 256  # frames at a time, so that pictures stay in the cache


class Mixing(Protocol):
    """A mixing function g from positions (frames, dims) to pixels (frames, pixels), float32."""

    def render(self, position: np.ndarray, out: np.ndarray) -> None:
        """Write the pixels of each position into out."""

    def visible(self, position: np.ndarray) -> np.ndarray:
        """Whether each position (..., dims) is where g is injective, (...)."""


@dataclass(frozen=True)
class DotImage:
    """Picture of a Gaussian dot of peak 1, a tenth of the picture wide, optionally swirled.

    Pixel (i, j) of the picture is exp(-((i - p_x)^2 + (j - p_y)^2) / (2 w^2)), w = size / 10, with
    p = (s + view) size / (2 view): a position s in [-view, view] lies on the picture, 0 in its middle. The first
    coordinate runs along the rows.

    Attributes
    ----------
    size : int
        Pixels on a side.
    view : float
        Half the width of the field of view, in units of the position.
    clamped : bool
        Clamp the center of the dot to the picture, p in [0, size - 1], as the published generator does (with a view
        of 3
        and 10 pixels: positions in [-3, 2.4]). All positions beyond look like the border. If false, the dot can leave
        the picture.
    swirled : bool
        Swirl the picture, see `swirl_matrix`.
    """

    size: int = 10
    view: float = _PUBLISHED_VIEW
    clamped: bool = False
    swirled: bool = False

    @cached_property
    def _swirl(self) -> csr_array:
        return swirl_matrix(self.size).astype(np.float32)

    def render(self, position: np.ndarray, out: np.ndarray) -> None:
        """Write the pixels (frames, size * size) of the positions (frames, 2) into out."""
        grid = np.arange(self.size, dtype=np.float32)[:, None]
        for start in range(0, len(position), _CHUNK):
            part = slice(start, start + _CHUNK)
            p = (position[part] + self.view) * (self.size / (2.0 * self.view))
            if self.clamped:
                p = np.clip(p, 0.0, self.size - 1.0)
            # Far from the picture every pixel is 0; the bound keeps the square finite.
            p = np.clip(p, -1e3 * self.size, 1e3 * self.size).astype(np.float32)
            away = (grid - p.T[:, None, :]) / np.float32(0.1 * self.size)
            profile = np.exp(-0.5 * away * away)
            # Pixels first: the swirl then adds whole rows of frames.
            picture = (profile[0][:, None] * profile[1]).reshape(self.size**2, -1)
            out[part] = (self._swirl @ picture if self.swirled else picture).T

    def visible(self, position: np.ndarray) -> np.ndarray:
        """Whether each position (..., 2) lies on the picture: unclamped, or in [-view, view]."""
        right = self.view * (1.0 - 2.0 / self.size) if self.clamped else self.view
        return np.all((position >= -self.view) & (position <= right), axis=-1)


def swirl_matrix(size: int) -> csr_array:
    """Matrix that swirls a flattened picture: strength 10, radius 20 sides, bilinear, mirrored at the border.

    The pixel at polar coordinates (rho, phi) around (size / 2, size / 2) takes its value from the angle
    phi + 10 exp(-rho / r), r = 20 size ln 2 / 5, at the same rho. With 10 pixels this is
    `skimage.transform.swirl(image, strength=10, radius=200)`.

    Parameters
    ----------
    size : int
        Pixels on a side.

    Returns
    -------
    scipy.sparse.csr_array
        (size * size, size * size), four entries in a row that sum to 1.
    """
    middle = size / 2.0
    row, col = np.divmod(np.arange(size * size), size)
    offset = (col - middle) + 1j * (row - middle)
    decay = _RADIUS * size * np.log(2.0) / 5.0
    source = offset * np.exp(1j * _STRENGTH * np.exp(-np.abs(offset) / decay))
    matrix = csr_array((size * size, size * size))
    y, x = (_mirror(middle + part, size) for part in (source.imag, source.real))
    top, left = (np.minimum(np.floor(c).astype(int), size - 2) for c in (y, x))
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - (y - top)) * np.abs(1 - right - (x - left))
            entries = (weight, (np.arange(size * size), (top + down) * size + left + right))
            matrix = matrix + csr_array(entries, shape=matrix.shape)
    return matrix


def _mirror(coordinate: np.ndarray, size: int) -> np.ndarray:
    """Fold coordinates into [0, size - 1] at the centers of the border pixels."""
    folded = np.mod(coordinate, 2.0 * (size - 1))
    return np.minimum(folded, 2.0 * (size - 1) - folded)


@dataclass(frozen=True)
class RandomNetwork:
    """An injective random network from latents to pixels, as in nonlinear independent component analysis.

    Four layers of max(5, 2 dims) units with weights that are orthogonal (semi-orthogonal in the first), biases
    uniform in +-1 / sqrt(inputs) and leaky rectifiers, then a linear layer to the pixels, uniform in
    +-1 / sqrt(units), without bias. Each layer is injective, hence the network is too. Its conditioning depends on
    the slope
    of the rectifiers: with the published 0.01 the pixels move up to 10^5 times less in one direction than in another,
    which is almost lost in single precision; with 0.2 up to about 200 times less.

    Attributes
    ----------
    slope : float
        Slope of the rectifiers left of zero.
    weights : list of ndarray
        (inputs, outputs) of each layer.
    biases : list of ndarray
        (outputs,) of each layer but the last.
    """

    slope: float
    weights: list[np.ndarray] = field(repr=False)
    biases: list[np.ndarray] = field(repr=False)

    @classmethod
    def draw(cls, rng: np.random.Generator, dims: int, pixels: int, slope: float) -> RandomNetwork:
        """Draw a network from `dims` latents to `pixels` pixels, at least as many as it has units."""
        units = max(5, 2 * dims)
        weights, biases = [], []
        for inputs in (dims, units, units, units):
            # The orthogonal factor with the signs of R taken out is uniform over all such matrices.
            q, r = np.linalg.qr(rng.standard_normal((units, inputs)))
            weights.append((q * np.sign(np.diag(r))).T)
            biases.append(rng.uniform(-1.0, 1.0, units) / np.sqrt(inputs))
        weights.append(rng.uniform(-1.0, 1.0, (units, pixels)) / np.sqrt(units))
        return cls(slope, weights, biases)

    def render(self, position: np.ndarray, out: np.ndarray) -> None:
        """Write the pixels (frames, pixels) of the positions (frames, dims) into out."""
        for start in range(0, len(position), _CHUNK):
            x = position[start : start + _CHUNK]
            for weight, bias in zip(self.weights, self.biases, strict=False):
                x = x @ weight + bias
                x = np.maximum(x, self.slope * x)
            out[start : start + _CHUNK] = x.astype(np.float32) @ self.weights[-1].astype(np.float32)

    def visible(self, position: np.ndarray) -> np.ndarray:
        """All True: the network is injective everywhere."""
        return np.ones(position.shape[:-1], dtype=bool)
