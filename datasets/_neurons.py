"""Neurons whose firing rates depend on the latents."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kalmanssl.datasets._motions import Motion

__all__ = ["Neurons"]

_BIN = 0.025  # seconds of a frame
_MEAN_RATE, _RATE_SD = 5.0, 0.6  # Hz, and standard deviation of the logarithm of mean rates
_LARGEST_RATE = 100.0  # Hz, at which rates saturate
_FIELD_WIDTH, _BASELINE = 0.8, 0.1  # of receptive fields: in standard deviations of the latents; of their peak
_FRAMES, _VIDEOS = 50, 200  # from which the distribution of the latents is taken


@dataclass(frozen=True)
class Neurons:
    """Expected spike counts of neurons in bins of 25 ms.

    The log rate of even neurons is a linear function of the standardized latents, with a weight vector of length one in
    a random direction. Odd neurons have a Gaussian receptive field around a random latent of the system, 0.8 standard
    deviations wide, over a baseline of a tenth of its peak. Mean rates are log-normal around 5 Hz; rates saturate at
    100 Hz.

    Attributes
    ----------
    center, scale : (dims,)
        Mean and standard deviation of the latents.
    direction : (linear neurons, dims)
        Weights of the log rates.
    field_center : (field neurons, dims)
        Centers of receptive fields, in standardized latents.
    gain : (neurons,)
        Factors of the rates, first of the linear neurons.
    """

    center: np.ndarray = field(repr=False)
    scale: np.ndarray = field(repr=False)
    direction: np.ndarray = field(repr=False)
    field_center: np.ndarray = field(repr=False)
    gain: np.ndarray = field(repr=False)

    @classmethod
    def draw(cls, seed: np.random.SeedSequence, motion: Motion, neurons: int) -> Neurons:
        """Draw neurons for the latents of a motion."""
        path, chosen = seed.spawn(2)
        rng = np.random.default_rng(chosen)
        latents = motion.draw(path, _VIDEOS, _FRAMES, published=False).position.reshape(-1, motion.dims)
        center, scale = latents.mean(axis=0), latents.std(axis=0)
        linear = (neurons + 1) // 2
        direction = rng.standard_normal((linear, motion.dims))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        picked = rng.choice(len(latents), neurons - linear)
        fields = (latents[picked] - center) / scale
        tuned = cls(center, scale, direction, fields, np.ones(neurons))
        gain = _MEAN_RATE * np.exp(_RATE_SD * rng.standard_normal(neurons)) / tuned._unscaled(latents).mean(axis=0)
        return cls(center, scale, direction, fields, gain)

    def _unscaled(self, position: np.ndarray) -> np.ndarray:
        standard = (position - self.center) / self.scale
        squared = ((standard[:, None] - self.field_center) ** 2).sum(axis=-1)
        fields = _BASELINE + np.exp(-0.5 * squared / _FIELD_WIDTH**2)
        return np.concatenate([np.exp(standard @ self.direction.T), fields], axis=1)

    def render(self, position: np.ndarray, out: np.ndarray) -> None:
        """Write the expected counts (frames, neurons) of the positions (frames, dims) into out."""
        chunk = 4096  # frames at a time, to bound the memory
        for start in range(0, len(position), chunk):
            rate = self.gain * self._unscaled(position[start : start + chunk])
            out[start : start + chunk] = _BIN * rate / (1.0 + rate / _LARGEST_RATE)

    def visible(self, position: np.ndarray) -> np.ndarray:
        """All True: the rates of enough neurons are different at any two positions."""
        return np.ones(position.shape[:-1], dtype=bool)
